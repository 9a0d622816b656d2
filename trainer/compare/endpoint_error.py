"""Distances of samplers' endpoints from the teacher's, at equal numbers of network calls."""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from dyweight import Plan, Solver

from ..checkpoints.protocol import Rival
from ..losses.features import Features, Latent
from ..pairs.pairs import deviation
from ..pairs.targets import Block, Draw
from ..run.cluster import ALONE, Cluster
from ..run.errors import NonFiniteError
from ..run.network import Network
from .handcrafted import handcrafted

Sampler = Plan | Solver | Rival
"""A table for all samples, a solver that may make one for each sample, or other code."""
CURVE_SAMPLES = 256
"""Largest number of samples for the errors over steps."""


def plan_for(sampler: Plan | Solver, network: Network, block: Draw) -> Plan:
    """The table for the pairs of a block, with learned guidance as strong as the checkpoint's cfg asks for."""
    if isinstance(sampler, Plan):
        return sampler
    reads = {"noise": block.noise, "condition": network.condition(block.cond)} if sampler.reads_samples else {}
    plan, cfg = sampler.plan(**reads), network.checkpoint.cfg
    if sampler.guided_at in (None, cfg) or cfg is None:
        return plan
    return plan.with_guidance_times((cfg - 1) / (sampler.guided_at - 1))


def endpoint(network: Network, block: Draw, sampler: Sampler) -> Tensor:
    """The endpoints [B, *shape] of a sampler from a block's noise, without gradients. Raises NonFiniteError."""
    with torch.inference_mode():
        if isinstance(sampler, Rival):
            end = sampler.sample(block.noise, block.cond)
            network.count(network.evaluations(sampler) * len(block.noise))
            if not bool(torch.isfinite(end).all()):
                raise NonFiniteError("pairs from {pair}: the sampler gave a value that is not finite", pair=block.first)
            return end
        return network.sample(block.noise, block.cond, plan_for(sampler, network, block), block.first)


def endpoint_error(
    network: Network, blocks: Iterable[Block], sampler: Sampler, features: Features, cluster: Cluster = ALONE
) -> float:
    """Mean squared difference of the features of endpoints and targets, divided by unit^2.

    For the latent itself, in standard deviations of the targets, it is the relative endpoint error. The mean is taken
    over the blocks of all processes.
    """
    squares, count = 0.0, 0
    for block in blocks:
        error = _errors_in(network, block, sampler, features)
        squares, count = squares + float(error.square().sum()), count + error.numel()
    return cluster.total(squares) / cluster.total(count)


def error_or_infinity(
    network: Network, blocks: Iterable[Block], sampler: Sampler, features: Features, cluster: Cluster = ALONE
) -> float:
    """`endpoint_error`; infinity if the network gives values that are not finite."""
    return float(pair_errors(network, blocks, sampler, features, cluster).mean())


def pair_errors(
    network: Network, blocks: Iterable[Block], sampler: Sampler, features: Features, cluster: Cluster = ALONE
) -> Tensor:
    """[pairs] float64: what each pair of all processes adds to `endpoint_error`, in order.

    Infinity from the first block on where the network gives values that are not finite.
    """
    own, finite = dict[int, Tensor](), True
    for block in blocks:
        own[block.first] = torch.full((len(block.noise),), math.inf, dtype=torch.float64)
        try:
            if finite:
                own[block.first] = _errors_in(network, block, sampler, features).square().mean(1).cpu()
        except NonFiniteError as found:
            print(f"warning: {sampler.network_calls} network calls: {found}")
            finite = False
    every = {first: errors for others in cluster.gather(own) for first, errors in others.items()}
    return torch.cat([every[first] for first in sorted(every)])


def _errors_in(network: Network, block: Block, sampler: Sampler, features: Features) -> Tensor:
    """[pairs, n] float64, in units. Raises NonFiniteError."""
    error = features(endpoint(network, block, sampler)) - features(block.target)
    return error.double().flatten(1) / features.unit


def errors_at_equal_calls(
    network: Network, blocks: Sequence[Block], samplers: Mapping[str, Sampler]
) -> dict[str, float]:
    """Relative endpoint errors by name, best first."""
    errors = _errors(network, blocks, samplers, Latent(deviation(blocks)))
    return dict(sorted(errors.items(), key=lambda item: item[1]))


def errors_over_calls(
    network: Network, blocks: Sequence[Block], most_calls: int, names: Sequence[str] | None = None
) -> dict[str, dict[int, float]]:
    """Handcrafted solver -> number of network calls, from 2 up -> relative endpoint error on CURVE_SAMPLES samples.

    They are counted as the network counts them: evaluations where guidance is learned.
    """
    few = blocks[: max(1, CURVE_SAMPLES // len(blocks[0].noise))]
    features = Latent(deviation(few))
    curves: dict[str, dict[int, float]] = {}
    for calls in range(2, most_calls // network.per_call + 1):
        for name, error in _errors(network, few, handcrafted(network.checkpoint, calls, names), features).items():
            curves.setdefault(name, {})[calls * network.per_call] = error
    return curves


def _errors(
    network: Network, blocks: Sequence[Block], samplers: Mapping[str, Sampler], features: Features
) -> dict[str, float]:
    """Errors by name; samplers with the same table, such as Euler and first-order iPNDM, are run once."""
    run: list[tuple[Sampler, float]] = []
    errors = {}
    for name, sampler in samplers.items():
        known = (error for other, error in run if _same_table(sampler, other))
        errors[name] = next(known, None) or error_or_infinity(network, blocks, sampler, features)
        run.append((sampler, errors[name]))
    return errors


def _same_table(one: Sampler, other: Sampler) -> bool:
    if not isinstance(one, Plan) or not isinstance(other, Plan):
        return False
    return all(torch.equal(getattr(one, part), getattr(other, part)) for part in ("sigmas", "query_sigmas", "gains"))
