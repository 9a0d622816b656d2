"""What the command lines share."""

import io
import sys
from pathlib import Path

import pytest

from trainer.run.command import run, writable_folder
from trainer.run.errors import TrainerError


def test_a_folder_is_made_with_its_parents_or_refused(tmp_path: Path) -> None:
    assert (
        writable_folder("--out", tmp_path / "a" / "b").is_dir()
        and writable_folder("--out", tmp_path / "a" / "b").is_dir()
    )
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(TrainerError, match=r"--out.*file.*give another place"):
            writable_folder("--out", place)


def test_a_windows_code_page_does_not_end_a_run_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252", write_through=True))
    assert run(lambda: print("wrote \u65e5\u672c 3.safetensors")) == 0
    assert b"3.safetensors" in written.getvalue()
