"""What the command lines share."""

from pathlib import Path

import pytest

from trainer.run.command import writable_folder
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
