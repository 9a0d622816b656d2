"""What to run for a number of steps that a file does not have: the rules that were tried, against the untrained solver.

A solver is fitted for every number of steps; then each number counts as missing, with neighbours 2 and 4 steps apart.
Errors are relative endpoint errors on unseen samples.
"""

import argparse
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dyweight import Plan, Solver, SolverSet
from dyweight.adams import EQUAL_STEP_WEIGHTS
from dyweight.between import ORDER, TOO_FAR, Between, between, untrained_order
from dyweight.placement import untrained_plan

from ..harness.bench import Bench
from ..harness.study import Numbers, Options, Study, Tables, best, table

MODELS = ("gmm", "digits", "benchmarks.models:digits_guided", "shapes")
FIT = {"pairs": 8, "validation_pairs": 4, "iterations": 3, "batch": 2}
"""Little for a solver: what is mixed need not be better than what people have."""
STEPS, QUICK_STEPS = range(3, 13), range(3, 6)
SAMPLES, SLOW = 400, {"shapes": 100}
"""Unseen samples, fewer where a network call is dear."""
APART = (2, 4)
Rule = Callable[[Solver, Solver, Tensor], Sequence[Plan]]
"""The neighbours and the sigmas that arrive -> the plans to try, of which the best counts."""


def mixed(below: Solver, above: Solver, sigmas: Tensor) -> list[Plan]:
    """The mixture of dyweight/between.py."""
    try:
        return [Between(below, above, sigmas).plan()]
    except ValueError:
        return [untrained_plan(sigmas)]


def mixed_if_alike(below: Solver, above: Solver, sigmas: Tensor) -> list[Plan]:
    """The rule of dyweight/between.py: the untrained solver where the neighbours are unlike."""
    made = between(SolverSet([below, above]), len(sigmas) - 1)
    return [untrained_plan(sigmas) if made is None else made.plan(sigmas)]


def all_kept(below: Solver, above: Solver, sigmas: Tensor) -> list[Plan]:
    """The same, but not counted the less the farther apart they are."""
    made = Between(below, above, sigmas)
    for learned in (made.learned, made.log_scale):
        learned /= 1 - (above.steps - below.steps) / TOO_FAR
    return [made.plan()]


def gains_at_sigmas(below: Solver, above: Solver, sigmas: Tensor) -> list[Plan]:
    """What differs from the untrained gains and asked levels on the schedule, in steps of it, over log sigma."""
    (low, high), steps, log = (_differences(below), _differences(above)), len(sigmas) - 1, -sigmas[:-1].log()
    share = (steps - below.steps) / (above.steps - below.steps)
    rows = _between(share, _at(log, -below.sigmas[:-1].log(), low), _at(log, -above.sigmas[:-1].log(), high))
    gains = torch.zeros(steps, steps, dtype=torch.float64)
    for n in range(steps):
        weights = _weights(sigmas, n) + rows[n, : ORDER + 1][: n + 1]
        weights[0] += rows[n, n + 1 : -1].sum()
        used = slice(max(0, n - ORDER), n + 1)
        gains[n, used] = weights.flip(0) * (sigmas[n + 1] - sigmas[n]) / sigmas[:-1][used]
    return [Plan(sigmas, sigmas[:-1] * rows[:, -1].exp(), gains)]


def untrained_at_learned_times(below: Solver, above: Solver, sigmas: Tensor) -> list[Plan]:
    """Untrained weights between learned times, which the network is asked at as far off as was learned."""
    steps, pair = len(sigmas) - 1, (below, above)
    share, columns = (steps - below.steps) / (above.steps - below.steps), []
    even = torch.linspace(0, 1, steps, dtype=torch.float64)
    for solver in pair:
        plan = solver.plan()
        moved = torch.stack(
            [(plan.sigmas[:-1] / solver.sigmas[:-1]).log(), (plan.query_sigmas / plan.sigmas[:-1]).log()]
        )
        columns.append(_at(even, torch.linspace(0, 1, solver.steps, dtype=torch.float64), moved.T))
    moved = _between(share, *columns)
    times = torch.cat([sigmas[:-1] * moved[:, 0].exp(), sigmas[-1:]])
    plan = untrained_plan(times)
    return [Plan(times, times[:-1] * moved[:, 1].exp(), plan.gains)]


