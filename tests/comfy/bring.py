"""`python -m tests.comfy.bring`: a ComfyUI for the tests of the nodes, and the packages that it requires.

The first of `checkouts()`, or else a shallow clone of one version, whose place they know too.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.comfy.checkouts import CLONE, MISSING, ROOT, checkouts, version

SOURCE = os.environ.get("COMFYUI_SOURCE", "https://github.com/comfyanonymous/ComfyUI")
VERSION = "v0.33.0"
SECONDS = 300
NOT_NEEDED = re.compile(r"(torch|torchvision|torchaudio|spandrel|comfyui-workflow-templates)\b")
"""What the tests do not use, and what would replace torch's build. spandrel asks for torchvision, which ComfyUI itself
needs for no model that is tested."""


def clone(folder: Path, source: str = SOURCE, tag: str = VERSION, seconds: float = SECONDS) -> str:
    """Clone one version into a folder, whole or not at all; the answer is why it could not be done, or nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    command = ["git", "-c", "advice.detachedHead=false", "clone", "--quiet", "--depth", "1", "--branch", tag]
    command, silent = [*command, source, str(part)], {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(command, env=silent, capture_output=True, text=True, timeout=seconds)
        why = "" if done.returncode == 0 else done.stderr.strip()
    except subprocess.TimeoutExpired:
        why = f"cloning {source} took longer than {seconds:g} s"
    except OSError as error:
        why = f"git: {error.strerror}"
    if not why:
        part.rename(folder)
    shutil.rmtree(part, ignore_errors=True)
    return why


def install(checkout: Path) -> None:
    """Install what a checkout requires beside the packages of the tests; nothing where that was done before."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    lines = (checkout / "requirements.txt").read_text("utf-8").splitlines(keepends=True)
    required = "".join(line for line in lines if not NOT_NEEDED.match(line))
    listed = Path(sys.prefix) / "comfyui-requirements.txt"
    if listed.is_file() and listed.read_text("utf-8") == required:
        return
    part = listed.with_suffix(".part")
    part.write_text(required, "utf-8")
    subprocess.run([*pip, "--constraint", "requirements-dev.txt", "--requirement", part], cwd=ROOT, check=True)
    subprocess.run([*pip, "--no-deps", "spandrel"], check=True)
    part.replace(listed)


def main() -> None:
    if not checkouts() and not os.environ.get("COMFYUI_PATH"):
        print(f"No ComfyUI found: cloning {VERSION} of {SOURCE}", flush=True)
        if why := clone(CLONE):
            print(why)
    if not checkouts():
        print(MISSING)
        return
    checkout = checkouts()[0]
    print(f"ComfyUI {version(checkout)} for the tests of the nodes: {checkout}", flush=True)
    install(checkout)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
