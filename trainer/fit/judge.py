"""Whether a fit was worth it: its solver against the best handcrafted one, on pairs that neither has seen."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dyweight import FreeTable, Plan, Solver

from ..compare.endpoint_error import pair_errors
from ..compare.handcrafted import handcrafted, solvers
from ..losses.features import Latent
from ..pairs.pairs import Pairs
from ..pairs.targets import Block
from ..run.network import Network

FINALISTS = 2
"""All handcrafted solvers run on the first pair, this number of them on the others."""


EXACT = 1e-30
"""An endpoint error below it counts as this."""


def judging_calls(solver: Solver, network: Network, pairs: Pairs, plans: Mapping[str, Plan]) -> int:
    """Network calls of the judging: of the solver before and after the fit, and of its `handcrafted_rivals`."""
    blocks, each = pairs.test_blocks, network.evaluations(solver)
    rounds = 2 * blocks + len(plans) + FINALISTS * (blocks - 1)
    return pairs.test_targets.batch * rounds * each


def best_handcrafted(network: Network, pairs: Pairs, plans: Mapping[str, Plan]) -> tuple[str, Tensor]:
    """Name and errors [pairs] of the best of `handcrafted_rivals`."""
    features, cluster = Latent(pairs.deviation), pairs.cluster
    blocks = list(pairs.test)

    def errors(names: Sequence[str], among: Sequence[Block]) -> dict[str, Tensor]:
        return {name: pair_errors(network, among, plans[name], features, cluster) for name in names}

    first, rest = (blocks[:1], blocks[1:]) if cluster.first else ([], blocks)
    screened = errors(list(plans), first)
    finalists = sorted(screened, key=lambda name: float(screened[name].mean()))[:FINALISTS]
    if pairs.test_blocks > 1:
        others = errors(finalists, rest)
        screened = {name: torch.cat([screened[name], others[name]]) for name in finalists}
    best = min(finalists, key=lambda name: float(screened[name].mean()))
    return best, screened[best]


def is_worse(errors: Tensor, others: Tensor) -> bool:
    """Whether a solver's errors [pairs] are above another's on average, and not by the chance of a few pairs.

    Endpoint errors have heavy tails: a pair near the border between two pictures may end with many times the others'
    error, by either solver, so that the mean alone would leave the verdict to it. So the ratios must say the same: the
    mean of their logarithms by at least its standard error, which one pair among better ones never reaches.
    """
    errors, others = (one.nan_to_num(nan=math.inf, posinf=math.inf) for one in (errors, others))
    if float(errors.mean()) < float(others.mean()):
        return False
    if len(errors) == 1 or bool((errors.isinf() & ~others.isinf()).any()):
        return True
    ratios = torch.where(errors == others, 0, (errors.clamp_min(EXACT) / others.clamp_min(EXACT)).log())
    return not float(ratios.mean()) < float(ratios.std()) / math.sqrt(len(ratios))


def as_table(network: Network, calls: int, name: str) -> FreeTable:
    """A handcrafted solver of `best_handcrafted`, as a file holds it."""
    checkpoint = network.checkpoint
    solver = FreeTable(checkpoint.schedule(calls), *solvers()[name], schedule=checkpoint.schedule_recipe)
    return solver.requires_grad_(False)


def handcrafted_rivals(network: Network, calls: int) -> Mapping[str, Plan]:
    """Handcrafted solvers with one call a step, at any order, as a file would hold them; of equal tables, the first."""
    handover = "boundary" in (network.checkpoint.schedule_recipe or {})
    schedule, kept = network.checkpoint.schedule(calls).to("cpu", torch.float64), dict[str, Plan]()
    for name, plan in handcrafted(network.checkpoint, calls).items():
        known = any(torch.equal(plan.gains, other.gains) for other in kept.values())
        if not known and plan.sigmas.shape == schedule.shape and torch.allclose(plan.sigmas, schedule):
            kept[name] = as_table(network, calls, name).plan().detach() if handover else plan
    return kept
