"""What the network does near each row of a rollout, as linear maps, and what follows from them through the table.

For one pair and row the network answers D at the state x and the noise level q. Near there

    answer(x + v, q exp(s))  =  D + rho v + sum over i of y_i <u_i, v> + s d

With learned guidance a guided row answers a pair; its second map is that of the direction, conditional -
unconditional, at the same states.

`probe` asks for u, y, d and rho (trainer/fit/probing.py); `Maps.learn` corrects them by every answer that comes anyway
(Broyden 1965, on the network instead of on the endpoint). `tangents` and `imagined` go through the table without a
network call.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dyweight import Plan

from .rollout import Rollout
from .sketch import Sketch
from .table import Table


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

    def sketched(self, sketch: Sketch) -> "Maps":
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


def tangents(table: Table, made: Rollout, maps: Maps, until: int) -> Iterator[Tensor]:
    """[pairs, count, elements] for each state up to row `until`: how it moves with the numbers, by the chain rule.

    One after the other, since they may be large: those of one state, and of the residuals that later rows use.
    """
    residuals, gains = made.residuals, table.plan.gains.tolist()
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
        moved = moved + own.mT @ residuals[: row + 1].transpose(0, 1)
        for j, derivative in by_residual.items():
            moved.add_(derivative, alpha=gains[row][j])
        by_residual = {j: by_residual[j] for j in by_residual if j + table.plan.history > row + 1}
        if table.guidance is not None and table.plan.guidance is not None and made.directions is not None:
            own = table.guidance[row, : row + 1].to(residuals)
            moved = moved + own.mT @ made.directions[: row + 1].transpose(0, 1)
            for j, derivative in by_direction.items():
                moved.add_(derivative, alpha=float(table.plan.guidance[row, j]))
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
        x = x + torch.tensordot(gains[row, : row + 1], torch.stack(residuals), 1)
        if plan.guidance is not None and maps.second is not None and made.directions is not None:
            guided = row in plan.guided
            directions.append(made.directions[row] + (maps.second(row, *off)[:, 0] if guided else 0))
            x = x + torch.tensordot(plan.guidance[row, : row + 1].to(x), torch.stack(directions), 1)
    second = torch.stack(directions) if directions else None
    return Rollout(torch.stack([*states, x]), torch.stack(answers), log_queries, second)
