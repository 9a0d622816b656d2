"""The residual block of the convolutional built-in models."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """A residual block of two 3 x 3 convolutions; the embedding of sigma and class scales and shifts between them."""

    def __init__(self, width: int, embedding: int, norm: Callable[[int], nn.Module]) -> None:
        """norm: width -> a normalisation of [B, width, H, W]."""
        super().__init__()
        self.before = norm(width)
        self.enter = nn.Conv2d(width, width, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * width)
        self.between = norm(width)
        self.leave = nn.Conv2d(width, width, 3, padding=1)
        # The block starts as the identity, which keeps the first training steps stable.
        nn.init.zeros_(self.leave.weight)

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """hidden [B, width, H, W], embedding [B, embedding] -> [B, width, H, W]."""
        scale, shift = self.modulation(embedding)[..., None, None].chunk(2, 1)
        active = self.enter(functional.silu(self.before(hidden)))
        active = torch.addcmul(shift, self.between(active), 1 + scale)
        result: Tensor = hidden + self.leave(functional.silu(active))
        return result
