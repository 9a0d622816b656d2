"""The guide's table for image to image with KSampler gives the number of steps that the file is for."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "comfyui.md").read_text("utf-8")
ROWS = {int(steps): cells for steps, cells in re.findall(r"^\| (\d+) steps \| (.* at .*) \|$", PAGE, re.MULTILINE)}


def asked(steps: int, denoise: float) -> int:
    """As comfy.samplers.KSampler.set_steps has it."""
    return int(steps / denoise)


def test_every_number_of_steps_of_a_preset_has_a_row() -> None:
    assert set(ROWS) == {3, 4, 5, 6, 7, 8, 10}


@pytest.mark.parametrize("number", ROWS)
def test_each_cell_asks_for_the_steps_of_the_file_and_one_hundredth_more_for_fewer(number: int) -> None:
    cells = [(int(steps), float(denoise)) for steps, denoise in re.findall(r"(\d+) at ([\d.]+)", ROWS[number])]
    assert [steps for steps, _ in cells] == list(range(number - 1, 0, -1))
    for steps, denoise in cells:
        assert asked(steps, denoise) == number and asked(steps, denoise + 0.01) < number
