"""What the network does near each row of a rollout, as linear maps, and what follows from them through the table.

For one pair and row the network answers D at the state x and the noise level q. Near there

    answer(x + v, q exp(s))  =  D + rho v + sum over i of y_i <u_i, v> + s d

With learned guidance a guided row answers a pair; its second map is that of the direction, conditional -
unconditional, at the same states.

`probe` asks for u, y, d and rho; `Maps.learn` corrects them by every answer that comes anyway (Broyden 1965, on the
network instead of on the endpoint). `tangents` and `imagined` go through the table without a network call.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from itertools import pairwise
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from dyweight import Plan

from ..pairs.targets import Block
from ..run.network import Network
from .rollout import Rollout, flat
from .sketch import Coordinates, Sketch
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


@dataclass(eq=False)
class Maps:
    """The maps of some pairs, by row."""

    u: list[Tensor]
    """[k, pairs, elements] each, in half precision where they are sketches"""
    y: list[Tensor]
    """[k, pairs, elements] each, as u"""
    d: Tensor
    """[rows, pairs, elements]"""
    rho: Tensor
    """[rows, pairs] what becomes of a direction that nobody asked about"""
    second: "Maps | None" = None
    """those of the guidance's directions, None without guidance"""

    def __call__(self, row: int, v: Tensor, s: Tensor) -> Tensor:
        """How the answer moves with the state by v [pairs, n, elements] and log query by s [n] -> the shape of v."""
        moved = self.rho[row][:, None, None] * v + s.to(v)[:, None] * self.d[row][:, None]
        u, y = (one[row].to(v).transpose(0, 1) for one in (self.u, self.y))
        return moved + (v @ u.mT) @ y

    def learn(self, here: Rollout, there: Rollout, elements: int, first: int, trembling: float = 0.0) -> None:
        """Make the maps right about the answers of another rollout, less so where the inputs moved by less than
        `trembling` noise levels. elements: of the latent, sketched or not."""
        d = list(self.d)
        for row in range(first, len(d)):
            v, s = there.x[row] - here.x[row], there.log_queries[row] - here.log_queries[row]
            wrong = there.answers[row] - here.answers[row] - self(row, v[:, None], s[None])[:, 0]
            level = float(here.log_queries[row].exp()) * elements**0.5
            moved = v.square().sum(1) + level**2 * (float(s) ** 2 + trembling**2)
            moved = moved.clamp_min(1e-30)[:, None]
            self.u[row] = torch.cat([self.u[row], (v / moved)[None].to(self.u[row].dtype)])
            self.y[row] = torch.cat([self.y[row], wrong[None].to(self.y[row].dtype)])
            d[row] = d[row] + wrong * (level**2 * float(s) / moved)
        self.d = torch.stack(d)
        if self.second is not None:
            self.second.learn(here.of_directions(), there.of_directions(), elements, first, trembling)

    def sketched(self, sketch: Sketch | Coordinates) -> "Maps":
        second = None if self.second is None else self.second.sketched(sketch)
        u, y = ([sketch(one).to(sketch.held) for one in both] for both in (self.u, self.y))
        return Maps(u, y, sketch(self.d), self.rho, second)

    def of_pair(self, pair: int) -> "Maps":
        second = None if self.second is None else self.second.of_pair(pair)
        u, y = ([one[:, pair, None] for one in both] for both in (self.u, self.y))
        return Maps(u, y, self.d[:, pair, None], self.rho[:, pair, None], second)

    @classmethod
    def unasked(cls, made: Rollout, guided: bool = False) -> "Maps":
        """Of a network that does not move, with a second one where it is guided."""
        rows, (pairs, elements) = len(made.answers), made.x.shape[1:]
        none = made.x.new_zeros(0, pairs, elements)
        second = cls.unasked(made) if guided else None
        return cls([none] * rows, [none] * rows, torch.zeros_like(made.answers), made.x.new_zeros(rows, pairs), second)


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
            far = down if down < query else up
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
        ends = [ask(query, step * one) for one in u]
        starts = [ask(query, -step * one) if probing.state_sides == 2 else here for one in u]
        y = torch.stack([(e - s) / (step * probing.state_sides) for e, s in zip(ends, starts, strict=True)])
        if guided and maps.second is not None:
            maps.second.u[row], maps.second.y[row] = u, y[..., elements:]
            y = y[..., :elements]
        maps.rho[row] = (u[-2:] * y[-2:]).sum(2).mean(0).clamp(0, 1)
        maps.u[row], maps.y[row] = u, y - maps.rho[row][:, None] * u
    return maps


