"""The noise level at which one part of a run left its latent, for the part that continues from it."""

from collections import deque

import torch
from torch import Tensor

_ELEMENTS, _REMEMBERED = 64, 256
_SAME = 0.01
"""Largest difference, relative to the latent, that still counts as the same latent: half precision rounds to 0.004."""

_left: deque[tuple[Tensor, float, str | None]] = deque(maxlen=_REMEMBERED)


def leave(x: Tensor, sigmas: Tensor, file: str | None = None) -> None:
    """Remember that the samples x [B, ...] are at the noise levels sigmas [] or [B]: a few numbers of each.

    file: the name of the solver that left them, None for the untrained one.
    """
    for sample, sigma in zip(_some(x), sigmas.expand(len(x)).tolist(), strict=True):
        _left.append((sample, sigma, file))


def found(x: Tensor) -> float | None:
    """The noise level at which an earlier part left all samples of x [B, ...]; None where none did, or at several."""
    levels = {next((sigma for one, sigma, _ in reversed(_left) if _same(one, sample)), None) for sample in _some(x)}
    return levels.pop() if len(levels) == 1 else None


def left_by(x: Tensor) -> str | None:
    """The name of the solver that left the first sample of x [B, ...]; None where none did."""
    return next((file for one, _, file in reversed(_left) if _same(one, _some(x[:1])[0])), None)


def _some(x: Tensor) -> Tensor:
    """[B, ...] -> [B, elements]: evenly spread over each sample."""
    flat = x.detach().flatten(1)
    count = min(_ELEMENTS, flat.shape[1])
    at = torch.arange(count) * (flat.shape[1] - 1) // max(1, count - 1)
    return flat[:, at.to(x.device)].float().cpu()


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one - other).norm() <= _SAME * other.norm()) and bool(other.any())
