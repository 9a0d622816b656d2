"""Where the ComfyUI checkouts are that the nodes are tested in."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
STANDINS = ROOT / "tools" / "standins"
MISSING = (
    "NO COMFYUI: the nodes are NOT tested. Run `make comfyui`, which clones one, or check ComfyUI out to "
    "~/comfy/ComfyUI (where comfy-cli puts it) or set COMFYUI_PATH, several folders separated as in PATH"
)
CLONE = ROOT / ".venv" / "ComfyUI"
"""Where `make comfyui` puts one if there is no other."""


def checkouts() -> list[Path]:
    """Folders with a ComfyUI: those of COMFYUI_PATH, else all ~/comfy/ComfyUI*, else the clone of `make comfyui`."""
    named = os.environ.get("COMFYUI_PATH")
    folders = [Path(path).expanduser() for path in named.split(os.pathsep)] if named else []
    if not named:
        folders = sorted((Path.home() / "comfy").glob("ComfyUI*"))
    found = [folder for folder in folders if (folder / "comfyui_version.py").is_file()]
    return found or ([CLONE] if not named and (CLONE / "comfyui_version.py").is_file() else [])


def version(checkout: Path) -> str:
    """Its version, such as 0.33.0."""
    found = re.search(r'__version__ = "([^"]+)"', (checkout / "comfyui_version.py").read_text("utf-8"))
    return found.group(1) if found else "unknown"


def environment() -> dict[str, str]:
    """The environment for a process that imports ComfyUI: stand-ins for packages that are not installed."""
    paths = [str(STANDINS), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    paths = [path for path in paths if Path(path or ".").resolve() != ROOT]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
