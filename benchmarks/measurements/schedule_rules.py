"""The worth of a learned solver on sigmas other than its own: the figures of docs/schedules.md.

For each rule of dyweight/placement.py: the endpoint error with the rule, of the untrained solver on the same sigmas,
and of the solver on its own schedule.
"""

import argparse
import copy
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dyweight import Plan, schedules
from dyweight.placement import place, schedule_distance, untrained_plan
from trainer.compare.endpoint_error import endpoint

from ..harness.bench import Bench
from ..harness.study import Numbers, Options, Study, Tables, table

MODELS = ("digits", "benchmarks.models:digits_shifted", "benchmarks.models:digits_exploding")
CHANGES = (-0.3, -0.1, -0.03, 0.03, 0.1, 0.3)
HIGHER = (1.1, 1.5, 2, 3, 5)
SAMPLES = 400
QUICK = {"pairs": 16, "iterations": 1}


class Case:
    """A model with a solver fitted to it and unseen samples."""

    def __init__(self, model: str, steps: int, quick: bool) -> None:
        bench = Bench(model, quick, samples=SAMPLES)
        self.network, self.blocks, self.unit = bench.network, bench.blocks, bench.features.unit
        self.solver = bench.fit(steps, 0, **(QUICK if quick else {})).solver.requires_grad_(False)
        self.sigmas = self.solver.sigmas
        self.is_flow = abs(float(self.sigmas[0]) - 1) < 1e-6

    def error(self, plans: Sequence[Plan]) -> float:
        """Relative endpoint error of plans that run one after the other, starting from the noise."""
        total = 0.0
        for block in self.blocks:
            x = block.noise
            for plan in plans:
                x = endpoint(self.network, replace(block, noise=x), plan)
            total += float((((x - block.target).double() / self.unit) ** 2).mean())
        return total / len(self.blocks)

    def error_from(self, sigma: float, plan: Plan) -> float:
        """The error from new noise of level sigma on the clean endpoints; the reference are 200 untrained steps."""
        fine = untrained_plan(self._schedule_below(sigma, 200))
        total, generator = 0.0, torch.Generator().manual_seed(5)
        for block in self.blocks:
            noise = torch.randn(block.noise.shape, generator=generator, dtype=block.noise.dtype)
            x = block.target * (1 - sigma if self.is_flow else 1) + sigma * noise
            started = replace(block, noise=x)
            difference = endpoint(self.network, started, plan) - endpoint(self.network, started, fine)
            total += float(((difference.double() / self.unit) ** 2).mean())
        return total / len(self.blocks)

    def tail(self, steps: int, start: int) -> Tensor:
        """The last steps of a finer schedule, as KSampler cuts it for denoise below 1."""
        return self.network.checkpoint.schedule(steps).double()[start:]

    def changed(self, change: float) -> Tensor:
        """The schedule with shift (flow) or rho (others) multiplied by exp(change)."""
        factor, steps = math.exp(change), self.solver.steps
        if self.is_flow:
            return factor * self.sigmas / (1 + (factor - 1) * self.sigmas)
        ends = {"sigma_min": float(self.sigmas[-1]), "sigma_max": float(self.sigmas[0])}
        return schedules.polynomial(steps, rho=7 * factor, **ends)

    def _schedule_below(self, sigma: float, steps: int) -> Tensor:
        fine = self.network.checkpoint.schedule(2 * steps).double()
        return torch.cat([torch.tensor([sigma], dtype=torch.float64), fine[fine < sigma * (1 - 1e-6)]])


def other_sigmas(case: Case) -> Iterator[tuple[str, float, float]]:
    """(what, error of the rule, error of the untrained solver) on schedules of as many steps."""
    for change in CHANGES:
        sigmas = case.changed(change)
        placement = place(case.solver, sigmas)
        name = f"{placement.rule}, sigmas differ by {math.expm1(schedule_distance(sigmas, case.sigmas)):.0%}"
        yield name, case.error([placement.plan]), case.error([untrained_plan(sigmas)])


