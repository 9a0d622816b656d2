"""What the authors of DyWeight published, read as data: one entry of coefficients from each of their files."""

import json
from pathlib import Path
from typing import Any

from dyweight.suggest import did_you_mean

from ..run.errors import TrainerError
from .files import flux_entry, training_entry

MAXIMUM_BYTES = 1 << 20
"""Of a file; theirs have 17 thousand bytes at most, the reference 45 thousand."""


def read_entry(source: str) -> dict[str, Any]:
    """The entry of FILE, or of FILE.json:SET, in the layout of the reference; what FILE is, its content tells.

    Nothing in FILE is imported or run. Raises TrainerError, which names the file, for whatever is wrong with it.
    """
    file, _, name = source.rpartition(":")
    path, name = (Path(file), name) if file and not Path(source).exists() else (Path(source), "")
    try:
        with path.open("rb") as stream:
            content = stream.read(MAXIMUM_BYTES + 1)
    except (OSError, ValueError) as error:
        raise TrainerError(f"{path}: can't be read ({error}); give FILE.pt, FILE.pkl or FILE.json:SET") from error
    try:
        return _entry(content, path, name)
    except Exception as error:  # a damaged file may fail anywhere in the readers of zip, JSON, pickle and tensors
        known = type(error) is ValueError
        said = str(error) if known else f"damaged, or no file of the authors ({type(error).__name__}: {error})"
        raise TrainerError(f"{path}: {said}"[:2000]) from error


def _entry(content: bytes, path: Path, name: str) -> dict[str, Any]:
    if len(content) > MAXIMUM_BYTES:
        raise ValueError(f"has more than {MAXIMUM_BYTES} bytes, so it is no file of coefficients")
    if content.lstrip()[:1] in (b"{", b"["):
        sets = {entry["source"]: entry for entry in json.loads(content)["sets"]}
        if name not in sets:
            raise ValueError(f"no set {name!r}: {did_you_mean(name, sets)}give FILE.json:SET; it has {', '.join(sets)}")
        return dict(sets[name])
    # A training run is told by its folder, a file for FLUX by its place in the authors' repository.
    parts, published = path.absolute().parts, path.name
    if parts[-3:-2] == ("exps",):
        published = "/".join(parts[-3:-1])
    elif parts[-3:-1] == ("dyweight_flux", "checkpoints"):
        published = "/".join(parts[-3:])
    return (flux_entry if content.startswith(b"PK\x03\x04") else training_entry)(content, published)
