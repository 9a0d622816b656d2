"""A ComfyUI is cloned where there is none: here from a repository on this machine."""

import subprocess
from pathlib import Path

import pytest

from tests.comfy import checkouts as places
from tests.comfy.bring import clone


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A git repository with two commits, the first of which is v1."""
    folder = tmp_path / "source"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder)]
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    for number in ("1", "2"):
        (folder / "comfyui_version.py").write_text(f'__version__ = "{number}"\n')
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "--quiet", "--message", number], check=True)
        subprocess.run([*git, "tag", f"v{number}"], check=True)
    return folder


def test_it_is_the_one_version_and_found_where_no_other_is(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(places, "CLONE", tmp_path / "clone")
    assert places.checkouts() == []
    assert clone(places.CLONE, source.as_uri(), "v1") == ""
    assert places.checkouts() == [places.CLONE] and places.version(places.CLONE) == "1"
    count = ["git", "-C", str(places.CLONE), "rev-list", "--count", "HEAD"]
    assert subprocess.run(count, capture_output=True, text=True).stdout.strip() == "1"
    (tmp_path / "comfy" / "ComfyUI").mkdir(parents=True)
    (tmp_path / "comfy" / "ComfyUI" / "comfyui_version.py").touch()
    assert places.checkouts() == [tmp_path / "comfy" / "ComfyUI"]


@pytest.mark.parametrize("tag", ["v1", "v3"])
def test_what_can_not_be_cloned_is_told_and_leaves_nothing(source: Path, tmp_path: Path, tag: str) -> None:
    address = source.as_uri() if tag == "v3" else (tmp_path / "nowhere").as_uri()
    assert ("v3" if tag == "v3" else "nowhere") in clone(tmp_path / "clone", address, tag)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_it_does_not_wait_for_ever(source: Path, tmp_path: Path) -> None:
    assert "took longer than 0 s" in clone(tmp_path / "clone", source.as_uri(), "v1", seconds=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]
