"""Writing coefficient files into models/dyweight, where none is ever overwritten."""

import contextlib
from pathlib import Path

import folder_paths

from ..dyweight import SolverFile, SolverFileError
from .solver_library import FOLDER

LONGEST = 200
"""Bytes of a file's name: file systems take 255, and a number or a word comes behind it."""


def write_new(file: SolverFile, name: str) -> SolverFile:
    """The file in the first models/dyweight that can be written to, with a number behind its name where another one has
    it; the same is written once.

    Raises SolverFileError for a name that is none of a file in that folder, OSError where none can be written to.
    """
    *others, last = (Path(folder) for folder in folder_paths.get_folder_paths(FOLDER))
    for folder in others:
        with contextlib.suppress(OSError):
            return _write(file, name, folder)
    return _write(file, name, last)


def _write(file: SolverFile, name: str, folder: Path) -> SolverFile:
    first = _path(name, folder)
    for number in range(1, 10_000):
        path = first if number == 1 else first.with_name(f"{first.stem}-{number}.safetensors")
        if not path.exists():
            return file.write(path)
        if _same(file, path):
            return SolverFile.read(path)
    raise SolverFileError(f"name is {name!r}: there are 9,999 of it, give another")


def check_name(name: str) -> None:
    """Raises SolverFileError as `write_new` would, and where a name has no room for what is written behind it."""
    path = _path(name, Path(folder_paths.get_folder_paths(FOLDER)[0]))
    if len(path.name.encode()) > LONGEST:
        raise SolverFileError(f"name is {name!r}: give a shorter one, of {LONGEST} bytes at most with .safetensors")


def _path(name: str, folder: Path) -> Path:
    stem = name.strip().removesuffix(".safetensors")
    path = folder / f"{stem}.safetensors"
    if not stem or not path.resolve().is_relative_to(folder.resolve()):
        raise SolverFileError(f"name is {name!r}: give one of a file inside {folder}")
    return path


def _same(file: SolverFile, path: Path) -> bool:
    try:
        found = SolverFile.read(path)
    except SolverFileError:
        return False
    return (found.content.settings(), found.provenance) == (file.content.settings(), file.provenance)
