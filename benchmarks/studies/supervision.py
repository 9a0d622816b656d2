"""Supervision of a fit by the endpoint or by every state on the path (DyWeight, table A.2 and equation A.15).

All fits are the trainer's Adam with the same pairs and settings; only the loss differs. The teacher makes 5 steps
between two points of the student's base schedule. Errors are relative endpoint errors on unseen samples, with a finer
teacher.
"""

import statistics
from collections.abc import Iterator, Sequence
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

from ..harness.bench import Bench
from ..harness.study import Numbers, Options, Study, Tables, best, significant, table
from ..harness.variants import ANALYTIC_FIRST_STEP, QUICK, SLOW, Sizes, errors_table, figure, steps_of
from .paths import PathAdam, TeacherPaths, Times, states_of

MODELS = ("digits", "gmm", "shapes")
SUBSTEPS, BATCH, VALIDATION_PAIRS = 5, 16, 64
LOSSES: dict[str, Times | None] = {"endpoint": None, "path": "scheduled", "path, shifted times": "shifted"}
"""Name -> where the states on the path are compared; None for nowhere."""
PATH_BLOCKS = 4
"""Number of blocks of unseen samples on which the distance from the teacher's path is measured."""


SIZES = {"shapes": SLOW}


def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """Model -> the result of `compare`."""
    for model in options.models:
        sizes = QUICK if options.quick else SIZES.get(model, Sizes())
        yield model, compare(sizes.bench(model, options.quick), sizes, options.seeds)


def compare(bench: Bench, sizes: Sizes, seeds: Sequence[int]) -> dict[str, Any]:
    """The errors of each loss at the end and on the path, of the teacher, and of the best handcrafted solver."""
    found: dict[str, Any] = {"handcrafted": {}, "teacher": {}, "errors": {}, "away": {}}
    for calls in sizes.calls:
        found["handcrafted"][str(calls)] = best(bench.handcrafted_errors(calls))
        for seed in seeds:
            lesson = Lesson(bench, calls, seed, sizes.adam_pairs)
            if seed == seeds[0]:
                found["teacher"][str(calls)] = [bench.error(lesson.teacher.plan(bench.checkpoint))]
            for name, times in LOSSES.items():
                solver = lesson.learn(times)
                found["errors"].setdefault(name, {}).setdefault(str(calls), []).append(bench.error(solver))
                away = found["away"].setdefault(name, {})
                for where in get_args(Times):
                    away.setdefault(where, {}).setdefault(str(calls), []).append(lesson.away(solver, where))
    return found


class Lesson:
    """Pairs of one seed with the teacher's paths, and fits to them that differ only in the loss."""

    def __init__(self, bench: Bench, calls: int, seed: int, pairs: int, substeps: int = SUBSTEPS) -> None:
        self.bench, self.steps = bench, steps_of(bench.model, calls)
        self.analytic_first_step = bench.model in ANALYTIC_FIRST_STEP
        self.teacher = Teacher("ipndm", substeps * self.steps)
        self.pairs = Pairs(Targets(bench.network, self.teacher, seed, BATCH, default_cache()), pairs, VALIDATION_PAIRS)
        plan = self.teacher.plan(bench.checkpoint)
        self.paths, self.unseen_paths = TeacherPaths(bench.network, plan), TeacherPaths(bench.network, plan)

    @cached_property
    def loss(self) -> EndpointLoss:
        return EndpointLoss(features=Latent(self.pairs.deviation))

    def untrained(self, order: int = 3) -> DyWeight:
        """The solver with which every fit begins."""
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
        plan, distances = solver.plan(), []
        sigmas = (solver.sigmas if times == "scheduled" else plan.sigmas)[1:-1]
        for block in self.bench.blocks[:PATH_BLOCKS]:
            path = self.unseen_paths.of(block)
            with torch.no_grad():
                states = states_of(self.bench.network.bound(block.cond), block.noise, plan)[1:-1]
                for state, sigma in zip(states, sigmas, strict=True):
                    distances.append(float(self.loss.value(self.loss.residual(state, path.at(sigma)))))
        return statistics.mean(distances)


def tables(numbers: Numbers) -> Tables:
    """Errors at the end, and on the path."""
    models = {
        model: ({"": {"the teacher itself": found["teacher"]}, "adam": found["errors"]}, found["handcrafted"])
        for model, found in numbers.items()
    }
    every_calls = sorted({int(calls) for found in numbers.values() for calls in found["handcrafted"]})
    away = [
        [f"`{model}`", name, where, *(significant(row[str(n)]) if str(n) in row else "" for n in every_calls)]
        for model, found in numbers.items()
        for name, places in found["away"].items()
        for where, row in places.items()
    ]
    return {
        "errors": errors_table(models),
        "distance from the teacher's states on the way": table(
            ["model", "loss", "compared at times", *(f"{n} calls" for n in every_calls)], away
        ),
    }


def draw(numbers: Numbers, folder: Path) -> None:
    """The figure: a column for each model."""
    models = {model: ({"adam": found["errors"]}, found["handcrafted"]) for model, found in numbers.items()}
    figure("What a fit is told; endpoint = 1", models, ["endpoint"] * len(models), folder / "study-supervision.png")


STUDY = Study("supervision", __doc__, measure, tables, draw, MODELS, quick_models=("digits",))