def merged_steps(below: Solver, above: Solver, sigmas: Tensor) -> Iterator[Plan]:
    """Two steps of the solver for one step more made one, each pair: its call is left out, its slope interpolated."""
    steps = len(sigmas) - 1
    if above.steps != steps + 1:
        return
    plan = above.plan()
    times, moves = plan.sigmas, plan.gains * above.divisors(plan)
    for out in range(1, steps + 1):
        kept = [n for n in range(steps + 1) if n != out]
        rows = torch.cat([moves[: out - 1], moves[out - 1 : out + 1].sum(0, keepdim=True), moves[out + 1 :]])
        for n, row in enumerate(rows):
            near = [m for m in kept if kept.index(m) <= n]
            near = [out - 1, out + 1] if out + 1 in near else near[-2:]
            share = (times[out] - times[near[0]]) / (times[near[-1]] - times[near[0]]) if len(near) > 1 else 1.0
            row[near[-1]] += row[out] * share
            row[near[0]] += row[out] * (1 - share)
        gains = rows[:, kept] / above.divisors(plan)[kept]
        yield Plan(times[[*kept, steps + 1]], plan.query_sigmas[kept], gains.tril())


RULES: dict[str, Rule] = {
    "mixed, as shares of the noise level": mixed,
    "the same, if the neighbours are alike": mixed_if_alike,
    "the same, all of it kept": all_kept,
    "gains and asked levels over log sigma": gains_at_sigmas,
    "untrained at the learned times": untrained_at_learned_times,
    "a merged step, the best in hindsight": lambda *given: list(merged_steps(*given)),
}


def _between(share: float, low: Tensor, high: Tensor) -> Tensor:
    return low + share * (high - low)


def _weights(sigmas: Tensor, n: int) -> Tensor:
    """[min(n + 1, ORDER + 1)] of the untrained solver, newest slope first."""
    used = min(n + 1, untrained_order(len(sigmas) - 1))
    weights = sigmas.new_tensor(EQUAL_STEP_WEIGHTS[used])
    return torch.cat([weights, torch.zeros(min(n + 1, ORDER + 1) - used, dtype=torch.float64)])


def _differences(solver: Solver) -> Tensor:
    """[steps, ORDER + 2]: weights that differ from the untrained ones on its schedule, then log asked / sigma."""
    plan, base = solver.plan(), solver.sigmas
    found = torch.zeros(solver.steps, ORDER + 2, dtype=torch.float64)
    for n in range(solver.steps):
        used = min(n + 1, ORDER + 1)
        own = (plan.gains[n, : n + 1] * base[: n + 1]).flip(0)[:used] / (base[n + 1] - base[n])
        found[n, :used] = own - _weights(base, n)
    found[:, -1] = (plan.query_sigmas / base[:-1]).log()
    return found


def _at(places: Tensor, known: Tensor, rows: Tensor) -> Tensor:
    """Rows [known, n] at other places, linear between the known ones and constant beyond them."""
    after = torch.searchsorted(known, places.clamp(known[0], known[-1])).clamp(1, len(known) - 1)
    share = ((places - known[after - 1]) / (known[after] - known[after - 1])).clamp(0, 1)
    return torch.lerp(rows[after - 1], rows[after], share[:, None])


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, nargs="+", help="by default 3 to 12, with --quick 3 to 5")


