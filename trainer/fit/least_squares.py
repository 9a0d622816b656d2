"""The problem around a table: least squares, with the network's inputs moved a little only, and within its range."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from dyweight import Plan

from ..losses.endpoint import EndpointLoss
from ..losses.features import Latent
from .limits import Limits
from .maps import Maps, tangents
from .rollout import Rollout
from .table import Table

FEATURE_STEP = 1e-2
"""Of the endpoint's own length: how far it is moved to differentiate the features of a loss."""
SWEEPS, HALVINGS = 200, 60
RIDGE = 1e-7
"""Of a number's own curvature. What the sums say of numbers that together move nothing, as all logits of a learned
schedule, is rounding of float32; a smaller ridge makes large steps of it."""


@dataclass(frozen=True)
class LeastSquares:
    """The quadratic model of the loss around a vector, and of how far a step moves the network's inputs."""

    curvature: Tensor
    """[count, count] float64, J^T W J, mean over all residuals"""
    gradient: Tensor
    """[count] J^T W r"""
    loss: float
    movement: Tensor
    """[count, count] of the squared movement, in noise levels, mean over pairs and rows"""
    moved: float
    """how far they are from where the network was last asked"""

    def step(self, radius: float, limits: Limits) -> Tensor:
        """The least loss among steps within the limits that move the inputs by `radius` at most."""
        scale = float(torch.diagonal(self.curvature).sum() / torch.diagonal(self.movement).sum().clamp_min(1e-300))
        low, high = 1e-12, 1e12
        step = self._damped(low * scale, limits)
        if self.movement_of(step) <= radius:
            return step
        for _ in range(HALVINGS):
            middle = (low * high) ** 0.5
            far = self.movement_of(self._damped(middle * scale, limits)) > radius
            low, high = (middle, high) if far else (low, middle)
            if high / low < 1.05:
                break
        return self._damped(high * scale, limits)

    @cached_property
    def _ridge(self) -> Tensor:
        own = torch.diagonal(self.curvature)
        return RIDGE * own + (own == 0)

    def movement_of(self, step: Tensor) -> float:
        """How far a step moves the network's inputs, in noise levels."""
        return math.sqrt(max(0.0, float(step @ self.movement @ step)))

    def _damped(self, damping: float, limits: Limits) -> Tensor:
        """The step of the damped problem; within the limits by Hildreth's method on the dual (1957)."""
        system = self.curvature + damping * self.movement
        diagonal = torch.diagonal(system)
        ridge = self._ridge + 1e-10 * diagonal
        diagonal += ridge
        factor, failed = torch.linalg.cholesky_ex(system)
        while int(failed) and float(ridge.max()) < 1e30:
            diagonal += 99 * ridge
            ridge = 100 * ridge
            factor, failed = torch.linalg.cholesky_ex(system)
        free: Tensor = torch.cholesky_solve(-self.gradient[:, None], factor)[:, 0]
        over = limits.constraints @ free - limits.bounds
        if bool((over <= 0).all()):
            return free
        answers = torch.cholesky_solve(limits.constraints.T, factor)
        dual = (limits.constraints @ answers).tolist()
        force, excess = [0.0] * len(dual), over.tolist()
        for _ in range(SWEEPS):
            largest = 0.0
            for i, row in enumerate(dual):
                change = max(excess[i] / row[i], -force[i]) if row[i] > 0 else 0.0
                if change:
                    force[i] += change
                    excess = [left - a * change for left, a in zip(excess, row, strict=True)]
                    largest = max(largest, abs(change))
            if largest <= 1e-9 * max(force):
                break
        return free - answers @ torch.tensor(force, dtype=free.dtype)


