"""Which rows of a learned solver run on given sigmas; docs/schedules.md has the measurements."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from . import baselines
from .between import between, neighbours, untrained_order
from .placed_guidance import retimed_guidance
from .plan import Plan
from .schedules import checked
from .solver_set import SAME_START, SolverSet
from .solvers import Solver

Rule = Literal["whole", "carried", "part", "untrained"]

HIGHEST_START = math.log(3)
"""Largest log ratio by which sigmas may start above a solver's own; beyond it the untrained solver can be better."""
SAME_VALUE = 0.05
"""Largest |log ratio| between the sigmas of a part and those of the solver's schedule."""
FAR = 0.1
"""A distance from the solver's schedule that deserves a warning."""
_STEADY_TIMES, _STEADY_RATIO = 0.05, 2.0
_ROUNDED = 1e-6
_TENSORS = ("sigmas", "query_sigmas", "gains")


class ScheduleError(ValueError):
    """Sigmas that a solver has no rows for; the message says which number of steps it is for."""


@dataclass(frozen=True)
class Placement:
    """The table for the given sigmas, and the rule by which it was found."""

    plan: Plan
    rule: Rule
    """whole: the learned weights on these sigmas. carried: the learned times, carried over to these sigmas. part: some
    rows of the learned table. untrained: `untrained_plan`."""
    steps: int
    """Of the solver whose rows run, which a set may have mixed of two others; 0 where the rule is `untrained`."""
    first_step: int = 0
    """Row of the solver's table that the first sigma belongs to; 0 unless the rule is `part`."""
    distance: float = 0.0
    """`schedule_distance` from the solver's own sigmas; 0 where the rule is `untrained`."""
    guided_at: float | None = None
    """The scale (cfg) for which the plan's guidance was learned; None where it has none."""


def untrained_plan(sigmas: Tensor, start: float | None = None) -> Plan:
    """iPNDM (Adams-Bashforth with the weights of equal steps) of order 3, of 2 up to six steps: used where nothing
    learned fits.

    start: the noise level of the latent where it is not sigmas[0].
    """
    if start is not None and start > float(sigmas[1]):
        sigmas = torch.cat([sigmas.new_tensor([start]), sigmas[1:]])
    return baselines.plan("ipndm", sigmas, order=untrained_order(len(sigmas) - 1))


def schedule_distance(sigmas: Tensor, other: Tensor) -> float:
    """Largest |log(sigma / other)| of two schedules of one length; a point where one of them is 0 is left out."""
    pairs = [(float(a), float(b)) for a, b in zip(sigmas, other, strict=True) if a > 0 and b > 0]
    return max((abs(math.log(a / b)) for a, b in pairs), default=0.0)


def untrained(sigmas: Tensor, start: float | None = None) -> Placement:
    """`untrained_plan` as a placement."""
    return Placement(untrained_plan(sigmas, start), "untrained", 0)


def place(
    solvers: Solver | SolverSet,
    sigmas: Tensor,
    start: float | None = None,
    noise: Tensor | None = None,
    condition: Tensor | None = None,
) -> Placement:
    """The plan of a solver, or of one of a set, for the sigmas that a sampler is given.

    sigmas: [steps + 1] decreasing, the whole schedule or a part of it. start: the noise level of the latent where it is
    not sigmas[0], as after an earlier part of a run, which ends where time shifting has come.
    noise: [B, *shape] of unit variance, condition: [B, width], for solvers with a table for each sample; a
    missing one counts as zero. Each sample of a batch gets the table that it would get alone.

    Raises ScheduleError where there is one solver, and the sigmas start where it starts but have another number of
    steps.
    """
    try:
        sigmas = checked(sigmas)
    except ValueError as error:
        raise ScheduleError(str(error)) from error
    members = solvers if isinstance(solvers, SolverSet) else SolverSet([solvers])
    solver = _nearest(members, sigmas)
    if solver is None:
        alone = members.member()
        if len(members.steps) == 1 and starts_alike(alone, sigmas):
            raise ScheduleError(
                f"{len(sigmas) - 1} steps, but this solver is for {alone.steps}: set steps to {alone.steps}, or take a "
                f"solver that was made for {len(sigmas) - 1}. To run only some of its steps, use its own schedule: the "
                "scheduler 'dyweight' or the node DyWeightScheduler"
            )
        return untrained(sigmas, start)

    def table(base: Tensor) -> Plan:
        return solver.plan(base, None if noise is None else noise * float(base[0]), condition)

    if len(sigmas) == len(solver.sigmas) and starts_alike(solver, sigmas):
        return _whole(solver, sigmas, table)
    first, distance = _part_of(solver.sigmas, sigmas)
    passed_on = solver.plan().sigmas
    plans = [_part(solver, one, passed_on, sigmas, first, start) for one in _each(table(solver.sigmas))]
    return Placement(_together(plans), "part", solver.steps, first, distance, solver.guided_at)


