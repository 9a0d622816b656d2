"""Asking the network for its maps around a rollout, and by how far to move it for that."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from itertools import pairwise
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from dyweight import Plan

from ..pairs.targets import Block
from ..run.network import Network
from .maps import Maps, tangents
from .rollout import Rollout, flat
from .table import Table

Given = ParamSpec("Given")
Found = TypeVar("Found")

DIRECTIONS = 8
"""Asked at a row: the tangents of all earlier numbers lie almost in so many, for one pair."""
TRIED = (0.02, 0.04, 0.08, 0.16)
TREMBLES = 0.1
"""From this step on inputs are moved to both sides. It is the step of a state where a smaller one would measure
rounding, and half that of log sigma where the answer trembles or jumps with it."""
LEAST = 1e-10
"""Of the largest squared singular value: directions below it are rounding."""


@dataclass(frozen=True)
class Probing:
    """How the network is asked for its derivatives."""

    state_step: float
    """in parts of the noise's norm"""
    sigma_step: float
    """of log sigma"""
    directions: int
    smallest: float
    """the noise levels that the network is asked at stay between these two"""
    largest: float

    @property
    def state_sides(self) -> int:
        """To how many sides a state is moved: both where a large step would leave an error of first order."""
        return 2 if self.state_step >= TREMBLES else 1

    @property
    def sigma_sides(self) -> int:
        return 2 if self.sigma_step >= TREMBLES else 1

    @property
    def trembling(self) -> float:
        """A shorter move says little about the network's derivatives, in noise levels; 0 where any is as good."""
        longest = max(self.state_step, self.sigma_step)
        return longest if longest >= TREMBLES else 0.0

    def calls(self, table: Table) -> int:
        """Network calls, at most, for the maps of one pair."""
        return table.probe_calls(self.directions, self.state_sides, self.sigma_sides)


def _set_up_once(
    asks: Callable[Concatenate[Network, Block, Given], Found],
) -> Callable[Concatenate[Network, Block, Given], Found]:
    """Of a function that asks the network about some pairs: what its calls need is set up as for a sampling run."""

    @wraps(asks)
    def prepared(network: Network, block: Block, /, *given: Given.args, **named: Given.kwargs) -> Found:
        with torch.inference_mode():
            return network.checkpoint.prepared(block.noise, block.cond, lambda: asks(network, block, *given, **named))

    return prepared


@_set_up_once
def probe(network: Network, block: Block, table: Table, made: Rollout, probing: Probing) -> Maps:
    """Ask for the maps of some pairs around their rollout, row by row; latents are whole.

    At each row: once at another noise level, and once along each leading singular direction of the tangents that reach
    it. With all directions asked, the Jacobian that follows is that of full differences.
    """
    plan = table.plan
    elements = made.x.shape[2]
    maps = Maps.unasked(made, plan.guidance is not None)
    for row in range(table.first, plan.rows):
        query, here, guided = float(plan.query_sigmas[row]), made.answers[row], row in plan.guided
        if guided and made.directions is not None:
            here = torch.cat([here, made.directions[row]], 1)
        ask = _asker(network, block, plan, row, made.x[row], guided)
        down = max(query * math.exp(-probing.sigma_step), probing.smallest)
        up = min(query * math.exp(probing.sigma_step), probing.largest)
        if probing.sigma_sides == 1 or not down < query < up:
            far = down if (1 + 1e-9) * query / down >= up / query else up  # upward only where down is cut off
            by_sigma = (ask(far) - here) / math.log(far / query)
        else:
            by_sigma = (ask(up) - ask(down)) / math.log(up / down)
        maps.d[row] = by_sigma[:, :elements]
        if guided and maps.second is not None:
            maps.second.d[row] = by_sigma[:, elements:]
        u = _directions(table.of_state(row), made, maps, row, probing.directions)
        if len(u) == 0:
            continue
        step = probing.state_step * query * elements**0.5
        y = here.new_empty(len(u), *here.shape)  # before the calls, as in a rollout
        for k, one in enumerate(u):
            y[k] = ask(query, step * one)
            y[k] -= ask(query, -step * one) if probing.state_sides == 2 else here
        y /= step * probing.state_sides
        if guided and maps.second is not None:
            maps.second.u[row], maps.second.y[row] = u, y[..., elements:]
            y = y[..., :elements]
        maps.rho[row] = (u[-2:] * y[-2:]).sum(2).mean(0).clamp(0, 1)
        y -= maps.rho[row][:, None] * u
        maps.u[row], maps.y[row] = u, y
    return maps


