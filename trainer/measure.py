"""How far samplers end from the teacher, at equal numbers of network calls."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

import dyweight
from dyweight import Plan

from .checkpoints import Checkpoint
from .errors import NonFiniteError
from .network import Network
from .targets import Block


def endpoint(network: Network, block: Block, plan: Plan) -> Tensor:
    """Where a plan takes a block's noise, without gradients."""
    with torch.inference_mode():
        return dyweight.sample(network.bound(block.cond, block.first), block.noise, plan)


def endpoint_error(network: Network, blocks: Iterable[Block], plan: Plan, deviation: float) -> float:
    """Mean squared endpoint error against the blocks' targets, divided by the targets' variance."""
    total, count = 0.0, 0
    for block in blocks:
        error = (endpoint(network, block, plan) - block.target).double() / deviation
        total, count = total + float((error**2).sum()), count + error.numel()
    return total / count


def error_or_infinity(network: Network, blocks: Iterable[Block], plan: Plan, deviation: float) -> float:
    """`endpoint_error`, infinite for a plan that drives the network to values that are not finite."""
    try:
        error = endpoint_error(network, blocks, plan, deviation)
    except NonFiniteError:
        return math.inf
    return error if math.isfinite(error) else math.inf


def handcrafted(checkpoint: Checkpoint, network_calls: int, names: Iterable[str] | None = None) -> dict[str, Plan]:
    """The handcrafted solvers that make exactly so many network calls on the checkpoint's schedule, by name.

    A solver with two calls a step is left out where no number of its steps gives that count.
    """
    plans = {}
    for name in names or dyweight.baselines.NAMES:
        for steps in range(1, network_calls + 1):
            plan = dyweight.baselines.plan(name, checkpoint.schedule(steps))
            if plan.network_calls == network_calls:
                plans[name] = plan
    return plans