@torch.no_grad()
def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """Model -> samples, errors by number of steps of what needs no neighbours, and a row a case of each rule."""
    every = tuple(options.more.steps or (QUICK_STEPS if options.quick else STEPS))
    for model in options.models:
        bench = Bench(model, options.quick, samples=SLOW.get(model, SAMPLES))
        rows: list[dict[str, Any]] = []
        alone: dict[int, dict[str, Any]] = {}
        for seed in options.seeds:
            with torch.enable_grad():
                solvers = {steps: bench.fit(steps, seed, **FIT).solver.requires_grad_(False) for steps in every}
            for steps, solver in solvers.items():
                sigmas = bench.network.checkpoint.schedule(steps).double()
                own = alone.setdefault(steps, {"own": []})
                own["own"].append(bench.error(solver))
                if "untrained" not in own:
                    own["untrained"] = bench.error(untrained_plan(sigmas))
                    own["handcrafted"] = best(bench.handcrafted_errors(steps))
                for apart in APART:
                    pair = [solvers.get(steps + sign * apart // 2) for sign in (-1, 1)]
                    if None not in pair:
                        case = {"steps": steps, "apart": apart, "seed": seed}
                        errors = {rule: least_error(bench, make, *pair, sigmas) for rule, make in RULES.items()}
                        rows += [{**case, "rule": rule, "error": error} for rule, error in errors.items()]
        yield (
            model.rpartition(":")[2],
            {
                "samples": sum(len(block.noise) for block in bench.blocks),
                "alone": alone,
                "rows": rows,
            },
        )


def least_error(bench: Bench, rule: Rule, *given: Any) -> float | None:
    """Of the plans of a rule; infinite where it makes none that samples, None where it is not for this case."""
    try:
        errors = [bench.error(plan) for plan in rule(*given)]
    except ValueError:
        return math.inf
    return min((error for error in errors if math.isfinite(error)), default=None)


def tables(numbers: Numbers) -> Tables:
    """What each rule is worth, and every number of steps."""
    return {"rules": of_rules(numbers), "steps": of_steps(numbers)}


def of_rules(numbers: Numbers) -> str:
    """A row a rule and distance of the neighbours, over all models, steps and seeds."""
    found = []
    for rule in RULES:
        for apart in APART:
            cases = [
                (row["error"], found["alone"][str(row["steps"])])
                for found in numbers.values()
                for row in found["rows"]
                if (row["rule"], row["apart"]) == (rule, apart) and row["error"] is not None
            ]
            if not cases:
                continue
            ratios = [error / alone["untrained"] for error, alone in cases]
            handcrafted = sum(error <= alone["handcrafted"][1] for error, alone in cases)
            better = f"{sum(ratio < 1 for ratio in ratios)} of {len(ratios)}"
            text = f"{statistics.median(ratios):.2g} ({min(ratios):.2g} to {max(ratios):.2g})"
            found.append([rule, apart, better, f"{handcrafted} of {len(ratios)}", text])
    header = ["rule", "neighbours apart", "better than untrained", "than the best handcrafted", "error / untrained"]
    return table(header, found)


def of_steps(numbers: Numbers) -> str:
    """Of each model the median errors over the numbers of steps."""
    every = sorted({int(steps) for found in numbers.values() for steps in found["alone"]})
    first, rows = next(iter(RULES)), []
    for model, found in numbers.items():
        alone: Mapping[str, Any] = found["alone"]

        def of(rule: str, steps: int, apart: int, cases: Sequence[Mapping[str, Any]] = found["rows"]) -> str:
            same = [r["error"] for r in cases if (r["rule"], r["steps"], r["apart"]) == (rule, steps, apart)]
            return f"{statistics.median(same):.3g}" if same and None not in same else ""

        lines = {
            "fitted for these steps": [f"{statistics.median(alone[str(n)]['own']):.3g}" for n in every],
            **{f"mixed, {apart} apart": [of(first, n, apart) for n in every] for apart in APART},
            "untrained": [f"{alone[str(n)]['untrained']:.3g}" for n in every],
            "best handcrafted": [f"{alone[str(n)]['handcrafted'][1]:.3g}" for n in every],
        }
        rows += [[f"`{model}`", name, *line] for name, line in lines.items()]
    return table(["model", "what runs", *map(str, every)], rows)


STUDY = Study(
    "between-steps", __doc__, measure, tables, models=MODELS, quick_models=("digits",), seeds=1, add_options=add_options
)
