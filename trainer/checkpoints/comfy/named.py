"""The ComfyUI checkpoint that `--ckpt` names."""

import importlib
from pathlib import Path

from dyweight.suggest import did_you_mean

from ...run.errors import CheckpointError, NotFoundError
from .checkpoint import ComfyCheckpoint
from .installation import AmbiguousError, find_comfyui, find_model, start
from .options import ComfyOptions


def named(name: str, options: ComfyOptions, cache: Path | None) -> ComfyCheckpoint:
    """Start ComfyUI and load a model by name or path. Raises NotFoundError or CheckpointError with what to do."""
    try:
        start(find_comfyui(options.comfyui))
        path = find_model(name)
    except AmbiguousError:
        raise
    except CheckpointError as error:
        raise NotFoundError(f"As the name of a ComfyUI checkpoint: {error}") from error
    schedulers = tuple(importlib.import_module("comfy.samplers").SCHEDULER_NAMES)
    if options.scheduler not in schedulers:
        hint = did_you_mean(options.scheduler, schedulers)
        raise CheckpointError(
            f"--scheduler {options.scheduler}: {hint}ComfyUI without custom nodes has {', '.join(schedulers)}"
        )
    return ComfyCheckpoint(path, options, cache)
