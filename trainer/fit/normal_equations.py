"""The least-squares problem around a table: Jacobian columns by finite differences of the endpoint, forward only."""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from dyweight import Plan
from dyweight.sampling import State, advance, ask, start, update

from ..losses.endpoint import EndpointLoss
from ..pairs.targets import Block, Draw
from ..run.cluster import ALONE, Cluster
from ..run.errors import NonFiniteError
from ..run.network import Network
from .parameters import Parameters

NOISY_STEP = 0.02
"""A difference step that only a network with much rounding noise needs."""
TRIED_STEPS = tuple(1e-3 * 2.0**k for k in range(8))
"""Difference steps to choose from."""
CHOICE_ROLLOUTS = 1 + len(TRIED_STEPS)
"""Rollouts of one block that the choice takes."""
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
    parameters: Parameters[Any],
    vector: Tensor,
    difference_step: float,
    loss: EndpointLoss,
    together: Mapping[int, Draw] = MappingProxyType({}),
    cluster: Cluster = ALONE,
) -> NormalEquations:
    """Sum J^T J and J^T r over the pairs of all processes.

    blocks: this process's own. together: blocks by index whose columns are dealt out; who owns a block, adds it up.

    A column is the difference of two rollouts; one that is moved begins at the first row that its parameter touches,
    so a Jacobian costs about 2 N^2 network calls a pair. From NOISY_STEP on both sides are moved, for twice the calls:
    a quarter of the noise, none of it shared with the residuals. Columns are kept on the CPU, one block at a time.
    """
    count = len(parameters)
    base, moved = parameters.plan(vector), [_moved(parameters, vector, p, difference_step) for p in range(count)]
    sums = _Sums(count, loss)

    def columns_of(block: Draw, which: Iterable[int]) -> tuple[Tensor, dict[int, Tensor]]:
        x, asked = _rollout(network, block, base)
        end = loss.features(x)

        def features_of(plan: Plan, first: tuple[int, bool]) -> Tensor:
            return loss.features(_from(network, block, asked, plan, first))

        def column(p: int) -> Tensor:
            ends = {distance: features_of(plan, parameters.first_touched[p]) for distance, plan in moved[p].items()}
            return _slope(ends, end).div_(loss.features.unit).flatten().cpu()

        return end, {p: column(p) for p in which}

    def residual(end: Tensor, target: Tensor) -> Tensor:
        return (end - loss.features(target)).div_(loss.features.unit).flatten().cpu()

    for block in blocks:
        end, columns = columns_of(block, range(count))
        sums.add(residual(end, block.target), columns)
    for index, drawn in together.items():
        owner = index % cluster.size
        dealt = _dealt(parameters, sides_moved(difference_step), cluster.size)
        end, columns = columns_of(drawn, dealt[(cluster.rank + index) % cluster.size])
        for others in cluster.gather(columns, to=owner):
            columns |= others
        if isinstance(drawn, Block):
            sums.add(residual(end, drawn.target), columns)
    return sums.over_all(cluster)


def _dealt(parameters: Parameters[Any], sides: int, size: int) -> list[list[int]]:
    """Which columns each process makes: about as many calls for each, since all wait for the last."""
    busy, columns = [0] * size, [list[int]() for _ in range(size)]
    for p, calls in sorted(enumerate(parameters.column_calls(sides)), key=lambda item: -item[1]):
        process = busy.index(min(busy))
        busy[process] += calls
        columns[process].append(p)
    return columns


