"""The network of `photographs`: a U-Net of two blocks at every resolution, with attention at the coarsest."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from .residual import Block

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NO_CLASS = len(CLASSES)
"""The label that guidance subtracts."""
HEAD = 64
"""Channels of one head of attention."""
EMBEDDING = 128


class Norm(nn.LayerNorm):
    """Over the channels of each pixel; faster than nn.GroupNorm where channels lie innermost."""

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden [B, width, H, W] -> the same shape."""
        return super().forward(hidden.movedim(1, -1)).movedim(-1, 1)


class Attention(nn.Module):
    """Residual self-attention over all pixels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before = Norm(width)
        self.enter = nn.Conv2d(width, 3 * width, 1)
        self.leave = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.leave.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden [B, width, H, W] -> [B, width, H, W]."""
        three = rearrange(self.enter(self.before(hidden)), "b (t h c) y x -> t b h (y x) c", t=3, c=HEAD)
        heads = functional.scaled_dot_product_attention(*three)
        mixed = rearrange(heads, "b h (y x) c -> b (h c) y x", y=hidden.shape[2])
        result: Tensor = hidden + self.leave(mixed)
        return result


class PhotographsNetwork(nn.Module):
    """F of the EDM paper for pictures whose side is a multiple of 2^(levels - 1)."""

    frequencies: Tensor

    def __init__(self, widths: Sequence[int]) -> None:
        """widths: channels from the finest level to the coarsest, the last a multiple of 64."""
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(-1, 3, 16, base=2), persistent=False)
        self.noise_level = nn.Linear(32, EMBEDDING)
        self.label = nn.Embedding(len(CLASSES) + 1, EMBEDDING)
        self.mix = nn.Linear(EMBEDDING, EMBEDDING)
        self.enter = nn.Conv2d(3, widths[0], 3, padding=1)
        *finer, coarsest = widths
        steps = list(pairwise(widths))
        self.down = nn.ModuleList(Block(width, EMBEDDING, Norm) for width in finer)
        self.shrink = nn.ModuleList(nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in steps)
        self.coarse = nn.ModuleList(Block(coarsest, EMBEDDING, Norm) for _ in range(2))
        self.attention = nn.ModuleList(Attention(coarsest) for _ in range(2))
        self.grow = nn.ModuleList(nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in steps)
        self.up = nn.ModuleList(Block(width, EMBEDDING, Norm) for width in finer)
        self.last = Norm(widths[0])
        self.leave = nn.Conv2d(widths[0], 3, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        # Convolutions of few channels are nearly twice as fast on a CPU when channels lie innermost.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, noise_level: Tensor, label: Tensor) -> Tensor:
        """x [B, 3, H, W], noise_level [B] about -1.5 to 1.1, label [B] -> F [B, 3, H, W]."""
        angles = noise_level[:, None] * self.frequencies
        features = torch.cat([angles.sin(), angles.cos()], 1)
        embedding = functional.silu(self.noise_level(features) + self.label(label))
        embedding = functional.silu(self.mix(embedding))
        hidden, kept = self.enter(x.contiguous(memory_format=torch.channels_last)), []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            kept.append(block(hidden, embedding))
            hidden = shrink(kept[-1])
        for block, attention in zip(self.coarse, self.attention, strict=True):
            hidden = attention(block(hidden, embedding))
        for block, grow in reversed(list(zip(self.up, self.grow, strict=True))):
            hidden = block(kept.pop() + functional.pixel_shuffle(grow(hidden), 2), embedding)
        result: Tensor = self.leave(functional.silu(self.last(hidden)))
        return result


SIGMA_DATA = 0.5
"""Of pictures in -1..1: 0.49 at 16 x 16."""
LEAST_SIGMA = 1e-4
"""Smallest sigma given to the network: the logarithm diverges."""


def preconditioned(network: nn.Module, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
    """D(x; sigma) of the EDM paper's equation 7: x [B, 3, H, W], sigma [B], label [B] -> the predicted clean x."""
    wide = sigma.reshape(-1, 1, 1, 1)
    total = wide**2 + SIGMA_DATA**2
    skip, out, scaled = SIGMA_DATA**2 / total, wide * SIGMA_DATA / total.sqrt(), x / total.sqrt()
    noise_level = sigma.clamp_min(LEAST_SIGMA).log() / 4
    result: Tensor = skip * x + out * network(scaled.float(), noise_level.float(), label).float()
    return result