def _directions(table: Table, made: Rollout, maps: Maps, row: int, most: int) -> Tensor:
    """At most so many orthonormal [k, pairs, elements], those that hold most of the tangents of a row's state.

    Each tangent counts alike, whatever its number's unit. They may be large: those of one pair after the other.
    """
    pairs, elements = made.x.shape[1:]
    count = min(most, table.gains.shape[-1], elements)
    orthonormal, k = made.x.new_zeros(count, pairs, elements), 0
    for pair in range(pairs if count else 0):
        ((moved,),) = deque(tangents(table, made.of_pair(pair), maps.of_pair(pair), row), maxlen=1)
        moved = torch.nn.functional.normalize(moved.double(), dim=1, eps=1e-300)
        values, vectors = (one.flip(-1) for one in torch.linalg.eigh(moved @ moved.mT))
        k = max(k, int((values[:count] > LEAST * values[0]).sum()))
        orthonormal[:, pair] = torch.linalg.qr(moved.mT @ vectors[:, :count])[0].mT
    return orthonormal[:k]


def _asker(
    network: Network, block: Block, plan: Plan, row: int, x: Tensor, guided: bool = False
) -> Callable[..., Tensor]:
    """ask(sigma, offset) -> the network's answer at a row's state, flat; then the direction, where it is guided."""

    def ask(sigma: float, offset: Tensor | float = 0.0) -> Tensor:
        noise = block.noise
        wide = torch.promote_types(noise.dtype, torch.float32)
        at = noise.new_full((len(noise),), sigma, dtype=wide)
        denoise = network.bound(block.cond, block.first, row, plan=plan)
        asked = (x + offset).reshape(noise.shape).to(noise), at
        if not guided:
            return flat(denoise(*asked) if plan.guidance is None else denoise(*asked, False))
        conditional, unconditional = map(flat, denoise(*asked, True))
        return torch.cat([conditional, conditional - unconditional], 1)

    return ask


@_set_up_once
def steps_of(network: Network, block: Block, made: Rollout, plan: Plan, smallest: float) -> tuple[float, float]:
    """(state step, sigma step) by which to move the network, from what it answers at the middle row of some pairs.

    2 len(TRIED) calls.
    """
    row = plan.rows // 2
    query, here = float(plan.query_sigmas[row]), made.answers[row]
    ask = _asker(network, block, plan, row, made.x[row])
    residual = made.residuals[row]
    along = residual / residual.norm(dim=1, keepdim=True).clamp_min(1e-30) * (query * residual.shape[1] ** 0.5)
    by_state = _step_of(here, [ask(query, step * along) for step in TRIED], TREMBLES)
    down = query * math.exp(-max(TRIED)) >= smallest
    by_sigma = _step_of(here, [ask(query * math.exp(-step if down else step)) for step in TRIED], 2 * TREMBLES)
    return by_state, by_sigma


def _step_of(here: Tensor, ends: list[Tensor], otherwise: float) -> float:
    """The first tried step whose second difference is curvature's, which grows fourfold when the step doubles; one that
    grows less is rounding or trembling."""
    bends = [float((here - 2 * near + far).norm()) for near, far in pairwise(ends)]
    for doublings, (step, bend) in enumerate(zip(TRIED, bends[:-1], strict=False)):
        if not torch.equal(ends[doublings], here) and bends[-1] >= 4 ** (len(bends) - 1 - doublings) / 2 * bend:
            return step
    return otherwise
