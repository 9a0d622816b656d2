"""Distances of two sets of points in the plane as distributions."""

import torch
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
from torch import Tensor

BANDWIDTH = 0.1
"""Deviation of the Gaussian that smooths both sets for the divergence; the tree's trunks have the length 1."""
REACH, CELLS = 4.0, 161
"""Half the side of the square over which the densities are integrated, and the number of points along a side."""


def kl_divergence(reference: Tensor, points: Tensor) -> float:
    """KL(reference || points) in nats between kernel density estimates; [n, 2] and [m, 2].

    Both sets are smoothed by the same Gaussian of deviation 0.1 and the integral is a sum over a square grid of spacing
    0.05, all in float64. It is 0 for equal sets and ignores structure finer than the bandwidth.
    """
    axis = torch.linspace(-REACH, REACH, CELLS, dtype=torch.float64)
    p, q = (_density(points_of, axis) for points_of in (reference, points))
    return float((p * (p.clamp_min(1e-300).log() - q.clamp_min(1e-300).log())).sum())


def wasserstein(reference: Tensor, points: Tensor) -> float:
    """W1 with Euclidean cost: the mean distance under the best assignment, exact for two sets of equal size [n, 2]."""
    if len(reference) != len(points):
        raise ValueError(f"{len(reference)} and {len(points)} points: give two sets of equal size")
    cost = torch.cdist(reference.double(), points.double()).numpy()
    rows, columns = linear_sum_assignment(cost)
    return float(cost[rows, columns].mean())


def _density(points: Tensor, axis: Tensor) -> Tensor:
    """[cells, cells], sums to 1."""
    x, y = (torch.exp(-((points[:, i, None].double() - axis) ** 2) / (2 * BANDWIDTH**2)) for i in (0, 1))
    density = x.T @ y
    return density / density.sum()
