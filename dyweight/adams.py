"""Adams-Bashforth weights: the integral of the polynomial through the newest slopes."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

EQUAL_STEP_WEIGHTS: dict[int, tuple[float, ...]] = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}
"""DyWeight, equation 6, newest slope first."""
Initial = Literal["adams-bashforth", "adams-bashforth-variable", "euler", "uniform"]


def adams_bashforth(times: Tensor, following: Tensor) -> Tensor:
    """Weights [points, *batch], newest first, of the step from times[0] to `following`, for any spacing.

    times: [points, *batch] where the slopes were taken, newest first. Weight j is the mean over the step of the
    Lagrange polynomial that is 1 at times[j] and 0 at the others; DyWeight, Appendix A, written for any order.
    The weights sum to 1 and carry gradients to the times.
    """
    points = (times - times[0]) / (following - times[0])
    return torch.stack([_lagrange_mean(points, j) for j in range(len(points))])


def initial_weights(sigmas: Tensor, order: int, initial: Initial, reaches: Sequence[int]) -> Tensor:
    """Weights [steps, order], newest slope first, on sigmas [steps + 1]. reaches: how many slopes each step uses."""
    weights = torch.zeros(len(reaches), order, dtype=torch.float64)
    for n, used in enumerate(reaches):
        newest_first = sigmas[n + 1 - used : n + 1].flip(0)
        if initial == "euler":
            weights[n, 0] = 1
        elif initial == "uniform":
            weights[n, :used] = 1 / used
        elif initial == "adams-bashforth" and used in EQUAL_STEP_WEIGHTS:
            weights[n, :used] = torch.tensor(EQUAL_STEP_WEIGHTS[used], dtype=torch.float64)
        else:
            times = newest_first if initial == "adams-bashforth-variable" else -torch.arange(used, dtype=torch.float64)
            following = sigmas[n + 1] if initial == "adams-bashforth-variable" else torch.ones((), dtype=torch.float64)
            weights[n, :used] = adams_bashforth(times, following)
    return weights


def _lagrange_mean(points: Tensor, j: int) -> Tensor:
    """Integral over [0, 1] of the product over k != j of (u - points[k]) / (points[j] - points[k])."""
    coefficients = [torch.ones_like(points[0])]
    for k in range(len(points)):
        if k != j:
            shifted = [torch.zeros_like(points[0]), *coefficients]
            scaled = [*(-points[k] * c for c in coefficients), torch.zeros_like(points[0])]
            coefficients = [(a + b) / (points[j] - points[k]) for a, b in zip(shifted, scaled, strict=True)]
    return torch.stack([c / (power + 1) for power, c in enumerate(coefficients)]).sum(0)
