"""What a learned solver is worth on sigmas that are not its own: the figures of docs/schedules.md.

`python -m benchmarks.schedule_rules` distils solvers and prints, for each rule of dyweight/placement.py, the endpoint
error of the rule, of the untrained solver on the same sigmas, and of the solver on its own schedule.
"""

import argparse
import contextlib
import copy
import io
import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from dyweight import Plan, Solver, schedules
from dyweight.placement import place, schedule_distance, untrained_plan
from trainer.checkpoints.load import load_checkpoint
from trainer.compare.endpoint_error import endpoint
from trainer.distill import distill
from trainer.options.distill import DistillOptions
from trainer.pairs.pairs import deviation
from trainer.run.network import Network

from .fit_methods import unseen

MODELS = ("digits", "benchmarks.models:digits_shifted", "benchmarks.models:digits_exploding")
CHANGES = (-0.3, -0.1, -0.03, 0.03, 0.1, 0.3)
HIGHER = (1.1, 1.5, 2, 3, 5)


class Case:
    """One model with a solver distilled for it, and unseen samples."""

    def __init__(self, ckpt: str, steps: int, samples: int, teacher: str) -> None:
        self.network = Network(load_checkpoint(ckpt))
        self.blocks = unseen(self.network, teacher, samples)
        self.unit = deviation(self.blocks)
        self.solver = distilled(ckpt, steps)
        self.sigmas = self.solver.sigmas
        self.is_flow = abs(float(self.sigmas[0]) - 1) < 1e-6

    def error(self, plans: Sequence[Plan]) -> float:
        """Relative endpoint error of plans run one after the other from the noise."""
        total = 0.0
        for block in self.blocks:
            x = block.noise
            for plan in plans:
                x = endpoint(self.network, replace(block, noise=x), plan)
            total += float((((x - block.target).double() / self.unit) ** 2).mean())
        return total / len(self.blocks)

    def error_from(self, sigma: float, plan: Plan) -> float:
        """The same from fresh noise at a sigma on the clean endpoints, against 200 untrained steps from there."""
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


def distilled(ckpt: str, steps: int) -> Solver:
    """A solver for the model by the default fit."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        out = Path(folder) / "solver.safetensors"
        solver = distill(DistillOptions(ckpt=ckpt, steps=steps, out=out)).solver
    return solver


def other_sigmas(case: Case) -> Iterator[tuple[str, float, float]]:
    """(what, error of the rule, error of the untrained solver) on schedules of as many steps."""
    for change in CHANGES:
        sigmas = case.changed(change)
        placement = place(case.solver, sigmas)
        name = f"{placement.rule}, sigmas differ by {math.expm1(schedule_distance(sigmas, case.sigmas)):.0%}"
        yield name, case.error([placement.plan]), case.error([untrained_plan(sigmas)])


def higher_start(case: Case) -> Iterator[tuple[str, float, float]]:
    """The same on the schedule scaled, or drawn out, to a higher start, against 60 untrained steps from there."""
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
    """The same where the run is split in two without new noise."""
    for k in range(1, case.solver.steps):
        before, after = case.sigmas[: k + 1], case.sigmas[k:]
        first = place(case.solver, before).plan
        learned = [first, place(case.solver, after, start=float(first.sigmas[-1])).plan]
        yield f"split after step {k}", case.error(learned), case.error([untrained_plan(before), untrained_plan(after)])


def fresh_noise(case: Case) -> Iterator[tuple[str, float, float]]:
    """The same where the last steps start from fresh noise on a clean sample."""
    for k in range(1, case.solver.steps):
        sigmas = case.sigmas[k:]
        learned = case.error_from(float(sigmas[0]), place(case.solver, sigmas).plan)
        yield f"last {case.solver.steps - k} steps", learned, case.error_from(float(sigmas[0]), untrained_plan(sigmas))


def off_schedule(case: Case) -> Iterator[tuple[str, float, float]]:
    """What the rule avoids: all learned rows on a denoise below 1 with as many steps, against the untrained solver."""
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


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.schedule_rules", description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 7])
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--teacher", default="ipndm:100", help="the fine teacher that errors are measured against")
    arguments = parser.parse_args()
    ratios: dict[str, list[float]] = {}
    print("| model, steps | sigmas | learned | untrained | learned, own schedule |")
    print("| --- | --- | --- | --- | --- |")
    for ckpt in arguments.models:
        for steps in arguments.steps:
            case = Case(ckpt, steps, arguments.samples, arguments.teacher)
            own = case.error([case.solver.plan()])
            for rule, title in RULES.items():
                for what, learned, untrained in rule(case):
                    name = ckpt.rpartition(":")[2]
                    print(f"| {name}, {steps} | {what} | {learned:.5f} | {untrained:.5f} | {own:.5f} |", flush=True)
                    ratios.setdefault(title, []).append(learned / untrained)
    print("\n| rule | cases | error, learned / untrained: median (least to most) |\n| --- | --- | --- |")
    for title, found in ratios.items():
        print(f"| {title} | {len(found)} | {statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f}) |")


RULES: dict[Callable[[Case], Iterator[tuple[str, float, float]]], str] = {
    other_sigmas: "as many steps, other sigmas",
    higher_start: "a start above the own",
    two_parts: "split in two, no new noise",
    fresh_noise: "last steps from fresh noise",
    off_schedule: "denoise off the schedule, if the learned rows ran",
}


if __name__ == "__main__":
    main()
