"""The checkpoint that `--ckpt` names: the frozen model for which a solver is distilled."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import cast

import torch
from torch import Tensor

from dyweight.suggest import did_you_mean

from ..options.checkpoint import CheckpointOptions
from ..options.parse import flag
from ..options.prompted import PromptedOptions
from ..run.errors import CheckpointError, NotFoundError
from .builtin import digits, gmm, photographs, shapes
from .comfy.named import named
from .comfy.options import ComfyOptions
from .protocol import Checkpoint, FullCheckpoint, describe

BUILT_IN: dict[str, Callable[..., Checkpoint]] = {
    "digits": digits.checkpoint,
    "shapes": shapes.checkpoint,
    "photographs": photographs.checkpoint,
    "gmm": gmm.checkpoint,
}


@dataclass(frozen=True)
class Kind:
    """Checkpoints with options of their own, named by a file, a folder or a plain name."""

    name: str
    """For errors."""
    options: type
    """Their options, one of the bases of `CheckpointOptions`."""
    takes: Callable[[str], bool]
    """Whether a `--ckpt` is one of them; the first kind that takes it loads it."""
    load: Callable[[str, CheckpointOptions, Path | None], object]
    """(name, options, folder for encoded prompts) -> the checkpoint."""


def _of_comfyui(name: str) -> bool:
    plain = bool(name) and ":" not in name and not did_you_mean(name, tuple(BUILT_IN))
    return name not in BUILT_IN and (Path(name).exists() or plain)


def _folder_of_diffusers(name: str, options: PromptedOptions, cache: Path | None) -> object:
    from .diffusers import DiffusersCheckpoint  # an extra, which other checkpoints do without

    return DiffusersCheckpoint(Path(name.removeprefix(DIFFUSERS)), options)


DIFFUSERS = "diffusers:"
KINDS = (
    Kind("diffusers", PromptedOptions, lambda name: name.startswith(DIFFUSERS), _folder_of_diffusers),
    Kind("ComfyUI", ComfyOptions, _of_comfyui, named),
)


def load_checkpoint(name: str, options: CheckpointOptions | None = None, cache: Path | None = None) -> FullCheckpoint:
    """Find and check a checkpoint.

    name: one of BUILT_IN, `gmm:DIMENSION`, `module:callable` or `path/file.py:callable`, where the callable takes no
    argument and returns a checkpoint; or what a kind of KINDS takes, which options describe.
    cache: folder for encoded prompts. Raises CheckpointError with what to do.
    """
    options = options or CheckpointOptions()
    before, _, after = name.rpartition(":")
    if name.endswith(".py"):
        raise CheckpointError(f"--ckpt {name}: name its callable too, as in {name}:checkpoint")
    kind = next((kind for kind in KINDS if kind.takes(name)), None)
    _refuse_options_of_others(name, kind, options)
    if kind is not None:
        try:
            return checked(kind.load(name, options, cache), name)
        except NotFoundError as error:
            raise CheckpointError(f"{_unknown(name)}. {error}") from error
    if name in BUILT_IN:
        return checked(BUILT_IN[name](), name)
    if before == "gmm":
        if not after.isdecimal() or int(after) < 1:
            raise CheckpointError(f"--ckpt {name}: give gmm:DIMENSION, a whole number of 1 or more")
        return checked(gmm.checkpoint(int(after)), name)
    if before and not after.isidentifier():
        raise CheckpointError(f"--ckpt {name}: there is no such file")
    if not before or (before.startswith(".") and not before.endswith(".py")):
        raise CheckpointError(_unknown(name))
    module = _from_file(Path(before)) if before.endswith(".py") else _from_name(before)
    return checked(_called(_callable(module, before, after), name), name)


def checked(made: object, name: str) -> FullCheckpoint:
    """The checkpoint after a check of each part. Raises CheckpointError if one is missing or wrong."""
    missing = [part for part in ("denoise", "shape", "schedule", "draw") if not hasattr(made, part)]
    if missing:
        found = type(made).__name__
        raise CheckpointError(f"--ckpt {name}: {found} has no {', '.join(missing)}; see docs/trainer.md")
    shape = cast(Checkpoint, made).shape
    if not isinstance(shape, Sequence) or not shape or not all(isinstance(n, int) and n > 0 for n in shape):
        raise CheckpointError(f"--ckpt {name}: shape must be one or more whole numbers above 0, got {shape!r}")
    checkpoint = FullCheckpoint(cast(Checkpoint, made), name)
    checkpoint.schedule(3)
    drawn = checkpoint.draw(torch.Generator().manual_seed(0), 2)
    if not isinstance(drawn, tuple) or len(drawn) != 2:
        raise CheckpointError(f"--ckpt {name}: draw(generator, 2) must be (noise, cond), got {describe(drawn)}")
    expected = (2, *checkpoint.shape)
    if not isinstance(drawn[0], Tensor) or tuple(drawn[0].shape) != expected:
        raise CheckpointError(f"--ckpt {name}: draw(generator, 2)[0] must be {expected}, got {describe(drawn[0])}")
    if not drawn[0].is_floating_point() or not bool(torch.isfinite(drawn[0]).all()):
        raise CheckpointError(f"--ckpt {name}: draw(generator, 2)[0] must be finite floating-point numbers")
    captions = checkpoint.captions(drawn[1])  # before a fit, not after it
    if captions is not None and (isinstance(captions, str) or [type(text) for text in captions] != [str, str]):
        raise CheckpointError(f"--ckpt {name}: captions(cond) must be a text for each of 2 samples, got {captions!r}")
    return checkpoint


def _refuse_options_of_others(name: str, kind: Kind | None, options: CheckpointOptions) -> None:
    own = () if kind is None else [field.name for field in fields(kind.options)]
    for field in fields(CheckpointOptions):
        if field.name not in own and getattr(options, field.name) != field.default:
            kinds = " or ".join(kind.name for kind in KINDS if field in fields(kind.options))
            raise CheckpointError(
                f"{flag(field.name)} is for checkpoints of {kinds}, and --ckpt {name} is not one: leave it out"
            )


def _unknown(name: str) -> str:
    return (
        f"--ckpt {name}: no such checkpoint. {did_you_mean(name, tuple(BUILT_IN)).capitalize()}"
        f"The built-in ones are {', '.join(BUILT_IN)} (or gmm:DIMENSION); "
        "for your own give module:callable or path/file.py:callable"
    )


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise CheckpointError(f"--ckpt: there is no file {path}")
    name = f"dyweight_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return module


def _from_name(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise CheckpointError(f"--ckpt: there is no module {name!r}; for a file give path/file.py:callable") from error


def _callable(module: ModuleType, where: str, name: str) -> Callable[[], object]:
    found: Callable[[], object] | None = getattr(module, name, None)
    if not callable(found):
        hint = did_you_mean(name, [n for n in vars(module) if callable(getattr(module, n))])
        raise CheckpointError(f"--ckpt: {where} has no callable {name!r}{'; ' + hint.strip() if hint else ''}")
    return found


def _called(make: Callable[[], object], name: str) -> object:
    try:
        inspect.signature(make).bind()
    except TypeError as error:
        raise CheckpointError(f"--ckpt {name}: it must be callable without arguments ({error})") from error
    except ValueError:  # some built-in functions have no signature
        try:
            return make()
        except TypeError as error:
            raise CheckpointError(f"--ckpt {name}: it must be callable without arguments ({error})") from error
    return make()
