"""The tests of `inside/`, in a process of their own whose `nodes`, `comfy` and so on are ComfyUI's."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.comfy.checkouts import MISSING, checkouts, environment, version

INSIDE = Path(__file__).parent / "inside"


PARTS = 2
"""Processes for the tests of a ComfyUI, which two cores share."""
of_each_comfyui = pytest.mark.parametrize(
    "checkout", checkouts() or [None], ids=lambda path: version(path) if path else "none"
)


@pytest.mark.parametrize("part", range(PARTS))
@of_each_comfyui
def test_inside_comfyui(checkout, part, tmp_path):
    run(checkout, tmp_path, "not slow", dealt(part))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@of_each_comfyui
def test_what_is_slow_inside_comfyui(checkout, part, tmp_path):
    run(checkout, tmp_path, "slow", dealt(part))


def dealt(part):
    """Every second file, the longest first, so that the parts take about as long."""
    return sorted(INSIDE.glob("test_*.py"), key=lambda file: file.stat().st_size, reverse=True)[part::PARTS]


def run(checkout, folder, marked, files, *options):
    """The tests of a mark in those files, in a ComfyUI."""
    if checkout is None:
        pytest.skip(MISSING)
    configured = ["--rootdir", str(INSIDE), "-c", str(INSIDE / "pytest.ini"), "--comfyui", str(checkout)]
    quiet = ["-q", "-rfs", "-p", "no:cacheprovider", "--basetemp", str(folder / "inside"), "-m", marked]
    command = [sys.executable, "-m", "pytest", *map(str, files), *configured, *quiet, *options]
    try:
        done = subprocess.run(command, cwd=checkout, env=environment(), capture_output=True, text=True, timeout=3600)
    except subprocess.TimeoutExpired as late:
        print(late.stdout, late.stderr, sep="\n")
        raise
    print(done.stdout[-20000:], done.stderr[-3000:], sep="\n")
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    assert done.returncode == 0, "\n".join([f"tests failed inside ComfyUI {version(checkout)}:", *failed])