def higher_start(case: Case) -> Iterator[tuple[str, float, float]]:
    """The same on the schedule scaled or stretched to a higher start, compared with 60 untrained steps from there."""
    low, high = float(case.sigmas[-1]), float(case.sigmas[0])
    for factor in () if case.is_flow else HIGHER:
        for name, sigmas in (
            ("scaled", case.sigmas * factor),
            ("drawn out", schedules.polynomial(case.solver.steps, low, high * factor)),
        ):
            fine = untrained_plan(schedules.polynomial(60, float(sigmas[-1]), high * factor))
            blocks = [replace(block, noise=block.noise * factor) for block in case.blocks]
            ends = [replace(block, target=endpoint(case.network, block, fine)) for block in blocks]
            higher = copy.copy(case)
            higher.blocks = ends
            learned = higher.error([case.solver.plan(sigmas)])
            yield f"{name}, {factor} times the start", learned, higher.error([untrained_plan(sigmas)])


def two_parts(case: Case) -> Iterator[tuple[str, float, float]]:
    """The same for a run that is split in two without new noise."""
    for k in range(1, case.solver.steps):
        before, after = case.sigmas[: k + 1], case.sigmas[k:]
        first = place(case.solver, before).plan
        learned = [first, place(case.solver, after, start=float(first.sigmas[-1])).plan]
        yield f"split after step {k}", case.error(learned), case.error([untrained_plan(before), untrained_plan(after)])


def fresh_noise(case: Case) -> Iterator[tuple[str, float, float]]:
    """The same for the last steps, starting from new noise on a clean sample."""
    for k in range(1, case.solver.steps):
        sigmas = case.sigmas[k:]
        learned = case.error_from(float(sigmas[0]), place(case.solver, sigmas).plan)
        yield f"last {case.solver.steps - k} steps", learned, case.error_from(float(sigmas[0]), untrained_plan(sigmas))


def off_schedule(case: Case) -> Iterator[tuple[str, float, float]]:
    """What the rule avoids: all learned rows at a denoise below 1 with as many steps, and the untrained solver."""
    steps = case.solver.steps
    for finer in (steps + 2, 2 * steps):
        sigmas = case.tail(finer, finer - steps)
        try:
            learned = case.error_from(float(sigmas[0]), case.solver.plan(sigmas))
        except ValueError:
            learned = math.inf
        yield (
            f"denoise {steps / finer:.2f} (learned rows: not used)",
            learned,
            case.error_from(float(sigmas[0]), untrained_plan(sigmas)),
        )


RULES: dict[str, Callable[[Case], Iterator[tuple[str, float, float]]]] = {
    "as many steps, other sigmas": other_sigmas,
    "a start above the own": higher_start,
    "split in two, no new noise": two_parts,
    "last steps from fresh noise": fresh_noise,
    "denoise off the schedule, if the learned rows ran": off_schedule,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, nargs="+", help="numbers of steps; by default 5 7, with --quick 3")


def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """Model -> rows of steps, rule, sigmas, and the errors: learned, untrained, learned on its own schedule."""
    for model in options.models:
        rows = []
        for steps in options.more.steps or ([3] if options.quick else [5, 7]):
            case = Case(model, steps, options.quick)
            own = case.error([case.solver.plan()])
            for rule, cases in RULES.items():
                for what, learned, untrained in cases(case):
                    errors = {"learned": learned, "untrained": untrained, "own": own}
                    rows.append({"steps": steps, "rule": rule, "sigmas": what, **errors})
        yield model.rpartition(":")[2], {"samples": sum(len(block.noise) for block in case.blocks), "rows": rows}


def tables(numbers: Numbers) -> Tables:
    """Every case, and the worth of each rule."""
    rows = [{"model": model, **row} for model, found in numbers.items() for row in found["rows"]]
    errors = ("learned", "untrained", "own")
    cases = [[f"{r['model']}, {r['steps']}", r["sigmas"], *(f"{r[error]:.5f}" for error in errors)] for r in rows]
    header = ["model, steps", "sigmas", "learned", "untrained", "learned, own schedule"]
    return {"cases": table(header, cases), "rules": of_rules(rows)}


def of_rules(rows: Sequence[Mapping[str, Any]]) -> str:
    """The learned error relative to the untrained one, over all cases of a rule."""
    found = []
    for rule in (rule for rule in RULES if rule in {row["rule"] for row in rows}):
        ratios = [row["learned"] / row["untrained"] for row in rows if row["rule"] == rule]
        text = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        found.append([rule, len(ratios), sum(ratio < 1 for ratio in ratios), text])
    header = ["rule", "cases", "learned is better", "error, learned / untrained: median (smallest to largest)"]
    return table(header, found)


STUDY = Study(
    "schedule-rules", __doc__, measure, tables, models=MODELS, quick_models=MODELS[:1], seeds=0, add_options=add_options
)
