"""What a fit sees of a rollout: states and answers of some pairs, row by row."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dyweight import Plan
from dyweight.sampling import Call

from ..pairs.targets import Block
from ..run.network import Network
from .sketch import Coordinates, Sketch


@dataclass(eq=False)
class Rollout:
    """States and answers of some pairs on one table, latents flat, float32 on the CPU."""

    x: Tensor
    """[rows + 1, pairs, elements], the last the endpoint"""
    answers: Tensor
    """[rows, pairs, elements]"""
    log_queries: Tensor
    """[rows] float64"""
    directions: Tensor | None = None
    """[rows, pairs, elements] conditional - unconditional, 0 in rows that are not guided; None without guidance"""

    @property
    def residuals(self) -> Tensor:
        return self.x[:-1] - self.answers

    def sketched(self, sketch: Sketch | Coordinates) -> "Rollout":
        directions = None if self.directions is None else sketch(self.directions)
        return Rollout(sketch(self.x), sketch(self.answers), self.log_queries, directions)

    def of_pair(self, pair: int) -> "Rollout":
        directions = None if self.directions is None else self.directions[:, pair, None]
        return Rollout(self.x[:, pair, None], self.answers[:, pair, None], self.log_queries, directions)

    def of_directions(self) -> "Rollout":
        """The same states with the directions as the answers."""
        assert self.directions is not None
        return Rollout(self.x, self.directions, self.log_queries)


def rollout(network: Network, block: Block, plan: Plan) -> Rollout:
    """Sample some pairs and keep what was seen; latents are whole."""
    states, answers, directions = list[Tensor](), list[Tensor](), list[Tensor]()

    def seen(call: Call) -> None:
        if call.step == int(plan.analytic_first_step):  # of a run that may have begun again
            for kept in (states, answers, directions):
                kept.clear()
        states.append(flat(call.x))
        answers.append(flat(call.denoised))
        if plan.guidance is not None:
            newest = call.direction if call.step in plan.guided else None
            directions.append(torch.zeros_like(states[-1]) if newest is None else flat(newest))

    end = network.sample(block.noise, block.cond, plan, block.first, callback=seen)
    if plan.analytic_first_step:
        noise, sigma = flat(block.noise), float(plan.sigmas[0])
        states.insert(0, noise)
        answers.insert(0, noise * (1 - sigma / math.sqrt(1 + sigma**2)))
        directions = [torch.zeros_like(noise), *directions] if directions else []
    second = torch.stack(directions) if directions else None
    return Rollout(torch.stack([*states, flat(end)]), torch.stack(answers), plan.query_sigmas.log(), second)


def flat(x: Tensor) -> Tensor:
    """[pairs, *shape] -> [pairs, elements], float32 on the CPU."""
    return x.detach().flatten(1).to("cpu", torch.float32).clone()
