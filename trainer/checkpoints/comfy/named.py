"""The ComfyUI checkpoint that `--ckpt` names."""

from pathlib import Path

from ...run.errors import CheckpointError, NotFoundError
from .checkpoint import ComfyCheckpoint
from .installation import AmbiguousError, find_comfyui, find_model, start
from .options import ComfyOptions
from .schedules import check_scheduler
from .sizes import Sizes


def named(name: str, options: ComfyOptions, cache: Path | None) -> ComfyCheckpoint | Sizes:
    """Start ComfyUI and load a model by name or path. Raises NotFoundError or CheckpointError with what to do."""
    try:
        start(find_comfyui(options.comfyui))
        path = find_model(name)
    except AmbiguousError:
        raise
    except CheckpointError as error:
        raise NotFoundError(f"As the name of a ComfyUI checkpoint: {error}") from error
    if options.scheduler is not None:
        check_scheduler(options.scheduler)
    low = None if options.ckpt_low is None else find_model(options.ckpt_low, "--ckpt-low")
    made = ComfyCheckpoint(path, options, cache, low)
    return made if len(options.widths) < 2 else Sizes([made.of_width(width) for width in options.widths])
