"""The text encoders and the VAE of a family, found by the beginnings of the official file names."""

from collections.abc import Sequence
from pathlib import Path

from ...run.errors import CheckpointError
from .families import MODEL_FILE, Family
from .installation import all_files

ENCODER_FOLDERS, VAE_FOLDERS = ("text_encoders",), ("vae",)
_SHOWN = 12


def default_encoders(family: Family, name: str, model: Path) -> list[Path]:
    """Text encoder files of a family, whose name and model file are given. CheckpointError names what is missing."""
    if not family.encoders:
        raise CheckpointError(f"the text encoders of the family {name} are not known: give --clip and --clip-type")
    return [
        model if beginnings == MODEL_FILE else _first(beginnings, ENCODER_FOLDERS, f"text encoder of {name}", "--clip")
        for beginnings in family.encoders
    ]


def default_vae(family: Family, name: str) -> Path | None:
    """The VAE file of a family, None where there is none; then there are no pictures."""
    try:
        return _first(family.vae, VAE_FOLDERS, f"VAE of {name}", "--vae")
    except CheckpointError:
        return None


def _first(beginnings: Sequence[str], folders: Sequence[str], what: str, option: str) -> Path:
    known = [(listed.replace("\\", "/").rpartition("/")[2].lower(), path) for listed, path in all_files(folders)]
    for beginning in beginnings:
        for name, path in sorted(known):
            if name.startswith(beginning):
                return path
    have = ", ".join(name for name, _ in sorted(known)[:_SHOWN]) or "nothing"
    raise CheckpointError(
        f"no {what} ({' or '.join(beginnings)}...) in ComfyUI's {' or '.join(folders)}, which has {have}; "
        f"put it there or name it with {option}"
    )
