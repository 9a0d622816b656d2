"""The white-box problem of DyWeight's numerical study: a known polynomial path, a coupled ODE, multistep solvers.

    y'(t) = y_gt'(t) + A [y(t) - y_gt(t)],  t in [0, 1]                   (paper, equations 7 and A.17)

The error e = y - y_gt is all that is needed. With the slope f[n] = y_gt'(t[n]) + A e[n] and the weights w:

    e[n+1] = e[n] + h * sum over i of w[n, i] f[n-i] - (y_gt(t[n+1]) - y_gt(t[n]))

This loop samples no diffusion model: y' is known and no denoiser is asked, so `dyweight.sample` has no part here.
All runs, degrees and orders are one tensor [runs, dimension, columns], a column for each pair of order and degree.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dyweight.adams import EQUAL_STEP_WEIGHTS

DIMENSION = 50
COEFFICIENT = 2.0
"""Standard deviation, N(0, 4). Relative errors do not depend on it: the problem is linear in the coefficients."""
COUPLING = 0.1
"""Times D**-0.5 the standard deviation of A's entries; if it were their variance, A would be unstable."""
DAMPING = 0.5
"""Subtracted from A's diagonal."""
LEARNING_RATE = 1e-3
MOST = max(EQUAL_STEP_WEIGHTS)


@dataclass(frozen=True)
class Problems:
    """Independent problems, float64; the polynomials of a run share their coefficients as far as the degree goes."""

    coupling: Tensor
    """A: [runs, dimension, dimension]"""
    coefficients: Tensor
    """[runs, dimension, largest degree + 1]"""

    @property
    def runs(self) -> int:
        return len(self.coupling)


def problems(runs: int, largest_degree: int, seed: int, coupling: float = COUPLING * DIMENSION**-0.5) -> Problems:
    """coupling: the standard deviation of A's entries."""
    generator = torch.Generator().manual_seed(seed)
    size = runs, DIMENSION, DIMENSION
    matrix = coupling * torch.randn(size, generator=generator, dtype=torch.float64)
    size = runs, DIMENSION, largest_degree + 1
    coefficients = COEFFICIENT * torch.randn(size, generator=generator, dtype=torch.float64)
    return Problems(matrix - DAMPING * torch.eye(DIMENSION, dtype=torch.float64), coefficients)


class Integration:
    """Adams-Bashforth of several orders through `steps` steps, on the problems cut to several degrees."""

    def __init__(
        self, given: Problems, degrees: Sequence[int], orders: Sequence[int], steps: int, dtype: torch.dtype
    ) -> None:
        """dtype: that of `errors` and `gradients`; the defects themselves are computed in float64."""
        self.degrees, self.orders, self.steps = list(degrees), list(orders), steps
        at = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        powers = torch.arange(given.coefficients.shape[-1], dtype=torch.float64)
        kept = (powers[:, None] <= torch.tensor(self.degrees)).double()
        values, slopes = (
            torch.einsum("rdk,tk,kc->trdc", given.coefficients, basis, kept)
            for basis in (at[:, None] ** powers, powers * at[:, None] ** (powers - 1).clamp_min(0))
        )
        self.lengths = values[-1].norm(dim=1)
        """[runs, degrees], of y_gt(1)"""
        # Order O begins with O exact states, so its rows before O - 1 do nothing.
        row, order = torch.arange(steps)[:, None], torch.tensor(self.orders).repeat_interleave(len(self.degrees))
        begun = row >= order - 1
        self.free = (begun[:, None] & (torch.arange(MOST)[:, None] < order)).to(dtype)[:, :, None, None]
        """[steps, MOST, 1, 1, columns], 1 where a weight has a slope to weigh and a step to make"""
        increments = (values[1:] - values[:-1]).repeat(1, 1, 1, len(self.orders)) * begun[:, None, None]
        self._increments = increments.to(dtype)
        self._own_slopes = (slopes / steps).repeat(1, 1, 1, len(self.orders)).to(dtype)
        self._coupling = (given.coupling / steps).to(dtype)
        self._slopes = torch.zeros_like(self._own_slopes[:-1])
        """h f[n], of the last pass"""

    def classical_weights(self) -> Tensor:
        """[steps, MOST, runs, 1, columns], newest slope first; 0 where there is nothing to weigh."""
        rows = torch.zeros(len(self.orders), MOST, dtype=self.free.dtype)
        for row, order in zip(rows, self.orders, strict=True):
            row[:order] = torch.tensor(EQUAL_STEP_WEIGHTS[order], dtype=rows.dtype)
        columns = rows.repeat_interleave(len(self.degrees), 0).T
        return (self.free * columns[:, None, None]).repeat(1, 1, len(self._coupling), 1, 1)

    def errors(self, weights: Tensor) -> Tensor:
        """e(1) = y(1) - y_gt(1): [runs, dimension, columns]."""
        error = torch.zeros_like(self._slopes[0])
        for n in range(self.steps):
            torch.baddbmm(self._own_slopes[n], self._coupling, error, out=self._slopes[n])
            error -= self._increments[n]
            for i in range(min(n + 1, MOST)):
                error.addcmul_(weights[n, i], self._slopes[n - i])
        return error

    def gradients(self, weights: Tensor) -> Tensor:
        """Gradients of the sum over runs and columns of the mean square of e(1), a separate one for each problem.

        The same loop backwards, by hand, in half the time of autograd.
        """
        above = 2 / DIMENSION * self.errors(weights)
        found, of_slopes = torch.zeros_like(weights), torch.zeros_like(self._slopes)
        for n in reversed(range(self.steps)):
            for i in range(min(n + 1, MOST)):
                torch.sum(above * self._slopes[n - i], 1, keepdim=True, out=found[n, i])
                of_slopes[n - i].addcmul_(weights[n, i], above)
            above = torch.baddbmm(above, self._coupling.mT, of_slopes[n])
        return found * self.free

    def relative_errors(self, weights: Tensor) -> Tensor:
        """|e(1)| / |y_gt(1)|: [orders, degrees, runs]."""
        lengths = self.errors(weights).double().norm(dim=1).unflatten(1, (len(self.orders), len(self.degrees)))
        relative: Tensor = lengths / self.lengths[:, None]
        return relative.permute(1, 2, 0)


def optimised_weights(integration: Integration, iterations: int, decaying: bool = False) -> Tensor:
    """The weights of each run, order and degree by Adam, which works elementwise, from the classical ones.

    decaying: let the learning rate fall to 0 along a cosine; the paper's is constant.
    """
    weights = integration.classical_weights()
    adam = torch.optim.Adam([weights], lr=LEARNING_RATE)
    for i in range(iterations):
        if decaying:
            adam.param_groups[0]["lr"] = LEARNING_RATE * (1 + math.cos(math.pi * i / iterations)) / 2
        weights.grad = integration.gradients(weights)
        adam.step()
    return weights