def tangents(table: Table, made: Rollout, maps: Maps, until: int) -> Iterator[Tensor]:
    """[pairs, count, elements] for each state up to row `until`: how it moves with the numbers, by the chain rule.

    One after the other, since they may be large: those of one state, and of the residuals that later rows use.
    """
    residuals, gains = made.residuals, table.plan.gains
    moved = residuals.new_zeros(residuals.shape[1], table.gains.shape[-1], residuals.shape[2])
    by_residual, by_direction = dict[int, Tensor](), dict[int, Tensor]()
    yield moved
    for row in range(until):
        answered = moved if row < table.first else maps(row, moved, table.log_queries[row])
        by_residual[row] = moved - answered
        del answered
        if row in table.plan.guided and maps.second is not None:
            by_direction[row] = maps.second(row, moved, table.log_queries[row])
        own = table.gains[row, : row + 1].to(residuals)
        moved = moved + torch.einsum("jn,jpe->pne", own, residuals[: row + 1])
        for j, derivative in by_residual.items():
            if gains[row, j]:
                moved += float(gains[row, j]) * derivative
        by_residual = {j: by_residual[j] for j in by_residual if j + table.plan.history > row + 1}
        if table.guidance is not None and table.plan.guidance is not None and made.directions is not None:
            own = table.guidance[row, : row + 1].to(residuals)
            moved = moved + torch.einsum("jn,jpe->pne", own, made.directions[: row + 1])
            for j, derivative in by_direction.items():
                moved += float(table.plan.guidance[row, j]) * derivative
        yield moved


def imagined(plan: Plan, made: Rollout, maps: Maps) -> Rollout:
    """The rollout on another table as the maps have it."""
    log_queries, gains = plan.query_sigmas.log(), plan.gains.to(made.x)
    x, states, answers, directions = made.x[0], list[Tensor](), list[Tensor](), list[Tensor]()
    residuals = list[Tensor]()
    for row in range(plan.rows):
        change = torch.zeros_like(x)
        off = (x - made.x[row])[:, None], (log_queries[row] - made.log_queries[row])[None]
        if row >= int(plan.analytic_first_step):
            change = maps(row, *off)[:, 0]
        states.append(x)
        answers.append(made.answers[row] + change)
        residuals.append(x - answers[-1])
        x = x + torch.einsum("j,jpe->pe", gains[row, : row + 1], torch.stack(residuals))
        if plan.guidance is not None and maps.second is not None and made.directions is not None:
            guided = row in plan.guided
            directions.append(made.directions[row] + (maps.second(row, *off)[:, 0] if guided else 0))
            x = x + torch.einsum("j,jpe->pe", plan.guidance[row, : row + 1].to(x), torch.stack(directions))
    second = torch.stack(directions) if directions else None
    return Rollout(torch.stack([*states, x]), torch.stack(answers), log_queries, second)


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
    by_sigma = _step_of(here, [ask(max(query * math.exp(-step), smallest)) for step in TRIED], 2 * TREMBLES)
    return by_state, by_sigma


def _step_of(here: Tensor, ends: list[Tensor], otherwise: float) -> float:
    """The first tried step whose second difference is curvature's, which grows fourfold when the step doubles; one that
    grows less is rounding or trembling."""
    bends = [float((here - 2 * near + far).norm()) for near, far in pairwise(ends)]
    for doublings, (step, bend) in enumerate(zip(TRIED, bends[:-1], strict=False)):
        if not torch.equal(ends[doublings], here) and bends[-1] >= 4 ** (len(bends) - 1 - doublings) / 2 * bend:
            return step
    return otherwise
