"""The tests of `inside/`, in a process of their own whose `nodes`, `comfy` and so on are ComfyUI's."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.comfy.checkouts import MISSING, checkouts, environment, version

INSIDE = Path(__file__).parent / "inside"


@pytest.mark.parametrize("checkout", checkouts() or [None], ids=lambda path: version(path) if path else "none")
def test_inside_comfyui(checkout, tmp_path):
    run(checkout, tmp_path, "not slow")


@pytest.mark.slow
@pytest.mark.parametrize("checkout", checkouts() or [None], ids=lambda path: version(path) if path else "none")
def test_what_is_slow_inside_comfyui(checkout, tmp_path):
    run(checkout, tmp_path, "slow")


def run(checkout, folder, marked, file="", *options):
    """The tests of a mark in a ComfyUI, all or those of a file."""
    if checkout is None:
        pytest.skip(MISSING)
    configured = ["--rootdir", str(INSIDE), "-c", str(INSIDE / "pytest.ini"), "--comfyui", str(checkout)]
    quiet = ["-q", "-rfs", "-p", "no:cacheprovider", "--basetemp", str(folder / "inside"), "-m", marked]
    command = [sys.executable, "-m", "pytest", str(INSIDE / file), *configured, *quiet, *options]
    try:
        done = subprocess.run(command, cwd=checkout, env=environment(), capture_output=True, text=True, timeout=3600)
    except subprocess.TimeoutExpired as late:
        print(late.stdout, late.stderr, sep="\n")
        raise
    print(done.stdout[-20000:], done.stderr[-3000:], sep="\n")
    assert done.returncode == 0, f"tests failed inside ComfyUI {version(checkout)}; their output is above"
