"""The least-squares problem around a table: Jacobian columns by finite differences of the endpoint, forward only."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from dyweight import Plan
from dyweight.sampling import State, advance, ask, start, update

from ..errors import NonFiniteError
from ..losses import EndpointLoss
from ..network import Network
from ..targets import Block
from .parameters import Parameters

NOISY_STEP = 0.02
"""A difference step that only a network with much rounding noise needs."""
CHUNK = 1 << 16
"""Residuals that are turned to float64 at a time."""


@dataclass(frozen=True)
class NormalEquations:
    """The quadratic model of the loss around a vector, mean over all residuals."""

    curvature: Tensor
    """[count, count] float64, J^T W J."""
    gradient: Tensor
    """[count] float64, J^T W r."""
    loss: float

    def step(self, damping: float) -> Tensor:
        """The Levenberg-Marquardt step, damped in proportion to each parameter's own curvature."""
        own = torch.diagonal(self.curvature)
        if not bool(own.any()):
            return torch.zeros_like(self.gradient)
        scale = own.clamp_min(1e-10 * float(own.max()))
        solved: Tensor = torch.linalg.solve(self.curvature + damping * torch.diag(scale), -self.gradient)
        return solved

    def promised(self, step: Tensor) -> float:
        """How much the squared error falls by a step if the model is right."""
        return float(-2 * self.gradient @ step - step @ self.curvature @ step)


@torch.inference_mode()
def normal_equations(
    network: Network,
    blocks: Iterable[Block],
    parameters: Parameters,
    vector: Tensor,
    difference_step: float,
    loss: EndpointLoss,
    deviation: float,
) -> NormalEquations:
    """Sum J^T J and J^T r over the pairs.

    A column is the difference of two rollouts; one that is moved begins at the first row that its parameter touches,
    so a Jacobian costs about 2 N^2 network calls a pair. From NOISY_STEP on both sides are moved, for twice the calls:
    a quarter of the noise, none of it shared with the residuals. Columns are kept on the CPU, one block at a time.
    """
    count = len(parameters)
    curvature, gradient = torch.zeros(count, count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    total, elements = 0.0, 0
    base, moved = parameters.plan(vector), [_moved(parameters, vector, p, difference_step) for p in range(count)]
    for block in blocks:
        end, asked = _rollout(network, block, base)
        columns = [
            _column(network, block, end, asked, plans, first).div_(deviation).flatten().cpu()
            for plans, first in zip(moved, parameters.first_touched, strict=True)
        ]
        residuals = (end - block.target).div_(deviation).flatten().cpu()
        chunks = [torch.split(column, CHUNK) for column in (residuals, *columns)]
        for residual, *slopes in zip(*chunks, strict=True):
            error, jacobian = residual.double(), torch.stack(slopes).double()
            weighted = jacobian * loss.weights(error)
            curvature += weighted @ jacobian.T
            gradient += weighted @ error
            total += float(loss.value(error)) * error.numel()
            elements += error.numel()
    return NormalEquations((curvature + curvature.T) / (2 * elements), gradient / elements, total / elements)


@torch.inference_mode()
def choose_difference_step(
    network: Network, block: Block, parameters: Parameters, vector: Tensor, generator: torch.Generator
) -> float:
    """The step at which a finite difference is least wrong, found along one random direction.

    Rounding in the network adds an error of noise / step, curvature one of step * second derivative; the second
    difference over the step shows their sum. Steps from 1e-3 to 6.4e-2 are tried; where noise asks for a large one,
    it is doubled, as moving both sides leaves no error of first order.
    """
    signs = torch.randint(0, 2, (len(parameters),), generator=generator, dtype=torch.float64) * 2 - 1
    steps = [1e-3 * 2.0**k for k in range(8)]
    here = _end(network, block, parameters.plan(vector))
    ends: list[Tensor] = []
    with contextlib.suppress(ValueError, NonFiniteError):
        ends += (_end(network, block, parameters.plan(vector + step * signs)) for step in steps)
    if len(ends) < 2:
        return steps[0]
    wrong = [
        float((here - 2 * near + far).double().norm()) / step
        for step, near, far in zip(steps, ends, ends[1:], strict=False)
    ]
    best = steps[min(range(len(wrong)), key=wrong.__getitem__)]
    return best if best < NOISY_STEP else 2 * best


def _moved(parameters: Parameters, vector: Tensor, index: int, step: float) -> dict[float, Plan]:
    """Tables with one parameter moved, by the distance moved: both ways from NOISY_STEP on, else to one side."""
    plans = {}
    for distance in (step, -step):
        direction = torch.zeros_like(vector)
        direction[index] = distance
        with contextlib.suppress(ValueError):
            plans[distance] = parameters.plan(vector + direction)
        if plans and step < NOISY_STEP:
            break
    return plans


def _column(
    network: Network, block: Block, end: Tensor, asked: list[State], plans: dict[float, Plan], first: tuple[int, bool]
) -> Tensor:
    """The derivative of the endpoint by one parameter."""
    ends = {distance: _from(network, block, asked, plan, first) for distance, plan in plans.items()}
    if len(ends) == 1:
        ends[0.0] = end
    (far, far_end), (near, near_end) = ends.items()
    return (far_end - near_end) / (far - near)


def _rollout(network: Network, block: Block, plan: Plan) -> tuple[Tensor, list[State]]:
    """The endpoint, and the state after each network call."""
    denoise = network.bound(block.cond, block.first, int(plan.analytic_first_step))
    state = start(block.noise, plan)
    asked = []
    while state.step < plan.rows:
        asked.append(ask(denoise, state, plan, block.noise.dtype))
        state = update(asked[-1], plan)
    return state.x, asked


def _from(network: Network, block: Block, asked: list[State], plan: Plan, first: tuple[int, bool]) -> Tensor:
    """The endpoint of a table that differs from the rollout's only from a row on, at or after that row's call."""
    row, changes_call = first
    state = asked[row] if changes_call else update(asked[row], plan)
    denoise = network.bound(block.cond, block.first, state.step)
    while state.step < plan.rows:
        state = advance(denoise, state, plan, block.noise.dtype)
    return state.x


def _end(network: Network, block: Block, plan: Plan) -> Tensor:
    return _rollout(network, block, plan)[0]
