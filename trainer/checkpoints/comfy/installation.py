"""Finding ComfyUI, importing it without its server, and finding its files."""

import importlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dyweight.suggest import did_you_mean

from ...run.errors import CheckpointError

FOLDERS = ("checkpoints", "diffusion_models")
"""Where `--ckpt NAME` looks; ComfyUI counts its old folder unet as diffusion_models."""
_LISTED = 12


class AmbiguousError(CheckpointError):
    """A name that several files have."""


def find_comfyui(named: Path | None) -> Path:
    """The ComfyUI folder: `--comfyui`, COMFYUI_PATH, the one this pack is installed in, or comfy-cli's default place.

    Raises CheckpointError that lists the places.
    """
    pack = Path(__file__).resolve().parents[3]
    places = [
        ("--comfyui", named),
        ("COMFYUI_PATH", _first(os.environ.get("COMFYUI_PATH"))),
        ("the custom_nodes folder of this pack", pack.parents[1] if pack.parent.name == "custom_nodes" else None),
        ("comfy-cli's default place", Path.home() / "comfy" / "ComfyUI"),
    ]
    for source, place in places:
        if place is not None and (place / "comfy" / "sd.py").is_file():
            return place.resolve()
        if place is not None and source in ("--comfyui", "COMFYUI_PATH"):
            raise CheckpointError(f"{source} is {place}, which is not ComfyUI (no comfy/sd.py); give its folder")
    tried = ", ".join(f"{source} ({place or 'not set'})" for source, place in places)
    raise CheckpointError(f"no ComfyUI found; give its folder with --comfyui. Tried: {tried}")


def start(comfyui: Path) -> None:
    """Make ComfyUI importable and set it up as its own start does, without its server; safe to call again.

    ComfyUI goes first on sys.path: this repository's folder `nodes` would hide ComfyUI's nodes.py.
    """
    if sys.path[0] != str(comfyui):
        sys.path.insert(0, str(comfyui))
    if "comfy.model_management" in sys.modules:
        return
    arguments = importlib.import_module("comfy.cli_args").args
    torch = importlib.import_module("torch")
    has_accelerator = torch.cuda.is_available() or torch.backends.mps.is_available()
    arguments.cpu = arguments.cpu or not (has_accelerator or (hasattr(torch, "xpu") and torch.xpu.is_available()))
    paths = comfyui / "extra_model_paths.yaml"
    if paths.is_file():
        importlib.import_module("utils.extra_config").load_extra_path_config(str(paths))


def find_model(name: str, option: str = "--ckpt") -> Path:
    """The model file of a name or path. Raises CheckpointError that lists the matches or the nearest names."""
    return find_file(name, FOLDERS, option)


def find_file(name: str, folders: Iterable[str], option: str) -> Path:
    """The one file of a name (with or without folder and extension) in ComfyUI's folders of these kinds."""
    if Path(name).is_file():
        return Path(name)
    known = all_files(folders)
    wanted = name.replace("\\", "/").lower()
    for same in (_relative, _file_name, _stem):
        found = [path for listed, path in known if same(listed) == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            raise AmbiguousError(f"{option} {name}: several files match: {', '.join(map(str, found))}; give one path")
    names = tuple(listed for listed, _ in known)
    nearest = did_you_mean(name, names) or did_you_mean(name, tuple(Path(listed).stem for listed in names))
    looked = f"there are {', '.join(names[:_LISTED]) or 'no files'}{' ...' if len(names) > _LISTED else ''}"
    raise CheckpointError(f"{option} {name}: no such file in ComfyUI's {' or '.join(folders)}: {nearest}{looked}")


def all_files(folders: Iterable[str]) -> list[tuple[str, Path]]:
    """(name as ComfyUI lists it, path) of each file, once."""
    folder_paths: Any = importlib.import_module("folder_paths")
    found: dict[Path, str] = {}
    for folder in folders:
        if folder in folder_paths.folder_names_and_paths:
            for listed in folder_paths.get_filename_list(folder):
                path = Path(folder_paths.get_full_path(folder, listed) or listed)
                found.setdefault(path, listed)
    return [(listed, path) for path, listed in found.items()]


def _relative(listed: str) -> str:
    return listed.replace("\\", "/").lower()


def _file_name(listed: str) -> str:
    return _relative(listed).rpartition("/")[2]


def _stem(listed: str) -> str:
    return _file_name(listed).rpartition(".")[0]


def _first(paths: str | None) -> Path | None:
    return Path(paths.split(os.pathsep)[0]).expanduser() if paths else None
