"""Whether a fit was worth it: its solver against the best handcrafted one, on pairs that neither has seen."""

from collections.abc import Mapping, Sequence

import torch

from dyweight import FreeTable, Plan, Solver

from ..compare.endpoint_error import error_or_infinity
from ..compare.handcrafted import handcrafted, solvers
from ..losses.features import Latent
from ..pairs.pairs import Pairs
from ..pairs.targets import Block
from ..run.network import Network

FINALISTS = 2
"""All handcrafted solvers run on the first pair, this number of them on the others."""


def judging_calls(solver: Solver, network: Network, pairs: Pairs) -> int:
    """Network calls of the judging: of the solver before and after the fit, and of handcrafted solvers."""
    blocks, each = pairs.test_blocks, network.evaluations(solver)
    rounds = 2 * blocks + len(_rivals(network, each // network.per_call)) + FINALISTS * (blocks - 1)
    return pairs.test_targets.batch * rounds * each


def best_handcrafted(network: Network, pairs: Pairs, calls: int) -> tuple[str, float]:
    """Name and relative endpoint error of the best handcrafted solver with one call a step, at any order."""
    features, cluster, plans = Latent(pairs.deviation), pairs.cluster, _rivals(network, calls)
    count, blocks = pairs.test_blocks, list(pairs.test)

    def errors(names: Sequence[str], among: Sequence[Block]) -> dict[str, float]:
        return {name: error_or_infinity(network, among, plans[name], features, cluster) for name in names}

    first, rest = (blocks[:1], blocks[1:]) if cluster.first else ([], blocks)
    screened = errors(list(plans), first)
    finalists = sorted(screened, key=screened.__getitem__)[:FINALISTS]
    if count > 1:
        others = errors(finalists, rest)
        screened = {name: (screened[name] + (count - 1) * others[name]) / count for name in finalists}
    best = min(finalists, key=screened.__getitem__)
    return best, screened[best]


def as_table(network: Network, calls: int, name: str) -> FreeTable:
    """A handcrafted solver of `best_handcrafted`, as a file holds it."""
    checkpoint = network.checkpoint
    solver = FreeTable(checkpoint.schedule(calls), *solvers()[name], schedule=checkpoint.schedule_recipe)
    return solver.requires_grad_(False)


def _rivals(network: Network, calls: int) -> Mapping[str, Plan]:
    """Those whose table has a row for each step; of equal tables, the first."""
    schedule, kept = network.checkpoint.schedule(calls).to("cpu", torch.float64), dict[str, Plan]()
    for name, plan in handcrafted(network.checkpoint, calls).items():
        known = any(torch.equal(plan.gains, other.gains) for other in kept.values())
        if not known and plan.sigmas.shape == schedule.shape and torch.allclose(plan.sigmas, schedule):
            kept[name] = plan
    return kept
