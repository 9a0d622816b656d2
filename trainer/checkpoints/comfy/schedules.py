"""Base schedules: ComfyUI's schedulers by name, and those that are nodes because they need the size of the picture."""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dyweight.suggest import did_you_mean

from ...run.errors import CheckpointError
from .latents import Latent


def _flux2(steps: int, latent: Latent, size: tuple[int, int]) -> Any:
    return importlib.import_module("comfy_extras.nodes_flux").Flux2Scheduler.execute(steps, *size)


def _ltxv(steps: int, latent: Latent, size: tuple[int, int]) -> Any:
    """With the node's defaults."""
    node = importlib.import_module("comfy_extras.nodes_lt").LTXVScheduler
    return node.execute(steps, 2.05, 0.95, True, 0.1, {"samples": torch.zeros(1, *latent.streams[0])})


def _ideogram4(steps: int, latent: Latent, size: tuple[int, int]) -> Any:
    """With mu and std of the official template's preset "Default"."""
    return importlib.import_module("comfy_extras.nodes_ideogram4").Ideogram4Scheduler.execute(steps, *size, 0.5, 1.75)


NODES: dict[str, Callable[[int, Latent, tuple[int, int]], Any]] = {
    "flux2": _flux2,
    "ltxv": _ltxv,
    "ideogram4": _ideogram4,
}
"""By the name that --scheduler takes: (steps, latent, (width, height)) -> the output of ComfyUI's node."""


def check_scheduler(name: str) -> None:
    """CheckpointError for a scheduler that neither ComfyUI nor `NODES` has."""
    known = (*importlib.import_module("comfy.samplers").SCHEDULER_NAMES, *NODES)
    if name not in known:
        raise CheckpointError(
            f"--scheduler {name}: {did_you_mean(name, known)}ComfyUI without custom nodes has {', '.join(known)}"
        )


def schedule(name: str, steps: int, sampling: Any, latent: Latent, size: tuple[int, int]) -> Tensor:
    """Float64 sigmas of a scheduler for a model's sampling, its latent and its size; some leave out what repeats."""
    if name in NODES:
        sigmas: Tensor = NODES[name](steps, latent, size).args[0]
    else:
        sigmas = importlib.import_module("comfy.samplers").calculate_sigmas(sampling, name, steps)
    return sigmas.double().cpu()
