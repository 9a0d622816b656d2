"""Whether a fit was worth it: its solver against the best handcrafted one, on pairs that neither has seen."""

import math
from collections.abc import Sequence

from dyweight import FreeTable, Solver, baselines

from ..compare.endpoint_error import error_or_infinity
from ..losses.features import Latent
from ..pairs.pairs import Pairs
from ..run.network import Network

RIVALS = (
    ("ipndm", (1, 2, 3, 4)),
    ("ipndm_v", (2, 3, 4)),
    ("dpmpp_2m", (None,)),
    ("dpmpp_3m", (None,)),
    ("unipc", (2, 3)),
)
"""Handcrafted solvers with one network call a step, and their orders."""
FINALISTS = 2
"""All run on the first pair, so many on the others."""


def rivals(steps: int) -> list[tuple[str, int | None]]:
    """Those that differ from each other in so few steps."""
    return [(name, order) for name, orders in RIVALS for order in orders if order is None or order <= steps]


def judging_calls(solver: Solver, pairs: Pairs) -> int:
    """Network calls that the judging takes: teacher, solver before and after, and rivals."""
    blocks, batch, each = pairs.validation_blocks, pairs.judges.batch, solver.network_calls
    rounds = 2 * blocks + len(rivals(solver.network_calls)) + FINALISTS * (blocks - 1)
    return batch * (blocks * pairs.judges.teacher_calls + rounds * each)


def best_handcrafted(network: Network, pairs: Pairs, calls: int) -> tuple[str, int | None, float]:
    """Name, order and relative endpoint error of the best handcrafted solver on the held-out pairs."""
    features, cluster, blocks = Latent(pairs.deviation), pairs.cluster, list(pairs.validation)
    first = blocks[:1] if cluster.first else []

    def error(rival: tuple[str, int | None], among: Sequence) -> float:  # type: ignore[type-arg]
        plan = baselines.plan(rival[0], network.checkpoint.schedule(calls), rival[1])
        return error_or_infinity(network, among, plan, features, cluster)

    screened = {rival: error(rival, first) for rival in rivals(calls)}
    finalists = sorted(screened, key=screened.__getitem__)[:FINALISTS]
    if pairs.validation_blocks == 1:
        return *finalists[0], screened[finalists[0]]
    rest = blocks[1:] if cluster.first else blocks
    count = pairs.validation_blocks
    whole = {rival: (screened[rival] + (count - 1) * error(rival, rest)) / count for rival in finalists}
    best = min(whole, key=lambda rival: whole[rival] if math.isfinite(whole[rival]) else math.inf)
    return *best, whole[best]


def as_table(solver: Solver, name: str, order: int | None) -> FreeTable:
    """A handcrafted solver as a learned one holds it, for the file."""
    return FreeTable(solver.sigmas, name, order, schedule=solver.schedule).requires_grad_(False)
