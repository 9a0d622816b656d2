"""The study of photographs: its quick run keeps its own laws, and its training continues where it stopped."""

import io
import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.harness.study import Figures
from benchmarks.studies import photographs
from dyweight import baselines
from tools.models import train_photographs
from tools.models.cifar10 import pictures
from trainer.checkpoints.builtin.photographs import checkpoint


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    assert photographs.STUDY.main(["--quick", "--out", str(folder)]) == 0
    return folder


@pytest.mark.slow
def test_the_quick_study_has_a_row_for_every_sampler(quick):
    parts = Figures.read(quick / "photographs.json").numbers
    assert list(parts) == [f"photographs: {method}" for method in photographs.QUICK_METHODS]
    solvers = {name.partition(":")[0] for name in parts["photographs: handcrafted"]["rows"]}
    # Two calls a step make no three.
    assert solvers == set(baselines.NAMES) - {"heun", "dpm_solver_2"}
    for part in parts.values():
        for by_calls in part["rows"].values():
            for [found] in by_calls.values():
                assert 0 <= found["error"] < math.inf and 0 < found["distance"] < math.inf
    (teacher,) = parts["photographs: teacher"]["rows"].values()
    assert teacher["100"][0]["error"] == 0
    assert parts["photographs: handcrafted"]["rows"]["euler"] == parts["photographs: handcrafted"]["rows"]["ipndm:1"]


@pytest.mark.slow
def test_the_teacher_is_nearer_to_photographs_than_three_steps_of_euler(quick):
    parts = json.loads((quick / "photographs.json").read_text("utf-8"))["numbers"]
    (teacher,) = parts["photographs: teacher"]["rows"].values()
    euler = parts["photographs: handcrafted"]["rows"]["euler"]["3"][0]
    assert teacher["100"][0]["distance"] < euler["distance"]


@pytest.mark.slow
def test_the_quick_study_draws_its_figure(quick):
    assert (quick / "study-photographs.png").stat().st_size > 10_000


def found(error: float | None, distance: float | None) -> dict[str, float | None]:
    return {"error": error, "distance": distance}


def test_the_tables_have_the_floor_in_every_column_and_say_what_diverged():
    numbers = {
        "photographs: teacher": {"samples": 9, "rows": {"teacher, ipndm:100": {"100": [found(0.0, 2.0)]}}},
        "photographs: handcrafted": {
            "samples": 9,
            "rows": {"euler": {"3": [found(0.5, 9.0)], "5": [found(0.25, 6.0)]}, "heun": {"3": [found(None, None)]}},
        },
        "photographs: indis": {"samples": 9, "rows": {"indis": {"5": [found(0.1, 3.0), found(0.3, 5.0)]}}},
    }
    distances = photographs.tables(numbers)["photographs, Fréchet distance"].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in distances if "---" not in line]
    assert cells == [
        ["sampler", "3 calls", "5 calls"],
        ["teacher, ipndm:100", "2", "2"],
        ["euler", "9", "6"],
        ["heun", "none", ""],
        ["indis", "", "4 (3 to 5)"],
    ]
    assert "0.2 (0.1 to 0.3)" in photographs.tables(numbers)["photographs, endpoint error"]
    alone = photographs.tables({part: found for part, found in numbers.items() if part.endswith("teacher")})
    assert "100 calls" in alone["photographs, Fréchet distance"]


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """Files like CIFAR-10's: 40 plain pictures, each of one colour."""
    for split in ("train", "test"):
        files = []
        for i in range(40):
            Image.new("RGB", (32, 32), (6 * i, 128, 255 - 6 * i)).save(file := io.BytesIO(), "JPEG", quality=95)
            files.append(file.getvalue())
        ends = torch.tensor([0, *map(len, files)]).cumsum(0)
        data = {
            "jpeg": torch.frombuffer(bytearray(b"".join(files)), dtype=torch.uint8),
            "offsets": ends,
            "labels": (torch.arange(40) % 10).to(torch.uint8),
        }
        save_file(data, tmp_path / f"cifar10-{split}.safetensors")
    return tmp_path


def test_pictures_are_unpacked_in_order_and_made_smaller(packed):
    images, labels = pictures(packed, "train", 16)
    assert images.shape == (40, 3, 16, 16) and images.dtype == torch.uint8
    assert labels.tolist() == [i % 10 for i in range(40)]
    colours = torch.tensor([[6 * i, 128, 255 - 6 * i] for i in range(40)]).float()
    assert float((images.float().mean((2, 3)) - colours).abs().max()) < 4


@pytest.mark.parametrize("pixels", [16, 32])
def test_a_training_that_was_stopped_goes_on_and_makes_a_checkpoint(packed, pixels):
    given = ["--data", str(packed), "--folder", str(packed / "out"), "--widths", "8", "64", "--batch", "8"]
    given += ["--pixels", str(pixels), "--device", "cpu"]
    weights, batches = packed / "out" / "photographs.safetensors", []
    for minutes in ("0.005", "0.01"):
        train_photographs.main([*given, "--minutes", minutes])
        with safe_open(weights, "pt") as file:
            batches.append(json.loads(file.metadata()["model"])["batches"])
    assert 0 < batches[0] < batches[1]
    model = checkpoint(weights)
    noise, cond = model.draw(torch.Generator().manual_seed(0), 2)
    assert noise.shape == (2, 3, pixels, pixels)
    assert bool(model.conditional(noise, torch.full((2,), 80.0), cond).isfinite().all())