def sums(
    loss: EndpointLoss, shape: tuple[int, ...], table: Table, centre: Rollout, made: Rollout, maps: Maps, target: Tensor
) -> Tensor:
    """[pairs, n] what each pair adds to the problem; `problem` makes the problem of the sum over all.

    made: the rollout of the table, real or imagined, whose movement from the centre counts. target [pairs, elements].
    shape: of a latent, for a loss of features; sketches have none, and no such loss.
    """
    count = table.gains.shape[-1]
    movement = torch.zeros(len(target), count, count, dtype=torch.float64)
    for row, moved in enumerate(tangents(table, made, maps, table.plan.rows)):
        if table.first <= row < table.plan.rows and table.moving(row):
            d = moved.double() / float(centre.log_queries[row].exp())
            movement += d @ d.mT
    residual, jacobian = _residuals(loss, shape, made.x[-1], target, moved)
    size = _residual_count(loss, shape, residual)
    weighted = (jacobian * loss.weights(residual, size)[:, None]).double()
    curvature = weighted @ jacobian.double().mT / size
    gradient = (weighted @ residual.double()[..., None])[..., 0] / size
    told = ends(loss, shape, made, centre, target)
    return torch.cat([curvature.flatten(1), gradient, movement.flatten(1), told], 1)


def ends(loss: EndpointLoss, shape: tuple[int, ...], made: Rollout, centre: Rollout, target: Tensor) -> Tensor:
    """[pairs, 3]: the loss of each, its squared movement from the centre summed over rows, and 1, which counts it."""
    residual = _residuals(loss, shape, made.x[-1], target, None)[0]
    levels = centre.log_queries.exp().to(made.x)[:, None, None]
    far = ((made.x[:-1] - centre.x[:-1]) / levels).double().square().sum((0, 2))
    losses = loss.limited(loss.of_pairs(residual, _residual_count(loss, shape, residual)))
    return torch.stack([losses, far, torch.ones_like(losses)], 1)


def _residual_count(loss: EndpointLoss, shape: tuple[int, ...], residual: Tensor) -> int:
    """Of a pair: a sketch has fewer numbers than what it stands for, with the same sum of squares."""
    return math.prod(shape) if isinstance(loss.features, Latent) else residual.shape[1]


def problem(summed: Tensor, table: Table, centre: Tensor, elements: int) -> LeastSquares:
    """The problem of the sums of all pairs. centre: [rows] log queries from which movement counts. elements: of a
    latent."""
    count = table.gains.shape[-1]
    curvature, gradient, movement, told = torch.split(summed, [count**2, count, count**2, 3])
    loss, far, pairs = told.tolist()
    asked = table.plan.rows - table.first
    by = table.log_queries
    return LeastSquares(
        curvature.reshape(count, count) / pairs,
        gradient / pairs,
        loss / pairs,
        (movement.reshape(count, count) / (pairs * elements) + by.T @ by) / asked,
        distance(far / (pairs * elements), table.plan, centre),
    )


def distance(far: float, plan: Plan, centre: Tensor) -> float:
    """How far the network's inputs are from where it was last asked, in noise levels, root mean square over calls.

    far: squared movement of the states in noise levels, summed over rows, mean over pairs and elements. centre: [rows]
    log queries there.
    """
    off = plan.query_sigmas.log() - centre
    return math.sqrt((far + float(off.square().sum())) / plan.network_calls)


def _residuals(
    loss: EndpointLoss, shape: tuple[int, ...], end: Tensor, target: Tensor, moved: Tensor | None
) -> tuple[Tensor, Tensor]:
    """[pairs, n] residuals and their derivatives [pairs, count, n]; those of features by differences."""
    features = loss.features
    moved = end.new_zeros(len(end), 0, end.shape[1]) if moved is None else moved
    if isinstance(features, Latent):
        return (end - target) / features.unit, moved / features.unit
    here = features(end.reshape(-1, *shape))
    residual = (here - features(target.reshape(-1, *shape))) / features.unit
    columns = []
    for direction in moved.unbind(1):
        step = FEATURE_STEP * float(end.norm()) / max(float(direction.norm()), 1e-30)
        there = features((end + step * direction).reshape(-1, *shape))
        columns.append((there - here) / (step * features.unit))
    return residual, torch.stack(columns, 1) if columns else here[:, None][:, :0]