class _Sums:
    """What the pairs add to the normal equations."""

    def __init__(self, count: int, loss: EndpointLoss) -> None:
        self._loss = loss
        self._curvature = torch.zeros(count, count, dtype=torch.float64)
        self._gradient = torch.zeros(count, dtype=torch.float64)
        self._total = torch.zeros(2, dtype=torch.float64)
        """Loss times elements, and elements."""

    def add(self, residuals: Tensor, columns: Mapping[int, Tensor]) -> None:
        ordered = [columns[p] for p in range(len(self._gradient))]
        chunks = [torch.split(column, CHUNK) for column in (residuals, *ordered)]
        for residual, *slopes in zip(*chunks, strict=True):
            error, jacobian = residual.double(), torch.stack(slopes).double()
            weighted = jacobian * self._loss.weights(error)
            self._curvature += weighted @ jacobian.T
            self._gradient += weighted @ error
            pieces = [float(self._loss.value(error)) * error.numel(), error.numel()]
            self._total += torch.tensor(pieces, dtype=torch.float64)

    def over_all(self, cluster: Cluster) -> NormalEquations:
        """The mean over the elements of all processes."""
        parts = (self._curvature, self._gradient, self._total)
        sums = cluster.sum(torch.cat([part.flatten() for part in parts]))
        *means, _ = torch.split(sums / sums[-1], [part.numel() for part in parts[:2]] + [1, 1])
        curvature = means[0].reshape(self._curvature.shape)
        return NormalEquations((curvature + curvature.T) / 2, means[1], float(means[2]))


@torch.inference_mode()
def choose_difference_step(
    network: Network, block: Block, parameters: Parameters[Any], vector: Tensor, generator: torch.Generator
) -> float:
    """The step at which a finite difference is least wrong, found along one random direction.

    Rounding in the network adds an error of noise / step, curvature one of step * second derivative; the second
    difference over the step shows their sum. TRIED_STEPS up to 6.4e-2 can win; where noise asks for a large one, it is
    doubled, as moving both sides leaves no error of first order.
    """
    signs = torch.randint(0, 2, (len(parameters),), generator=generator, dtype=torch.float64) * 2 - 1
    here = _end(network, block, parameters.plan(vector))
    ends: list[Tensor] = []
    with contextlib.suppress(ValueError, NonFiniteError):
        ends += (_end(network, block, parameters.plan(vector + step * signs)) for step in TRIED_STEPS)
    if len(ends) < 2:
        return TRIED_STEPS[0]
    wrong = [
        float((here - 2 * near + far).double().norm()) / step
        for step, near, far in zip(TRIED_STEPS, ends, ends[1:], strict=False)
    ]
    best = TRIED_STEPS[min(range(len(wrong)), key=wrong.__getitem__)]
    return best if best < NOISY_STEP else 2 * best


def sides_moved(difference_step: float) -> int:
    """To how many sides a number is moved: both where noise asked for a large step."""
    return 1 if difference_step < NOISY_STEP else 2


def _moved(parameters: Parameters[Any], vector: Tensor, index: int, step: float) -> dict[float, Plan]:
    """Tables with one parameter moved, by the distance moved: both ways from NOISY_STEP on, else to one side."""
    plans, sides = dict[float, Plan](), sides_moved(step)
    while not plans:  # where times come near to 0, neither side of a large step may be a table
        for distance in (step, -step):
            direction = torch.zeros_like(vector)
            direction[index] = distance
            with contextlib.suppress(ValueError):
                plans[distance] = parameters.plan(vector + direction)
            if plans and sides == 1:
                break
        step /= 2
    return plans


def _slope(ends: dict[float, Tensor], end: Tensor) -> Tensor:
    """The derivative by one parameter, from the endpoints by how far it was moved; end: that of not moving."""
    (far, far_end), (near, near_end) = (ends if len(ends) == 2 else {**ends, 0.0: end}).items()
    return (far_end - near_end) / (far - near)


def _rollout(network: Network, block: Draw, plan: Plan) -> tuple[Tensor, list[State]]:
    """The endpoint, and the state after each network call."""
    denoise = network.bound(block.cond, block.first, plan=plan)
    state = start(block.noise, plan)
    asked = []
    while state.step < plan.rows:
        asked.append(ask(denoise, state, plan, block.noise.dtype))
        state = update(asked[-1], plan)
    return state.x, asked


def _from(network: Network, block: Draw, asked: list[State], plan: Plan, first: tuple[int, bool]) -> Tensor:
    """The endpoint of a table that differs from the rollout's only from a row on, at or after that row's call."""
    row, changes_call = first
    state = asked[row] if changes_call else update(asked[row], plan)
    denoise = network.bound(block.cond, block.first, state.step, plan=plan)
    while state.step < plan.rows:
        state = advance(denoise, state, plan, block.noise.dtype)
    return state.x


def _end(network: Network, block: Block, plan: Plan) -> Tensor:
    return _rollout(network, block, plan)[0]
