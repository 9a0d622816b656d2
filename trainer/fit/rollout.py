"""What a fit sees of a rollout: states and answers of some pairs, row by row."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dyweight import Plan
from dyweight.sampling import Call

from ..pairs.targets import Block
from ..run.network import Network
from .sketch import Sketch


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

    def sketched(self, sketch: Sketch) -> "Rollout":
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
    pairs, elements = block.noise.flatten(1).shape
    # Made before the calls, since results in between would break up the memory that these give back.
    x, answers = torch.empty(plan.rows + 1, pairs, elements), torch.empty(plan.rows, pairs, elements)
    directions = None if plan.guidance is None else torch.zeros_like(answers)

    def seen(call: Call) -> None:
        x[call.step], answers[call.step] = call.x.flatten(1), call.denoised.flatten(1)
        if directions is not None and call.direction is not None and call.step in plan.guided:
            directions[call.step] = call.direction.flatten(1)

    x[-1] = network.sample(block.noise, block.cond, plan, block.first, callback=seen).flatten(1)
    if plan.analytic_first_step:
        sigma = float(plan.sigmas[0])
        x[0] = block.noise.flatten(1)
        answers[0] = x[0] * (1 - sigma / math.sqrt(1 + sigma**2))
    return Rollout(x, answers, plan.query_sigmas.log(), directions)


def flat(x: Tensor) -> Tensor:
    """[pairs, *shape] -> [pairs, elements], float32 on the CPU."""
    return x.detach().flatten(1).to("cpu", torch.float32).clone()
