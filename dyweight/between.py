"""A solver for a number of steps that a set does not have, mixed of two that it has; measured in docs/schedules.md."""

import torch
from torch import Tensor, nn

from .adams import EQUAL_STEP_WEIGHTS
from .plan import Plan
from .solver_set import SolverSet
from .solvers import Solver

ORDER = 3
"""Of the untrained solver, iPNDM; one less up to FEW_STEPS, where under guidance order 3 can end many times as far."""
FEW_STEPS = 6
TOO_FAR = 8
"""Neighbours this many steps apart say nothing about what is between them."""
UNLIKE = 4.0
"""Neighbours whose shares and what they learned both differ by so much found ways of their own, with none between."""


class Between(Solver):
    """What two solvers learned, mixed for a number of steps between theirs. It is in no file.

    A row of a plan is comparable between numbers of steps as a share of the noise level t that its state has: how much
    of it each slope removes, and at which multiple of it the network is asked:

        x[n+1] = x[n] + t[n] * sum over i of c[n, i] * (x[n-i] - denoise(x[n-i], q[n-i])) / t[n-i];   q[n] = s[n] t[n]

    What was learned is the difference of c from the untrained solver's on the same schedule, and log s. First row goes
    with first row and last with last; both are mixed linearly, and counted the less the farther apart the two are. Of
    one solver alone, given twice, it is counted the less the farther its number of steps is.
    """

    family = "between"

    learned: Tensor
    """[steps, order] the difference of c, newest slope first."""
    log_scale: Tensor
    """[steps] log s."""

    def __init__(self, below: Solver, above: Solver, sigmas: Tensor) -> None:
        """below, above: solvers for fewer and for more steps, with one network call a step. sigmas: [steps + 1]."""
        super().__init__(sigmas)
        plans = [solver.plan().detach() for solver in (below, above)]
        self.order = max(ORDER, *(plan.history for plan in plans))
        self.analytic_first_step = above.analytic_first_step
        apart = above.steps - below.steps
        share = (self.steps - below.steps) / apart if apart else 0.0
        kept = max(0.0, 1 - max(apart, abs(self.steps - below.steps)) / TOO_FAR)
        low, high = (
            _spread(_learned(plan, solver.sigmas, self.order), self.steps)
            for plan, solver in zip(plans, (below, above), strict=True)
        )
        shares = [_spread(_shares(plan, self.order), self.steps) for plan in plans]
        self.unlike = min(float(d.abs().max()) for d in ((low - high)[:, :-1], shares[0] - shares[1]))
        """The largest difference of the neighbours' shares, or of what they learned where that is smaller."""
        mixed = kept * torch.lerp(low, high, share)
        self.register_buffer("learned", mixed[:, :-1])
        self.register_buffer("log_scale", mixed[:, -1])

    def _table(self, base: Tensor) -> Plan:
        shares = _untrained(base, self.order) + self.learned
        times, rows = [base[0]], []
        for n in range(self.steps):
            used = min(n + 1, self.order)
            row = shares[n, :used].clone()
            row[0] += shares[n, used:].sum()  # what belongs to slopes from before the start
            rows.append(torch.zeros(self.steps, dtype=torch.float64))
            rows[n][n + 1 - used : n + 1] = row.flip(0) * times[n] / torch.stack(times[n + 1 - used :])
            times.append(times[n] * (1 + row.sum()))
        sigmas = torch.stack(times)
        return Plan(
            sigmas, sigmas[:-1] * self.log_scale.exp(), torch.stack(rows), self.analytic_first_step, keep=self.order
        )

    @classmethod
    def _shapes(cls, settings: dict[str, object], steps: int) -> dict[str, tuple[int, ...]]:
        raise ValueError("a mixed solver is in no file")


def nearest(members: SolverSet, steps: int) -> tuple[Solver, Solver]:
    """The solvers for the next smaller and the next larger number of steps; beyond the last one, that one twice."""
    below = max((known for known in members.steps if known < steps), default=0)
    above = min((known for known in members.steps if known > steps), default=0)
    return members.member(below or above), members.member(above or below)


def neighbours(members: SolverSet, steps: int) -> tuple[Solver, Solver] | None:
    """The solvers for fewer and for more steps between which there is one; None where they are too far apart."""
    below, above = nearest(members, steps)
    if steps in members.steps or below is above or above.steps - below.steps >= TOO_FAR:
        return None
    return below, above


def between(members: SolverSet, steps: int) -> Solver | None:
    """A solver for this number of steps on the schedule of the set; None where nothing useful can be mixed."""
    pair = neighbours(members, steps)
    if pair is None:
        return None
    one_call = all(solver.rows == solver.steps and not solver.reads_samples for solver in pair)
    two_networks = any(solver.handover for solver in pair)
    guided = any(solver.guided for solver in pair)
    if not one_call or two_networks or guided or pair[0].analytic_first_step != pair[1].analytic_first_step:
        return None
    try:
        made = Between(*pair, members.sigmas_for(steps)).requires_grad_(False)
        made.plan()
    except ValueError:
        return None
    return made if made.unlike < UNLIKE else None


def _learned(plan: Plan, sigmas: Tensor, order: int) -> Tensor:
    """[steps, order + 1]: of each row what differs from the untrained solver, newest slope first, then log s."""
    scale = (plan.query_sigmas / plan.sigmas[:-1]).log()
    return torch.cat([_shares(plan, order) - _untrained(sigmas, order), scale[:, None]], 1)


def _shares(plan: Plan, order: int) -> Tensor:
    """[rows, order]: c of a plan, newest slope first."""
    times, shares = plan.sigmas[:-1], torch.zeros(plan.rows, order, dtype=torch.float64)
    for n in range(plan.rows):
        used = min(n + 1, order)
        shares[n, :used] = (plan.gains[n, : n + 1] * times[: n + 1]).flip(0)[:used] / times[n]
    return shares


def untrained_order(steps: int) -> int:
    """Of the untrained solver with so many steps."""
    return max(1, min(steps, ORDER if steps > FEW_STEPS else ORDER - 1))


def _untrained(sigmas: Tensor, order: int) -> Tensor:
    """[steps, order]: c of the untrained solver, newest slope first."""
    steps = len(sigmas) - 1
    shares = torch.zeros(steps, order, dtype=torch.float64)
    for n in range(steps):
        used = min(n + 1, untrained_order(steps))
        weights = sigmas.new_tensor(EQUAL_STEP_WEIGHTS[used])
        shares[n, :used] = weights * (sigmas[n + 1] - sigmas[n]) / sigmas[n]
    return shares


def _spread(rows: Tensor, steps: int) -> Tensor:
    """[rows, n] -> [steps, n]: the first stays the first, the last the last, and between them is linear."""
    return nn.functional.interpolate(rows.T[None], size=steps, mode="linear", align_corners=True)[0].T
