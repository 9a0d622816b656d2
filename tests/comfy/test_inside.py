"""The tests of `inside/`, each run in a process of its own whose `nodes`, `comfy` and so on are ComfyUI's."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.comfy.checkouts import MISSING, checkouts, environment, version

INSIDE = Path(__file__).parent / "inside"
FILES = sorted(INSIDE.glob("test_*.py"))


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
@pytest.mark.parametrize("checkout", checkouts() or [None], ids=lambda path: version(path) if path else "none")
def test_inside_comfyui(checkout, file, tmp_path):
    if checkout is None:
        pytest.skip(MISSING)
    command = [sys.executable, "-m", "pytest", str(file), "--rootdir", str(INSIDE), "-c", str(INSIDE / "pytest.ini")]
    options = ["-q", "-rs", "-p", "no:cacheprovider", "--comfyui", str(checkout), "--basetemp", str(tmp_path / "inside")]
    done = subprocess.run([*command, *options], cwd=checkout, env=environment(), capture_output=True, text=True, timeout=900)
    print(done.stdout[-6000:], done.stderr[-3000:], sep="\n")
    assert done.returncode == 0, f"{file.name} failed in ComfyUI {version(checkout)}; its output is above"
