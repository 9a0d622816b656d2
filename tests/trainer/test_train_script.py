"""train.py: the trainer for a Python that does not look into its working folder."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "train.py"


def isolated(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """As a `._pth` file makes Python: no working folder, no folder of the script, no PYTHONPATH."""
    command = [sys.executable, "-I", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "command",
    ["evaluate", *(pytest.param(other, marks=pytest.mark.slow) for other in ("distill", "convert", "inspect"))],
)
def test_every_command_starts_from_any_folder(command: str, tmp_path: Path) -> None:
    done = isolated(command, "--help", folder=tmp_path)
    assert done.returncode == 0 and f"usage: python -m trainer.{command}" in done.stdout, done.stderr


def test_it_distils(tmp_path: Path) -> None:
    few = ("--pairs", 8, "--iterations", 1, "--teacher", "euler:4", "--cache", tmp_path / "cache")
    done = isolated("distill", "--ckpt", "gmm:2", "--steps", 2, "--out", "a.safetensors", *few, folder=tmp_path)
    assert done.returncode == 0 and (tmp_path / "a.safetensors").is_file(), done.stderr


@pytest.mark.parametrize("arguments", [(), ("fit",)])
def test_what_is_no_command_is_told(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = isolated(*arguments, folder=tmp_path)
    assert done.returncode == 1 and "{distill,evaluate,convert,inspect}" in done.stderr
