"""A small class-conditional flow-matching model of 8x8 handwritten digits; its weights are beside this file.

Rectified flow (Liu et al. 2022, "Flow Straight and Fast", arXiv:2209.03003; Lipman et al. 2022, "Flow Matching for
Generative Modeling", arXiv:2210.02747): x_sigma = (1 - sigma) * x0 + sigma * noise, and the network predicts the
velocity dx/dsigma = noise - x0. The data are scikit-learn's `load_digits`, scaled to [-1, 1]; the script
`tools/models/train_digits.py` recreates the weights.
"""

import hashlib
import math
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional

from dyweight import conditions

from ...run.errors import CheckpointError

WEIGHTS = Path(__file__).with_name("digits.safetensors")
CLASSES = 10
NO_CLASS = CLASSES
PIXELS = 64


class Block(nn.Module):
    """One residual block whose normalised input is scaled and shifted by the embedding of time and class."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.enter = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.leave = nn.Linear(width, width)
        # The block starts as the identity, which keeps the first training steps stable.
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, hidden: Tensor, modulation: Tensor) -> Tensor:
        """hidden [B, width], modulation [B, 2, width] -> [B, width]."""
        active = functional.silu(self.enter(modulated(hidden, modulation)))
        result: Tensor = hidden + self.leave(self.dropout(active))
        return result


class VelocityNetwork(nn.Module):
    """Residual multi-layer perceptron that predicts the flow's velocity noise - x0.

    Time enters through Fourier features of sigma, the class through a learned embedding with one extra row for
    "no class"; both modulate every block (adaptive layer norm: Peebles and Xie 2022, arXiv:2212.09748).
    """

    frequencies: Tensor

    def __init__(self, width: int = 256, depth: int = 4, embedding: int = 64, dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("frequencies", math.pi / 2 * torch.arange(1, embedding // 2 + 1), persistent=False)
        self.time = nn.Linear(embedding, embedding)
        self.label = nn.Embedding(CLASSES + 1, embedding)
        self.modulation = nn.Linear(embedding, (depth + 1) * 2 * width)
        self.enter = nn.Linear(PIXELS, width)
        self.blocks = nn.ModuleList(Block(width, dropout) for _ in range(depth))
        self.leave = nn.Linear(width, PIXELS)

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        """x [B, 1, 8, 8], sigma [B], label [B] (NO_CLASS for none) -> velocity [B, 1, 8, 8]."""
        angles = sigma[:, None] * self.frequencies
        features = torch.cat([angles.sin(), angles.cos()], dim=1)
        embedding = functional.silu(self.time(features) + self.label(label))
        hidden = self.enter(x.flatten(1))
        modulations = self.modulation(embedding).unflatten(1, (-1, 2, hidden.shape[1])).unbind(1)
        for block, modulation in zip(self.blocks, modulations[:-1], strict=True):
            hidden = block(hidden, modulation)
        result: Tensor = self.leave(modulated(hidden, modulations[-1])).reshape(x.shape)
        return result


def modulated(hidden: Tensor, modulation: Tensor) -> Tensor:
    """hidden [B, width] normalised, then scaled and shifted by modulation [B, 2, width] -> [B, width]."""
    scale, shift = modulation.unbind(1)
    return functional.layer_norm(hidden, hidden.shape[-1:]) * (1 + scale) + shift


class Digits:
    """The demonstration checkpoint: draws starting noise and classes, and denoises 8x8 digits."""

    shape: tuple[int, ...] = (1, 8, 8)
    model_family = "digits"
    prediction_type = "flow velocity"
    shift = 1.0
    schedule_recipe = {"kind": "flow", "shift": 1.0}  # noqa: RUF012

    def __init__(self, network: VelocityNetwork, fingerprint: str) -> None:
        self.network = network
        self.fingerprint = fingerprint

    def schedule(self, steps: int) -> Tensor:
        """The uniform flow schedule: sigmas [steps + 1], float64, from 1 down to 0."""
        return torch.linspace(1, 0, steps + 1, dtype=torch.float64)

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, Tensor]:
        """Starting points: noise [B, 1, 8, 8] float32 at sigma = 1, and class labels [B] int64."""
        noise = torch.randn(batch, *self.shape, generator=generator)
        cond = torch.randint(CLASSES, (batch,), generator=generator)
        return noise, cond

    def denoise(self, x: Tensor, sigma: Tensor, cond: Tensor | None) -> Tensor:
        """x [B, 1, 8, 8], sigma [B], cond [B] or None for no class -> [B, 1, 8, 8], the predicted clean x."""
        label = torch.full(sigma.shape, NO_CLASS, device=x.device) if cond is None else cond
        velocity: Tensor = self.network(x.float(), sigma.float(), label)
        # Half precision is combined in float32; float64 keeps its digits for solvers that divide by sigma.
        wide = torch.promote_types(x.dtype, torch.float32)
        return (x.to(wide) - sigma.to(wide).reshape(-1, 1, 1, 1) * velocity.to(wide)).to(x.dtype)

    def condition(self, cond: Tensor) -> Tensor:
        """cond [B], class labels -> [B, 10], what a solver may read of them."""
        return conditions.of_class(cond, CLASSES)

    def captions(self, cond: Tensor) -> list[str]:
        """cond [B], class labels -> the digits as texts."""
        return [str(label) for label in cond.tolist()]

    def images(self, x: Tensor) -> Tensor:
        """x [B, 1, 8, 8] -> pictures [B, 8, 8] between 0 (paper) and 1 (ink)."""
        return ((x[:, 0] + 1) / 2).clamp(0, 1)


def checkpoint(weights: Path = WEIGHTS) -> Digits:
    """The shipped model, in evaluation mode, with its parameters frozen."""
    if not weights.exists():
        raise CheckpointError(
            f"{weights} is missing; recreate it with `python -m tools.models.train_digits` (needs scikit-learn)"
        )
    content = weights.read_bytes()
    network = VelocityNetwork()
    network.load_state_dict(load(content))
    network.eval().requires_grad_(False)
    return Digits(network, "digits-" + hashlib.sha256(content).hexdigest()[:16])
