"""phi of INDIS: a small network that reads the initial noise and the condition of each sample."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from einops import reduce
from torch import Tensor, nn

GRIDS: dict[int, tuple[int, ...]] = {1: (1024,), 2: (8, 8), 3: (4, 8, 8)}
"""Cells that a latent is averaged to, by its number of axes: a line, an image, a video."""
DETAIL = 32
"""Channels of the convolutions that read what the averages lose."""
HIDDEN = 256
MODULATION = 10.0
"""Variance of the weights by which the condition scales the noise, times its width; small ones take long to learn."""
LARGEST_SIZE = 1 << 16
"""Of any setting from a file."""


class Phi(nn.Module):
    """phi: (noise, condition) -> numbers for each sample (INDIS; the paper leaves the layers open, these are ours).

    The noise is read in two ways that bear any size of latent: averages over a fixed grid of cells, scaled so that they
    keep unit variance (a latent no larger than the grid is read element by element), and for larger ones two strided
    convolutions, averaged over all places. Both are added in one hidden layer, which the condition scales and shifts:
    what a noise leads to depends on the prompt. Two more layers follow. The last one starts at zero, so an untrained
    phi says nothing.
    """

    def __init__(
        self, outputs: int, channels: int, grid: Sequence[int], detail: int, condition_width: int, hidden: int
    ) -> None:
        """channels: of the latent, 0 to read no noise. grid: cells by axis. detail: channels of the convolutions, 0 for
        none. condition_width: of the condition, 0 to read none."""
        super().__init__()
        self.channels, self.grid, self.condition_width = channels, tuple(grid), condition_width
        self.enter = nn.Linear(channels * math.prod(grid), hidden) if channels else None
        self.detail = _convolutions(len(self.grid), channels, detail) if channels and detail else None
        self.enter_detail = nn.Linear(detail, hidden, bias=False) if self.detail else None
        modulations = 2 * hidden if channels else hidden
        self.enter_condition = nn.Linear(condition_width, modulations, bias=False) if condition_width else None
        between = (nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.middle = nn.Sequential(nn.SiLU(), *between)
        self.leave = nn.Linear(hidden, outputs)
        if self.enter_condition is not None and channels:
            nn.init.normal_(self.enter_condition.weight[hidden:], std=(MODULATION / condition_width) ** 0.5)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    @staticmethod
    def settings_for(shape: Sequence[int], condition_width: int, instance: bool) -> dict[str, Any]:
        """What the constructor takes beside `outputs`, for latents of this shape (without the batch axis)."""
        channels, *sizes = shape if len(shape) > 1 else (1, *shape)
        if len(sizes) not in GRIDS:
            raise ValueError(f"the latent has shape {list(shape)}: phi reads 1 to 4 axes")
        grid = [min(size, most) for size, most in zip(sizes, GRIDS[len(sizes)], strict=True)]
        return {
            "channels": channels if instance else 0,
            "grid": grid,
            "detail": DETAIL if grid != list(sizes) else 0,
            "condition_width": condition_width,
            "hidden": HIDDEN,
        }

    @staticmethod
    def shapes(outputs: int, settings: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        """The shapes of its tensors by name, without making them."""
        with torch.device("meta"):
            phi = Phi(outputs, **settings)
        return {name: tuple(value.shape) for name, value in phi.state_dict().items()}

    def forward(self, noise: Tensor | None, condition: Tensor | None) -> Tensor:
        """noise [B, *shape] of unit variance or None, condition [B, width] or None -> [B, outputs].

        What is missing counts as zero; where it reads nothing B is 1. Raises ValueError for latents or conditions of
        another kind.
        """
        hidden = torch.zeros(1, self.leave.in_features)
        if self.enter is not None:
            hidden = self._read(noise) if noise is not None else hidden + self.enter.bias
        if self.enter_condition is not None and condition is not None:
            if condition.shape[-1] != self.condition_width:
                raise ValueError(
                    f"the condition has {condition.shape[-1]} numbers, this solver was made for "
                    f"{self.condition_width}: it belongs to another text encoder"
                )
            hidden = self._modulated(hidden, self.enter_condition(condition))
        result: Tensor = self.leave(self.middle(hidden))
        return result

    def _read(self, noise: Tensor) -> Tensor:
        assert self.enter is not None
        x = noise[:, None] if noise.ndim == 2 else noise
        if x.ndim != len(self.grid) + 2 or x.shape[1] != self.channels:
            raise ValueError(
                f"the latent has shape {list(noise.shape[1:])}, this solver was made for {self.channels} channels and "
                f"{len(self.grid)} more axes: it belongs to another kind of model"
            )
        hidden: Tensor = self.enter(self._cells(x).flatten(1))
        if self.detail is not None and self.enter_detail is not None:
            hidden = hidden + self.enter_detail(reduce(self.detail(x), "b c ... -> b c", "mean"))
        return hidden

    def _modulated(self, hidden: Tensor, modulation: Tensor) -> Tensor:
        """Scaled and shifted by the condition; only shifted where no noise is read."""
        if self.enter is None:
            return hidden + modulation
        shift, scale = modulation.chunk(2, -1)
        return hidden * (1 + scale) + shift

    def _cells(self, x: Tensor) -> Tensor:
        if x.shape[2:] == self.grid:
            return x
        pool = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[len(self.grid) - 1]
        cells: Tensor = pool(self.grid)(x)
        scaled: Tensor = cells * max(1.0, math.prod(x.shape[2:]) / math.prod(self.grid)) ** 0.5
        return scaled


def _convolutions(axes: int, channels: int, width: int) -> nn.Sequential:
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    return nn.Sequential(
        convolution(channels, width, 3, stride=2, padding=1),
        nn.SiLU(),
        convolution(width, width, 3, stride=2, padding=1),
        nn.SiLU(),
    )
