"""What a fit is told: where to end, or every state on the way (DyWeight, table A.2 and equation A.15).

All are the trainer's Adam with the same pairs and settings; only the loss differs. The teacher makes 5 steps between
two points of the student's base schedule. Errors are relative endpoint errors on unseen samples against a finer one.
"""

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import torch

from dyweight import DyWeight
from trainer.fit.adam import Adam, AdamSettings, default_learning_rate
from trainer.losses.endpoint import EndpointLoss
from trainer.losses.features import Latent
from trainer.pairs.pairs import Pairs
from trainer.pairs.targets import Targets, default_cache
from trainer.pairs.teacher import Teacher

from .common import Bench, Options, parse, print_table, read_numbers, significant, timed, write_numbers
from .paths import PathAdam, TeacherPaths, Times, states_of
from .variants import ANALYTIC_FIRST_STEP, figure, print_errors, steps_of, with_handcrafted

STUDY = "supervision"
MODELS = ("digits", "gmm", "shapes")
SUBSTEPS, BATCH, VALIDATION_PAIRS = 5, 16, 64
LOSSES: dict[str, Times | None] = {"endpoint": None, "path": "scheduled", "path, shifted times": "shifted"}
"""Name -> where the states on the way are compared; None: nowhere."""
PATH_BLOCKS = 4
"""Blocks of unseen samples on which the distance from the teacher's way is measured."""


@dataclass(frozen=True)
class Sizes:
    """How much is run for a model."""

    calls: tuple[int, ...] = (3, 5, 7)
    pairs: int = 4000


SIZES = {"shapes": Sizes((3, 5), 1000)}
QUICK = Sizes((3,), 64)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = parse(STUDY, __doc__, arguments, MODELS, quick_models=("digits",))
    timed(lambda: study(options))
    return 0


def study(options: Options) -> None:
    """All losses on each model; tables, figure and numbers. Models of an earlier run stay in the figure."""
    numbers = read_numbers(options.out, STUDY)
    for model in options.models:
        bench, sizes = Bench(model, options.quick), QUICK if options.quick else SIZES.get(model, Sizes())
        numbers[model] = compare(bench, sizes, options.seeds)
        errors = {"": {"the teacher itself": numbers[model]["teacher"]}, "adam": numbers[model]["errors"]}
        print_errors(model, errors, numbers[model]["handcrafted"])
        print(f"\n{model}: distance from the teacher's states on the way")
        calls = [*numbers[model]["handcrafted"]]
        rows = [
            [name, where, *(significant(row[n]) for n in calls)]
            for name, places in numbers[model]["away"].items()
            for where, row in places.items()
        ]
        print_table(["loss", "compared at times", *(f"{n} calls" for n in calls)], rows)
        write_numbers(options.out, STUDY, numbers)
    if options.out is not None:
        draw(numbers, options.out)


def compare(bench: Bench, sizes: Sizes, seeds: Sequence[int]) -> dict[str, Any]:
    """Of each loss the errors at the end and on the way; beside them the teacher's and the best handcrafted one's."""
    found: dict[str, Any] = {"handcrafted": {}, "teacher": {}, "errors": {}, "away": {}}
    for calls in sizes.calls:
        found["handcrafted"][str(calls)] = next(iter(bench.handcrafted_errors(calls).items()))
        for seed in seeds:
            lesson = Lesson(bench, calls, seed, sizes.pairs)
            found["teacher"][str(calls)] = [bench.error(lesson.teacher.plan(bench.checkpoint))]
            for name, times in LOSSES.items():
                solver = lesson.learn(times)
                found["errors"].setdefault(name, {}).setdefault(str(calls), []).append(bench.error(solver))
                away = found["away"].setdefault(name, {})
                for where in get_args(Times):
                    away.setdefault(where, {}).setdefault(str(calls), []).append(lesson.away(solver, where))
    return found


class Lesson:
    """Pairs of one seed with the teacher's ways, and fits to them that differ in nothing but the loss."""

    def __init__(self, bench: Bench, calls: int, seed: int, pairs: int, substeps: int = SUBSTEPS) -> None:
        self.bench, self.steps = bench, steps_of(bench.model, calls)
        self.analytic_first_step = bench.model in ANALYTIC_FIRST_STEP
        self.teacher = Teacher("ipndm", substeps * self.steps)
        self.pairs = Pairs(Targets(bench.network, self.teacher, seed, BATCH, default_cache()), pairs, VALIDATION_PAIRS)
        self.paths = self._paths()

    def _paths(self) -> TeacherPaths:
        return TeacherPaths(self.bench.network, self.teacher.plan(self.bench.checkpoint))

    @cached_property
    def loss(self) -> EndpointLoss:
        return EndpointLoss(features=Latent(self.pairs.deviation))

    def untrained(self, order: int = 3) -> DyWeight:
        """Where every fit begins."""
        sigmas = self.bench.checkpoint.schedule(self.steps)
        return DyWeight(sigmas, min(order, self.steps), analytic_first_step=self.analytic_first_step)

    def fit(self, solver: DyWeight, times: Times | None) -> Adam:
        """The trainer's Adam on a solver, with its defaults."""
        settings = AdamSettings(self.pairs.training_blocks, default_learning_rate(solver), recomputed=False)
        given = (solver, self.bench.network, self.pairs, self.loss, settings)
        return Adam(*given) if times is None else PathAdam(*given, paths=self.paths, times=times)

    def learn(self, times: Times | None) -> DyWeight:
        """A solver fitted with one pass over the pairs."""
        solver = self.untrained()
        for _ in self.fit(solver, times).run():
            pass
        return solver.requires_grad_(False)

    def away(self, solver: DyWeight, times: Times) -> float:
        """Mean relative squared distance from the teacher's states between start and end, on unseen samples."""
        paths, plan, distances = self._paths(), solver.plan(), []
        sigmas = (solver.sigmas if times == "scheduled" else plan.sigmas)[1:-1]
        for block in self.bench.blocks[:PATH_BLOCKS]:
            path = paths.of(block)
            with torch.no_grad():
                states = states_of(self.bench.network.bound(block.cond), block.noise, plan)[1:-1]
                for state, sigma in zip(states, sigmas, strict=True):
                    distances.append(float(self.loss.value(self.loss.residual(state, path.at(sigma)))))
        return statistics.mean(distances)


def draw(numbers: Mapping[str, Any], out: Path) -> None:
    """The figure: a column a model."""
    errors = {
        model: with_handcrafted({"adam": found["errors"]}, found["handcrafted"]) for model, found in numbers.items()
    }
    figure("What a fit is told; endpoint = 1", errors, ["endpoint"] * len(errors), out / f"study-{STUDY}.png")


if __name__ == "__main__":
    sys.exit(main())
