"""What `--ckpt` names -> a checkpoint: the frozen model that a solver is distilled for."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import cast

import torch
from torch import Tensor

from dyweight.suggest import did_you_mean

from ..options.comfy import ComfyOptions
from ..run.errors import CheckpointError
from .builtin import digits, gmm, shapes
from .comfy.checkpoint import ComfyCheckpoint
from .comfy.installation import find_comfyui, find_model, start
from .protocol import Checkpoint

BUILT_IN = ("digits", "shapes", "gmm")


def load_checkpoint(name: str, options: ComfyOptions | None = None, cache: Path | None = None) -> Checkpoint:
    """Find and check a checkpoint.

    name: `digits`, `shapes`, `gmm`, `gmm:DIMENSION`, `module:callable` or `path/file.py:callable`, where the callable
    takes no argument and returns a checkpoint; or a ComfyUI checkpoint by name or path, which options describe.
    cache: folder for encoded prompts. Raises CheckpointError with what to do.
    """
    before, _, after = name.rpartition(":")
    if name == "digits":
        return checked(digits.checkpoint(), name)
    if name == "shapes":
        return checked(shapes.checkpoint(), name)
    if name == "gmm":
        return checked(gmm.checkpoint(), name)
    if before == "gmm":
        if not after.isdecimal() or int(after) < 1:
            raise CheckpointError(f"--ckpt {name}: give gmm:DIMENSION, a whole number of 1 or more")
        return checked(gmm.checkpoint(int(after)), name)
    if Path(name).is_file() or (name and not before and not did_you_mean(name, BUILT_IN)):
        return checked(_from_comfyui(name, options or ComfyOptions(), cache), name)
    if not before or (before.startswith(".") and not before.endswith(".py")):
        raise CheckpointError(_unknown(name))
    module = _from_file(Path(before)) if before.endswith(".py") else _from_name(before)
    return checked(_called(_callable(module, before, after), name), name)


def checked(made: object, name: str) -> Checkpoint:
    """The checkpoint, after one look at each of its parts; CheckpointError where one is missing or misshapen."""
    missing = [part for part in ("denoise", "shape", "schedule", "draw") if not hasattr(made, part)]
    if missing:
        found = type(made).__name__
        raise CheckpointError(f"--ckpt {name}: {found} has no {', '.join(missing)}; see 'Your own model' in the README")
    checkpoint = cast(Checkpoint, made)
    shape = checkpoint.shape
    if not isinstance(shape, Sequence) or not shape or not all(isinstance(n, int) and n > 0 for n in shape):
        raise CheckpointError(f"--ckpt {name}: shape must be one or more whole numbers above 0, got {shape!r}")
    sigmas = checkpoint.schedule(3)
    if not isinstance(sigmas, Tensor) or tuple(sigmas.shape) != (4,):
        raise CheckpointError(f"--ckpt {name}: schedule(3) must be a tensor of 4 sigmas, got {_describe(sigmas)}")
    if not bool((sigmas[1:] < sigmas[:-1]).all() and torch.isfinite(sigmas).all() and sigmas[-1] >= 0):
        raise CheckpointError(f"--ckpt {name}: schedule(3) must decrease to 0 or above, got {sigmas.tolist()}")
    drawn = checkpoint.draw(torch.Generator().manual_seed(0), 2)
    if not isinstance(drawn, tuple) or len(drawn) != 2:
        raise CheckpointError(f"--ckpt {name}: draw(generator, 2) must be (noise, cond), got {_describe(drawn)}")
    expected = (2, *checkpoint.shape)
    if not isinstance(drawn[0], Tensor) or tuple(drawn[0].shape) != expected:
        raise CheckpointError(f"--ckpt {name}: draw(generator, 2)[0] must be {expected}, got {_describe(drawn[0])}")
    if not drawn[0].is_floating_point() or not bool(torch.isfinite(drawn[0]).all()):
        raise CheckpointError(f"--ckpt {name}: draw(generator, 2)[0] must be finite floating-point numbers")
    _check_captions(made, drawn[1], name)
    return checkpoint


def _check_captions(made: object, cond: object, name: str) -> None:
    """Before a fit, not after it."""
    captions = made.captions(cond) if hasattr(made, "captions") else None
    if captions is not None and (isinstance(captions, str) or [type(text) for text in captions] != [str, str]):
        raise CheckpointError(f"--ckpt {name}: captions(cond) must be a text for each of 2 samples, got {captions!r}")


def _from_comfyui(name: str, options: ComfyOptions, cache: Path | None) -> object:
    try:
        start(find_comfyui(options.comfyui))
        path = find_model(name)
    except CheckpointError as error:
        raise CheckpointError(f"{_unknown(name)}. As the name of a ComfyUI checkpoint: {error}") from error
    return ComfyCheckpoint(path, options, cache)


def _unknown(name: str) -> str:
    return (
        f"--ckpt {name}: no such checkpoint. {did_you_mean(name, BUILT_IN).capitalize()}"
        "Built in are digits, shapes and gmm (or gmm:DIMENSION); "
        "your own is module:callable or path/file.py:callable"
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
        raise CheckpointError(f"--ckpt: there is no module {name!r}; a file is named path/file.py:callable") from error


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
    except ValueError:  # some built-in functions tell no signature
        try:
            return make()
        except TypeError as error:
            raise CheckpointError(f"--ckpt {name}: it must be callable without arguments ({error})") from error
    return make()


def _describe(value: object) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{type(value).__name__}"