def _nearest(members: SolverSet, sigmas: Tensor) -> Solver | None:
    """The solver of a set whose schedule these sigmas are, or a part of it, or else the one for as many steps.

    Where the set has none for that number of steps, one is mixed of its neighbours. A schedule of a few steps may be a
    part of a finer one if a last 0 is not compared: the one that ends there goes first.
    """
    steps, found, from_the_top = len(sigmas) - 1, [], starts_alike(members.member(), sigmas)
    for own in range(steps, members.steps[-1] + 1):
        if own not in members.steps and neighbours(members, own) is None:
            continue
        schedule = members.sigmas_for(own)
        first, distance = _part_of(schedule, sigmas)
        exact = distance <= SAME_START
        # Near the top sigmas can be so close to each other that a run from the top looks like one from the next.
        if exact or (distance <= SAME_VALUE and not (from_the_top and first)):
            ends_at_0, end = float(sigmas[-1]) == 0, first + steps
            other_end = ends_at_0 != (float(schedule[end]) == 0), ends_at_0 and end < own
            found.append(((not exact, *other_end, own not in members.steps, distance), own))
    for _, own in sorted(found):
        solver = _member_or_mixed(members, own)
        if solver is not None:
            return solver
    solver = _member_or_mixed(members, steps)
    if solver is None or not starts_alike(solver, sigmas):
        return None
    # The first part of a run on other sigmas does not end where a schedule of so few steps does.
    ends_alike = steps in members.steps or float(sigmas[-1]) <= float(solver.sigmas[-2]) / 2
    return solver if ends_alike else None


def _member_or_mixed(members: SolverSet, steps: int) -> Solver | None:
    return members.member(steps) if steps in members.steps else between(members, steps)


def starts_alike(solver: Solver, sigmas: Tensor) -> bool:
    """Whether sigmas begin where the solver begins, or so little higher that it can begin there."""
    return -SAME_START <= math.log(float(sigmas[0]) / float(solver.sigmas[0])) <= HIGHEST_START


def without_time_scaling(members: SolverSet, placement: Placement) -> Placement:
    """The same rows, asked at the noise levels of the states, with the weights of their slopes kept."""
    solver, plan = _member_or_mixed(members, placement.steps), placement.plan
    if solver is None:
        return placement
    states = plan.sigmas[..., :-1]
    kept = (solver.divisors(plan) / states)[..., None, :]
    guidance = None if plan.guidance is None else plan.guidance * kept
    return replace(placement, plan=replace(plan, query_sigmas=states, gains=plan.gains * kept, guidance=guidance))


def _whole(solver: Solver, sigmas: Tensor, table: Callable[[Tensor], Plan]) -> Placement:
    """The learned weights, unless they move the times much farther than the sigmas moved, or up: then the learned
    times."""
    distance = schedule_distance(sigmas, solver.sigmas)
    own = table(solver.sigmas)
    if torch.allclose(sigmas, solver.sigmas, rtol=_ROUNDED, atol=0):
        return Placement(own, "whole", solver.steps, 0, distance, solver.guided_at)
    steady, base, asked = max(_STEADY_TIMES, _STEADY_RATIO * distance), solver.sigmas.tolist(), sigmas.tolist()
    try:
        literal = _each(table(sigmas))
    except ValueError:
        literal = []
    plans: list[Plan] = []
    for i, one in enumerate(_each(own)):
        near = literal and schedule_distance(literal[i].sigmas[:-1], one.sigmas[:-1]) <= steady
        if near and (_falls(literal[i]) or not _falls(one)):
            plans.append(literal[i])
        else:
            plans.append(_retimed(solver, one, 0, [_carried_over(time, base, asked) for time in one.sigmas.tolist()]))
    rule: Rule = "whole" if all(any(plan is one for one in literal) for plan in plans) else "carried"
    return Placement(_together(plans), rule, solver.steps, 0, distance, solver.guided_at)


def _falls(plan: Plan) -> bool:
    """Whether the noise levels of the states decrease."""
    return bool((plan.sigmas[1:] < plan.sigmas[:-1]).all())


