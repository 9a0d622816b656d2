"""Peak memory: that of the device where the latents lie."""

from pathlib import Path

import pytest
import torch

from trainer.run.memory import peak_bytes, reset_peak

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]
HOLD = 1 << 28


def can_reset(device: str) -> bool:
    try:
        return device == "cuda" or Path("/proc/self/clear_refs").write_text("5") > 0
    except OSError:
        return False


@pytest.mark.parametrize("device", DEVICES)
def test_a_tensor_that_came_and_went_shows_in_the_peak(device: str) -> None:
    if not can_reset(device):
        pytest.skip("this system cannot forget an earlier peak")
    where = torch.device(device)
    reset_peak(where)
    before = peak_bytes(where)
    held = torch.ones(HOLD, dtype=torch.uint8, device=where)
    del held
    after = peak_bytes(where)
    assert before is not None and after is not None
    assert 0.9 * HOLD < after - before < 2 * HOLD
    reset_peak(where)
    again = peak_bytes(where)
    assert again is not None and again < after - 0.5 * HOLD


def test_without_a_proc_file_system_it_is_still_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> str:
        raise FileNotFoundError

    pytest.importorskip("resource")
    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(Path, "write_text", missing)
    reset_peak(torch.device("cpu"))
    peak = peak_bytes(torch.device("cpu"))
    assert isinstance(peak, int) and peak > 1 << 24
