"""How far samplers end from the teacher, at equal numbers of network calls."""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

import dyweight
from dyweight import Plan, Solver

from ..checkpoints.protocol import Checkpoint
from ..losses.features import Features, Latent
from ..pairs.pairs import deviation
from ..pairs.targets import Block, Draw
from ..run.cluster import ALONE, Cluster
from ..run.errors import NonFiniteError
from ..run.network import Network

Sampler = Plan | Solver
"""A table for all samples, or a solver that may make one for each."""
CURVE_SAMPLES = 256
"""Samples at most for the errors over steps."""


def plan_for(sampler: Sampler, network: Network, block: Draw) -> Plan:
    """The table for the pairs of a block."""
    if isinstance(sampler, Plan):
        return sampler
    return sampler.plan(noise=block.noise, condition=network.condition(block.cond))


def endpoint(network: Network, block: Block, sampler: Sampler) -> Tensor:
    """Where a sampler takes a block's noise, without gradients."""
    with torch.inference_mode():
        plan = plan_for(sampler, network, block)
        denoise = network.bound(block.cond, block.first, plan=plan)
        return dyweight.sample(denoise, block.noise, plan)


def endpoint_error(
    network: Network, blocks: Iterable[Block], sampler: Sampler, features: Features, cluster: Cluster = ALONE
) -> float:
    """Mean squared difference of the features of endpoints and targets, over their unit^2.

    With the latent itself in standard deviations of the targets it is the relative endpoint error. The mean is over
    the blocks of all processes.
    """
    total, count = cluster.sum(_squares(network, blocks, sampler, features)).tolist()
    return float(total / count)


def error_or_infinity(
    network: Network, blocks: Iterable[Block], sampler: Sampler, features: Features, cluster: Cluster = ALONE
) -> float:
    """`endpoint_error`, infinite for a sampler that drives the network to values that are not finite."""
    try:
        squares = _squares(network, blocks, sampler, features)
    except NonFiniteError as found:
        print(f"warning: {sampler.network_calls} network calls: {found}")
        squares = torch.tensor([math.inf, 1.0], dtype=torch.float64)
    total, count = cluster.sum(squares).tolist()
    return float(total / count) if math.isfinite(total) else math.inf


def _squares(network: Network, blocks: Iterable[Block], sampler: Sampler, features: Features) -> Tensor:
    """Sum of the squared errors, and how many."""
    total, count = 0.0, 0
    for block in blocks:
        error = (features(endpoint(network, block, sampler)) - features(block.target)).double() / features.unit
        total, count = total + float((error**2).sum()), count + error.numel()
    return torch.tensor([total, count], dtype=torch.float64)


def handcrafted(checkpoint: Checkpoint, network_calls: int, names: Iterable[str] | None = None) -> dict[str, Plan]:
    """The handcrafted solvers that make exactly so many network calls on the checkpoint's schedule, by name.

    A solver with two calls a step is left out where no number of its steps gives that count.
    """
    plans = {}
    for name in dyweight.baselines.NAMES if names is None else names:
        for steps in range(1, network_calls + 1):
            plan = dyweight.baselines.plan(name, checkpoint.schedule(steps))
            if plan.network_calls == network_calls:
                plans[name] = plan
    return plans


def errors_at_equal_calls(
    network: Network, blocks: Sequence[Block], learned: Mapping[str, Sampler], names: Sequence[str] | None = None
) -> dict[str, float]:
    """Relative endpoint errors of the learned samplers and the handcrafted solvers with as many calls, best first."""
    calls = next(iter(learned.values())).network_calls
    samplers = {**learned, **handcrafted(network.checkpoint, calls, names)}
    features = Latent(deviation(blocks))
    errors = {name: error_or_infinity(network, blocks, sampler, features) for name, sampler in samplers.items()}
    return dict(sorted(errors.items(), key=lambda item: item[1]))


def errors_over_calls(
    network: Network, blocks: Sequence[Block], most_calls: int, names: Sequence[str] | None = None
) -> dict[str, dict[int, float]]:
    """Handcrafted solver -> number of network calls, from 2 -> relative endpoint error, on CURVE_SAMPLES samples."""
    few = blocks[: max(1, CURVE_SAMPLES // len(blocks[0].noise))]
    features = Latent(deviation(few))
    curves: dict[str, dict[int, float]] = {}
    for calls in range(2, most_calls + 1):
        for name, plan in handcrafted(network.checkpoint, calls, names).items():
            curves.setdefault(name, {})[calls] = error_or_infinity(network, few, plan, features)
    return curves