def _each(plan: Plan) -> list[Plan]:
    """A table for each sample, or the one that all share."""
    if plan.batch is None:
        return [plan]
    return [
        replace(plan, sigmas=plan.sigmas[b], query_sigmas=plan.query_sigmas[b], gains=plan.gains[b])
        for b in range(plan.batch)
    ]


def _together(plans: list[Plan]) -> Plan:
    """The inverse of `_each`."""
    if len(plans) == 1:
        return plans[0]
    sigmas, queries, gains = (torch.stack([getattr(p, name) for p in plans]) for name in _TENSORS)
    return replace(plans[0], sigmas=sigmas, query_sigmas=queries, gains=gains)


def _part_of(own: Tensor, sigmas: Tensor) -> tuple[int, float]:
    """(first step, distance) of the run of a solver's sigmas nearest to these, at an infinite distance where these
    are more; a last 0 may stand for any sigma."""
    steps = len(sigmas) - 1
    found = [(schedule_distance(sigmas, own[k : k + steps + 1]), k) for k in range(len(own) - steps)]
    distance, first = min(found, default=(math.inf, 0))
    return first, distance


def _part(solver: Solver, own: Plan, passed_on: Tensor, sigmas: Tensor, first: int, start: float | None) -> Plan:
    """Rows from step `first`, on their learned times scaled to the level of the latent.

    passed_on: [rows + 1], the noise levels at which one part hands the latent to the next. The next part knows the
    latent but not the noise it came from, so they are those of a solver that knows no sample.
    """
    steps, calls = len(sigmas) - 1, -(-own.rows // solver.steps)
    forced_end = float(sigmas[-1]) == 0 and first + steps < solver.steps
    begin, end = first * calls, min((first + steps) * calls, own.rows)
    if forced_end:
        end -= calls - 1
    start = float(sigmas[0]) if start is None else start
    times = [float(time) * (start / float(own.sigmas[begin])) for time in own.sigmas[begin : end + 1]]
    goal = float(passed_on[end]) * (start / float(passed_on[begin]))
    if forced_end:
        times[-1] = 0.0
    elif times[-1] != goal:
        stretch = (start - goal) / (start - times[-1])
        times = [start - stretch * (start - time) for time in times[:-1]] + [goal]
    return _retimed(solver, own, begin, times, forced_end)


def _retimed(solver: Solver, own: Plan, first: int, times: Sequence[float], forced_end: bool = False) -> Plan:
    """Rows of the learned table from `first` on, with other times for the states.

    Each row moves by its learned weights, scaled as its time is; any change in its step goes to the newest slope.
    Slopes from before `first` are missing: their share is spread evenly over those at hand, so the row keeps its sum.
    The directions of guidance likewise; the first row is guided where its own are missing.
    forced_end: the last row goes to the prediction itself, as Euler does in a step to 0.
    """
    rows = len(times) - 1
    divisors = solver.divisors(own)
    scales = [times[j] / float(own.sigmas[first + j]) for j in range(rows)]
    gains = torch.zeros(rows, rows, dtype=torch.float64)
    for j in range(rows):
        n = first + j
        moves = own.gains[n, : n + 1] * divisors[: n + 1] * scales[j]
        at_hand = min(n + 1, own.history, j + 1)
        row = moves[n + 1 - at_hand :] + (moves.sum() - moves[n + 1 - at_hand :].sum()) / at_hand
        learned_step = float(own.sigmas[n + 1] - own.sigmas[n]) * scales[j]
        row[-1] += (times[j + 1] - times[j]) - learned_step
        here = torch.tensor(scales[j + 1 - at_hand : j + 1], dtype=torch.float64) * divisors[n + 1 - at_hand : n + 1]
        gains[j, j + 1 - at_hand : j + 1] = row / here
    if forced_end:
        gains[-1] = 0
        gains[-1, -1] = -1
    guidance, guided = retimed_guidance(solver, own, first, scales, forced_end)
    return Plan(
        sigmas=torch.tensor(times, dtype=torch.float64),
        query_sigmas=own.query_sigmas[first : first + rows] * torch.tensor(scales, dtype=torch.float64),
        gains=gains,
        analytic_first_step=solver.analytic_first_step and first == 0,
        guidance=guidance,
        guided=guided,
    )


def _carried_over(time: float, own: Sequence[float], sigmas: Sequence[float]) -> float:
    """Where a learned time lies on another schedule: piecewise linear from sigma to sigma."""
    i = next((i for i in range(len(own) - 1) if time >= own[i + 1]), len(own) - 2)
    return sigmas[i + 1] + (time - own[i + 1]) / (own[i] - own[i + 1]) * (sigmas[i] - sigmas[i + 1])
