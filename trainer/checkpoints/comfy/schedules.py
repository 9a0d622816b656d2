"""Base schedules: ComfyUI's schedulers by name, and those that are nodes because they need the size of the picture."""

import importlib
from typing import Any

from torch import Tensor

from comfyui.schedulers import NODES, names_there
from dyweight.suggest import did_you_mean

from ...run.errors import CheckpointError
from .latents import Latent


def check_scheduler(name: str) -> None:
    """CheckpointError for a scheduler that this ComfyUI does not have."""
    known = (*importlib.import_module("comfy.samplers").SCHEDULER_NAMES, *names_there())
    if name not in known:
        raise CheckpointError(
            f"--scheduler {name}: {did_you_mean(name, known)}ComfyUI without custom nodes has {', '.join(known)}"
        )


def schedule(name: str, steps: int, sampling: Any, latent: Latent, size: tuple[int, int]) -> Tensor:
    """Float64 sigmas of a scheduler for a model's sampling, its latent and its size; some leave out what repeats."""
    if name in NODES:
        sigmas = NODES[name].sigmas(steps, size, latent.streams[0])
    else:
        sigmas = importlib.import_module("comfy.samplers").calculate_sigmas(sampling, name, steps)
    return sigmas.double().cpu()
