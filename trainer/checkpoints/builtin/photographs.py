"""A class-conditional EDM model of photographs: CIFAR-10 at 16 x 16, or whatever size its weights were trained at.

The papers' first setting on a small scale: EDM's preconditioning, noise x = x0 + sigma * noise and polynomial schedule
(Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", arXiv:2206.00364, table 1).
One in ten labels was dropped in training, so the model has classifier-free guidance too. `tools/models/photographs.md`
says how the weights came about and how good they are; they lie beside it, in the repository but not in the published
pack.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load
from torch import Tensor

from dyweight import conditions, schedules

from ...run.errors import CheckpointError
from .photographs_judge import Judge, judge
from .photographs_network import CLASSES, NO_CLASS, PhotographsNetwork, preconditioned

WEIGHTS = Path(__file__).parents[3] / "tools" / "models" / "photographs.safetensors"
SIGMA_MAX, SIGMA_MIN = 80.0, 0.002


class Photographs:
    """The checkpoint: draws starting noise and classes, and denoises colour photographs."""

    model_family = "photographs"
    prediction_type = "edm"
    schedule_recipe = {"kind": "polynomial", "sigma_min": SIGMA_MIN, "sigma_max": SIGMA_MAX, "rho": 7.0}  # noqa: RUF012

    def __init__(self, network: PhotographsNetwork, pixels: int, fingerprint: str, cfg: float = 1.0) -> None:
        """cfg: how many times the class's direction is taken; 1 asks the network once a call, else twice."""
        self.network = network
        self.shape: tuple[int, ...] = (3, pixels, pixels)
        self.guidance = self.cfg = None if cfg == 1 else cfg
        self.fingerprint = fingerprint if cfg == 1 else f"{fingerprint}, guidance {cfg}"
        self._judge: Judge | None = None

    def schedule(self, steps: int) -> Tensor:
        """sigmas [steps + 1] from 80 to 0.002, rho 7."""
        return schedules.polynomial(steps, SIGMA_MIN, SIGMA_MAX)

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, Tensor]:
        """Starting points: noise [B, 3, H, W] float32 of deviation 80, and class labels [B] int64."""
        noise = torch.randn(batch, *self.shape, generator=generator) * SIGMA_MAX
        return noise, torch.randint(len(CLASSES), (batch,), generator=generator)

    def denoise(self, x: Tensor, sigma: Tensor, cond: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """x [B, 3, H, W], sigma [B], cond [B] -> the predicted clean x [B, 3, H, W], with a cfg the pair (conditional,
        unconditional)."""
        if self.cfg is None:
            return self.conditional(x, sigma, cond)
        labels = torch.cat([cond, torch.full_like(cond, NO_CLASS)])
        conditional, unconditional = self.conditional(x.repeat(2, 1, 1, 1), sigma.repeat(2), labels).chunk(2)
        return conditional, unconditional

    def conditional(self, x: Tensor, sigma: Tensor, cond: Tensor) -> Tensor:
        """As `denoise`, the first of the pair alone."""
        # Half precision is combined in float32; float64 keeps its digits for solvers that divide by sigma.
        wide = torch.promote_types(x.dtype, torch.float32)
        return preconditioned(self.network, x.to(wide), sigma.to(wide), cond).to(x.dtype)

    def condition(self, cond: Tensor) -> Tensor:
        """Class labels [B] -> what a solver may read of them, [B, 10]."""
        return conditions.of_class(cond, len(CLASSES))

    def captions(self, cond: Tensor) -> list[str]:
        """Class labels [B] -> `horse`."""
        return [CLASSES[label] for label in cond.tolist()]

    def images(self, x: Tensor) -> Tensor:
        """x [B, 3, H, W] -> pictures [B, H, W, 3] in 0..1."""
        return ((x + 1) / 2).clamp(0, 1).movedim(1, -1)

    def features(self, x: Tensor) -> Tensor:
        """x [B, 3, H, W] -> what a small classifier sees in the pictures, [B, 128] (see `photographs_judge.py`)."""
        if self._judge is None:
            self._judge = judge()
        seen: Tensor = self._judge.to(x.device)(self.images(x).movedim(-1, 1).float())
        return seen


def checkpoint(weights: Path = WEIGHTS, cfg: float = 1.0) -> Photographs:
    """The model, in evaluation mode, with its parameters frozen."""
    if not weights.exists():
        raise CheckpointError(
            f"{weights} is missing: take it from the repository, since the published pack leaves it out, or recreate "
            "it with `python -m tools.models.train_photographs` (needs CIFAR-10)"
        )
    content = weights.read_bytes()
    with safe_open(weights, "pt") as file:
        made = json.loads(file.metadata()["model"])
    network = PhotographsNetwork(made["widths"])
    network.load_state_dict(load(content))
    network.eval().requires_grad_(False)
    return Photographs(network, made["pixels"], "photographs-" + hashlib.sha256(content).hexdigest()[:16], cfg)
