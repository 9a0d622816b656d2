"""The coefficient files that ComfyUI sees: those in models/dyweight and the presets that come with the pack."""

import functools
import hashlib
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import folder_paths

from ..dyweight import SolverFile, SolverFileError
from ..dyweight.suggest import did_you_mean
from . import messages, notes
from .summary import cfg_of

FOLDER = "dyweight"
PRESETS = Path(__file__).parents[1] / "dyweight" / "presets"
PRESET_PREFIX = "preset: "
_SUFFIX = ".safetensors"
_OF_ONE = re.compile(rf"(?P<preset>{PRESET_PREFIX}.+)-(?P<steps>[1-9][0-9]{{0,3}})-steps")


def register_folder() -> None:
    """Register models/dyweight in addition to the folders in extra_model_paths.yaml; safe to call again."""
    own = os.path.join(folder_paths.models_dir, FOLDER)
    folder_paths.add_model_folder_path(FOLDER, own)
    folders = folder_paths.folder_names_and_paths[FOLDER][0]
    folder_paths.folder_names_and_paths[FOLDER] = (folders, {_SUFFIX})
    try:
        os.makedirs(own, exist_ok=True)
    except OSError as error:
        notes.warn(messages.NO_FOLDER, folder=own, reason=error.strerror)


def names() -> list[str]:
    """What the loader offers: the user's files, the newest first, then the presets."""
    return [*sorted(user_names(), key=_age), *preset_names()]


def settings() -> dict[str, dict[str, Any]]:
    """For the page, of each file in the list that can be read: the settings of KSampler that it was made with."""
    return {name: {"steps": file.solvers.steps, "cfg": cfg_of(file.member())} for name, file in _readable(names())}


def user_names() -> list[str]:
    """Files under the folders for coefficient files, subfolders included."""
    try:
        return list(folder_paths.get_filename_list(FOLDER))
    except OSError as error:  # ComfyUI's list fails for a folder that is gone
        notes.warn(messages.UNREADABLE_FOLDER, folder=error.filename, reason=error.strerror)
        return []


def user_files() -> list[SolverFile]:
    """Those of `user_names` that can be read."""
    return [file for _, file in _readable(user_names())]


def preset_names() -> list[str]:
    """The presets, with a prefix that no file name has."""
    return [PRESET_PREFIX + path.stem for path in sorted(PRESETS.glob(f"*{_SUFFIX}"))]


def path_of(name: str) -> str:
    """The path of the file of this name. Raises SolverFileError for a name that is not in the list."""
    listed, _ = _in_list(name)
    if listed in preset_names():
        return str(PRESETS / (listed.removeprefix(PRESET_PREFIX) + _SUFFIX))
    known = user_names()
    own = name if name in known else next((one for one in known if _separated(one) == _separated(name)), None)
    path = None if own is None else folder_paths.get_full_path(FOLDER, own)
    if path is None:
        raise SolverFileError(
            f"there is no coefficient file {name!r}: {did_you_mean(name, names())}put it into "
            f"{folder_paths.get_folder_paths(FOLDER)[0]}, refresh ComfyUI (R) and choose it from the list"
        )
    return str(path)


def loaded(name: str) -> SolverFile:
    """`load` where a node runs. Raises ValueError, whose sentence is shown on the page."""
    try:
        return load(name)
    except SolverFileError as error:
        raise notes.refusal(messages.UNUSABLE_FILE, reason=error) from None


def load(name: str) -> SolverFile:
    """The file of a name in the list; one that changed is read again. Raises SolverFileError."""
    path = path_of(name)
    try:
        stamp = os.stat(path)
    except OSError as error:
        raise SolverFileError(f"{path}: it can't be read ({error.strerror}); refresh ComfyUI (R)") from error
    file, (_, steps) = _load(path, stamp.st_mtime_ns, stamp.st_size), _in_list(name)
    try:
        return file.member(steps) if steps else file
    except ValueError as error:
        raise SolverFileError(f"there is no coefficient file {name!r}: {error}") from error


def _in_list(name: str) -> tuple[str, int]:
    """(name in the list, steps) of a preset of one number of steps, as workflows from before there were sets have it:
    `preset: NAME-5-steps` is the solver for 5 steps of `preset: NAME`. Any other name as it is, and 0."""
    of_one = _OF_ONE.fullmatch(name)
    return (of_one["preset"], int(of_one["steps"])) if of_one and of_one["preset"] in preset_names() else (name, 0)


def _separated(name: str) -> str:
    """A name in a subfolder is the same in a workflow from Windows and in one from elsewhere."""
    return name.replace("\\", "/")


@functools.lru_cache(maxsize=64)
def _load(path: str, modified: int, size: int) -> SolverFile:
    return SolverFile.read(path)


def content_digest(name: str) -> str:
    """Changes when the file's bytes do; never raises, so that the error appears when the node runs."""
    try:
        with open(path_of(name), "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except (SolverFileError, OSError) as error:
        return f"unreadable: {error}"


def matching(fits: Callable[[SolverFile], bool]) -> tuple[str | None, list[str]]:
    """(the one name that fits or None, all names that fit), among the user's files or else among the presets.

    Of several copies of one file only the first counts.
    """
    for listed in (user_names(), preset_names()):
        by_content: dict[str, str] = {}
        for name, file in _readable(listed):
            if fits(file):
                by_content.setdefault(content_digest(name), name)
        if found := list(by_content.values()):
            return (found[0] if len(found) == 1 else None), found
    return None, []


def _age(name: str) -> float:
    """The newer the file, the smaller; a file that is gone is the oldest."""
    try:
        return -os.stat(path_of(name)).st_mtime
    except (OSError, SolverFileError):
        return math.inf


def _readable(listed: list[str]) -> Iterator[tuple[str, SolverFile]]:
    for name in listed:
        try:
            yield name, load(name)
        except SolverFileError as error:
            notes.warn(messages.UNREADABLE_FILE, reason=error)
