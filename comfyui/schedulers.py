"""The schedulers that ComfyUI has as nodes of their own, because they need the size of the picture."""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class NodeScheduler:
    """One of ComfyUI's nodes."""

    module: str
    node: str
    inputs: Callable[[int, tuple[int, int], tuple[int, ...]], tuple[Any, ...]]
    """(steps, (width, height), shape of one latent) -> the inputs of the node."""

    @property
    def there(self) -> bool:
        """Whether the ComfyUI at hand has it."""
        return importlib.util.find_spec(self.module) is not None

    def sigmas(self, steps: int, size: tuple[int, int], shape: tuple[int, ...]) -> Tensor:
        """[steps + 1], or fewer where values repeat. size: width, height in pixels. shape: of one latent."""
        node = getattr(importlib.import_module(self.module), self.node)
        found: Tensor = node.execute(*self.inputs(steps, size, shape)).args[0]
        return found


def _ltxv(steps: int, size: tuple[int, int], shape: tuple[int, ...]) -> tuple[Any, ...]:
    return steps, 2.05, 0.95, True, 0.1, {"samples": torch.zeros(1, *shape)}  # the node's defaults


def _ideogram4(steps: int, size: tuple[int, int], shape: tuple[int, ...]) -> tuple[Any, ...]:
    return steps, *size, 0.5, 1.75  # mu and std of the official template's preset "Default"


NODES = {
    "flux2": NodeScheduler("comfy_extras.nodes_flux", "Flux2Scheduler", lambda steps, size, shape: (steps, *size)),
    "ltxv": NodeScheduler("comfy_extras.nodes_lt", "LTXVScheduler", _ltxv),
    "ideogram4": NodeScheduler("comfy_extras.nodes_ideogram4", "Ideogram4Scheduler", _ideogram4),
}
"""By the names that the trainer and Fit Solver have for them."""


def names_there() -> list[str]:
    """Those that the ComfyUI at hand has."""
    return [name for name, scheduler in NODES.items() if scheduler.there]
