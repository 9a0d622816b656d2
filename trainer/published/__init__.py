"""What the authors of DyWeight published, read as data: one entry of coefficients from each of their files."""

import json
from pathlib import Path
from typing import Any

from dyweight.names import did_you_mean

from ..run.errors import TrainerError
from . import flux, training
from .archive import SIGNATURE

MAXIMUM_BYTES = 1 << 20
"""Of a file; theirs have 17 thousand bytes at most, the reference 45 thousand."""


def read_entry(source: str) -> dict[str, Any]:
    """The entry of FILE, or of FILE.json:SET, in the layout of the reference; what FILE is, its content tells.

    Nothing in FILE is imported or run. Raises TrainerError, which names the file, for whatever is wrong with it.
    """
    path, name = _split(source)
    content = _content(path)
    try:
        if content.startswith(SIGNATURE):
            return flux.entry(content, _published_name(path))
        if content.lstrip()[:1] in (b"{", b"["):
            return _set(content, name)
        return training.entry(content, _published_name(path))  # the last, for a pickle may begin with any byte
    except Exception as error:  # a damaged file may fail anywhere in the readers of zip, JSON, pickle and tensors
        known = type(error) is ValueError
        said = str(error) if known else f"damaged, or no file of the authors ({type(error).__name__}: {error})"
        raise TrainerError(f"{path}: {said}"[:2000]) from error


def _split(source: str) -> tuple[Path, str]:
    """(path, name of a set or ""); a path may have colons of its own."""
    file, _, name = source.rpartition(":")
    return (Path(file), name) if file and not Path(source).exists() else (Path(source), "")


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAXIMUM_BYTES + 1)
    except (OSError, ValueError) as error:
        raise TrainerError(f"{path}: can't be read ({error}); give FILE.pt, FILE.pkl or FILE.json:SET") from error
    if len(content) > MAXIMUM_BYTES:
        raise TrainerError(f"{path}: has more than {MAXIMUM_BYTES} bytes, so it is no file of coefficients")
    return content


def _published_name(path: Path) -> str:
    """The place in the authors' repository, where the path shows it: a training run by its folder, else the file."""
    parts = path.absolute().parts
    if parts[-3:-2] == ("exps",):
        return "/".join(parts[-3:-1])
    return "/".join(parts[-3:]) if parts[-3:-1] == ("dyweight_flux", "checkpoints") else path.name


def _set(content: bytes, name: str) -> dict[str, Any]:
    sets = {entry["source"]: entry for entry in json.loads(content)["sets"]}
    if name not in sets:
        near = did_you_mean(name, sets)
        raise ValueError(f"no set {name!r}: {near}give FILE.json:SET; it has {', '.join(sets)}")
    return dict(sets[name])
