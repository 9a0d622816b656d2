"""A small convolutional EDM model of drawn 16 x 16 colour pictures; its weights are beside this file.

The papers' pixel-space setting on a small scale: EDM's preconditioning, noise x = x0 + sigma * noise and polynomial
schedule (Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", arXiv:2206.00364,
table 1). The data are those of `shapes_data.py`: a disc, square or triangle in one of six colours on a dark or bright
ground. All three are the condition: an unknown colour would be decided late and all at once, as in `gmm`.

`tools/models/train_shapes.py` recreates the weights (5,000 batches of 64, seed 0, 614 s on one thread of a busy
machine) and measures their quality: for 288 samples the nearest of 20,000 drawings is at a mean distance of 0.101 of
the data's deviation and has the requested class in 86.1 % of the cases; for new drawings these are 0.080 and 99.0 %.
Colour and ground are right; squares are the rough ones.
"""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional

from dyweight import conditions, schedules

from ...run.errors import CheckpointError
from . import shapes_data
from .residual import Block
from .shapes_judge import Judge, judge

WEIGHTS = Path(__file__).with_name("shapes.safetensors")
CLASSES = len(shapes_data.PROMPTS)
SIGMA_MAX, SIGMA_MIN = 80.0, 0.002
LEAST_SIGMA = 1e-4
"""The smallest sigma for the network, which has learned no smaller one; the logarithm diverges at 0."""
SIGMA_DATA = 0.5
CENTRE, SPREAD = -0.1, 1.2
"""Brings pictures in -1..1, of mean -0.11 and standard deviation 0.60, to about 0 and SIGMA_DATA."""


def norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(width // 8, width)


class ShapesNetwork(nn.Module):
    """A U-Net from 16 x 16 over 8 x 8 to 4 x 4; most of its work is at the lower two, where a call costs little."""

    frequencies: Tensor

    def __init__(self, widths: tuple[int, int, int] = (24, 48, 96), embedding: int = 64) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.register_buffer("frequencies", torch.logspace(-1, 3, 16, base=2), persistent=False)
        self.noise_level = nn.Linear(32, embedding)
        self.label = nn.Embedding(CLASSES, embedding)
        self.mix = nn.Linear(embedding, embedding)
        self.enter = nn.Conv2d(3, fine, 3, padding=1)
        self.down_fine = Block(fine, embedding, norm)
        self.to_middle = nn.Conv2d(fine, middle, 3, stride=2, padding=1)
        self.down_middle = Block(middle, embedding, norm)
        self.to_coarse = nn.Conv2d(middle, coarse, 3, stride=2, padding=1)
        self.coarse = nn.ModuleList(Block(coarse, embedding, norm) for _ in range(2))
        self.from_coarse = nn.Conv2d(coarse, 4 * middle, 1)
        self.up_middle = Block(middle, embedding, norm)
        self.from_middle = nn.Conv2d(middle, 4 * fine, 1)
        self.up_fine = Block(fine, embedding, norm)
        self.last = norm(fine)
        self.leave = nn.Conv2d(fine, 3, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        # Convolutions of few channels are nearly twice as fast on a CPU when channels lie innermost.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, noise_level: Tensor, label: Tensor) -> Tensor:
        """x [B, 3, 16, 16], noise_level [B] about -1.5 to 1.1, label [B] -> F of the EDM paper [B, 3, 16, 16]."""
        angles = noise_level[:, None] * self.frequencies
        features = torch.cat([angles.sin(), angles.cos()], 1)
        embedding = functional.silu(self.noise_level(features) + self.label(label))
        embedding = functional.silu(self.mix(embedding))
        fine = self.down_fine(self.enter(x.contiguous(memory_format=torch.channels_last)), embedding)
        middle = self.down_middle(self.to_middle(fine), embedding)
        hidden = self.to_coarse(middle)
        for block in self.coarse:
            hidden = block(hidden, embedding)
        hidden = self.up_middle(middle + functional.pixel_shuffle(self.from_coarse(hidden), 2), embedding)
        hidden = self.up_fine(fine + functional.pixel_shuffle(self.from_middle(hidden), 2), embedding)
        result: Tensor = self.leave(functional.silu(self.last(hidden)))
        return result


def preconditioned(network: nn.Module, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
    """D(x; sigma), equation 7 of the EDM paper: x [B, 3, 16, 16], sigma [B], label [B] -> clean x [B, 3, 16, 16]."""
    wide = sigma.reshape(-1, 1, 1, 1)
    total = wide**2 + SIGMA_DATA**2
    skip, out, scaled = SIGMA_DATA**2 / total, wide * SIGMA_DATA / total.sqrt(), x / total.sqrt()
    noise_level = sigma.clamp_min(LEAST_SIGMA).log() / 4
    result: Tensor = skip * x + out * network(scaled.float(), noise_level.float(), label)
    return result


class Shapes:
    """The pixel-space checkpoint: draws starting noise and classes, and denoises 16 x 16 colour pictures."""

    shape: tuple[int, ...] = (3, shapes_data.PIXELS, shapes_data.PIXELS)
    model_family = "shapes"
    prediction_type = "edm"
    schedule_recipe = {"kind": "polynomial", "sigma_min": SIGMA_MIN, "sigma_max": SIGMA_MAX, "rho": 7.0}  # noqa: RUF012

    def __init__(self, network: ShapesNetwork, fingerprint: str) -> None:
        self.network = network
        self.fingerprint = fingerprint
        self._judge: Judge | None = None

    def schedule(self, steps: int) -> Tensor:
        """sigmas [steps + 1] from 80 to 0.002, rho 7."""
        return schedules.polynomial(steps, SIGMA_MIN, SIGMA_MAX)

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, Tensor]:
        """Starting points: noise [B, 3, 16, 16] float32 of deviation 80, and class labels [B] int64."""
        noise = torch.randn(batch, *self.shape, generator=generator) * SIGMA_MAX
        return noise, torch.randint(CLASSES, (batch,), generator=generator)

    def denoise(self, x: Tensor, sigma: Tensor, cond: Tensor) -> Tensor:
        """x [B, 3, 16, 16], sigma [B], cond [B] -> [B, 3, 16, 16], the predicted clean x."""
        # Half precision is combined in float32; float64 keeps its digits for solvers that divide by sigma.
        wide = torch.promote_types(x.dtype, torch.float32)
        return preconditioned(self.network, x.to(wide), sigma.to(wide), cond).to(x.dtype)

    def condition(self, cond: Tensor) -> Tensor:
        """cond [B], class labels -> [B, 36], what a solver may read of them."""
        return conditions.of_class(cond, CLASSES)

    def captions(self, cond: Tensor) -> list[str]:
        """cond [B], class labels -> texts such as `red disc, dark`."""
        return [shapes_data.PROMPTS[label] for label in cond.tolist()]

    def images(self, x: Tensor) -> Tensor:
        """x [B, 3, 16, 16] -> pictures [B, 16, 16, 3] in 0..1."""
        return ((x * SPREAD + CENTRE + 1) / 2).clamp(0, 1).movedim(1, -1)

    def features(self, x: Tensor) -> Tensor:
        """x [B, 3, 16, 16] -> [B, 64], what a small classifier sees in the pictures (see `shapes_judge.py`)."""
        if self._judge is None:
            self._judge = judge()
        seen: Tensor = self._judge.to(x.device)(self.images(x).movedim(-1, 1).float())
        return seen


def checkpoint(weights: Path = WEIGHTS) -> Shapes:
    """The shipped model, in evaluation mode, with its parameters frozen."""
    if not weights.exists():
        raise CheckpointError(f"{weights} is missing; recreate it with `python -m tools.models.train_shapes`")
    content = weights.read_bytes()
    network = ShapesNetwork()
    network.load_state_dict(load(content))
    network.eval().requires_grad_(False)
    return Shapes(network, "shapes-" + hashlib.sha256(content).hexdigest()[:16])
