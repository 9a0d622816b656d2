"""One file for a model against a fit of its own for each number of steps: endpoint error and network calls.

What a file runs at each number of steps from 3 to 12, a member or not, is measured on unseen samples, beside a fit for
that number alone with the same effort, the untrained solver, and the best handcrafted solver at any order. No fit
begins with endpoints of the teacher.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dyweight import SolverSet
from dyweight.placement import place, untrained_plan
from trainer.distillation.result import Distillation

from ..harness.bench import Bench
from ..harness.study import Numbers, Options, Study, Tables, best, table

MODELS = ("digits", "benchmarks.models:digits_guided", "shapes", "gmm")
MEMBERS, QUICK_MEMBERS = (3, 4, 5, 6, 8, 10, 12), (3, 5)
SAMPLES, SLOW = 400, {"shapes": 100}
"""Unseen samples, fewer where a network call is dear."""
QUICK: Mapping[str, Any] = {"pairs": 8, "iterations": 1}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, nargs="+", help="the members; by default 3 4 5 6 8 10 12")
    parser.add_argument("--effort", choices=("draft", "normal", "thorough"), default="draft", help="of every fit")


@torch.no_grad()
def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """Model -> samples, members, and by seed the errors and calls of the set and of each fit alone."""
    members = tuple(options.more.steps or (QUICK_MEMBERS if options.quick else MEMBERS))
    for model in options.models:
        bench = Bench(model, options.quick, samples=SLOW.get(model, SAMPLES))
        every = range(members[0], members[-1] + 1)
        sigmas = {n: bench.network.checkpoint.schedule(n).double() for n in every}
        seeds = {}
        for seed in options.seeds:
            together = fit(bench, members, seed, options)
            # What is no member is fitted alone for the table only, with one seed.
            alone = {n: fit(bench, n, seed, options) for n in every if n in members or seed == options.seeds[0]}
            solvers = together.file.solvers
            seeds[seed] = {
                "set": {n: of_set(bench, solvers, sigmas[n]) for n in every},
                "set calls": together.network_calls["total"],
                "alone": {n: bench.error(one.solver) for n, one in alone.items()},
                "alone calls": {n: one.network_calls["total"] for n, one in alone.items()},
                "seconds": together.seconds,
            }
        yield (
            model.rpartition(":")[2],
            {
                "samples": sum(len(block.noise) for block in bench.blocks),
                "effort": options.more.effort,
                "members": members,
                "untrained": {n: bench.error(untrained_plan(sigmas[n])) for n in every},
                "handcrafted": {n: best(bench.handcrafted_errors(n)) for n in every},
                "seeds": seeds,
            },
        )


def fit(bench: Bench, steps: int | Sequence[int], seed: int, options: Options) -> Distillation:
    with torch.enable_grad(), tempfile.TemporaryDirectory() as cache:
        more = {"effort": options.more.effort, **(QUICK if options.quick else {})}
        return bench.fit(steps, seed, cache=Path(cache), **more)


def of_set(bench: Bench, solvers: SolverSet, sigmas: torch.Tensor) -> float:
    """The error of what the file runs on these sigmas."""
    return bench.error(place(solvers, sigmas).plan)


def tables(numbers: Numbers) -> Tables:
    """What a set costs and how good its members are, and the errors at every number of steps."""
    return {"members": of_members(numbers), "steps": of_steps(numbers)}


def of_members(numbers: Numbers) -> str:
    """A row a model, over its members and seeds, and one over all models."""
    rows, all_ratios = [], list[float]()
    for model, found in numbers.items():
        members, seeds = [str(n) for n in found["members"]], found["seeds"].values()
        ratios = [own["set"][n] / own["alone"][n] for own in seeds for n in members]
        made, alone = (
            sum(own["set calls"] for own in seeds),
            sum(own["alone calls"][n] for own in seeds for n in members),
        )
        calls = f"{made // len(seeds):,} of {alone // len(seeds):,}"
        rows.append([f"`{model}`", found["effort"], _spread(ratios), calls, f"{made / alone:.3f}"])
        all_ratios += ratios
    rows.append(["all", "", _spread(all_ratios), "", ""])
    header = [
        "model",
        "effort",
        "error of a member / of a fit alone",
        "network calls of the set, of fits alone",
        "ratio",
    ]
    return table(header, rows)


def _spread(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def of_steps(numbers: Numbers) -> str:
    """Medians over the seeds by number of steps; of a number that is no member in brackets."""
    every = sorted({int(n) for found in numbers.values() for n in found["untrained"]})
    rows = []
    for model, found in numbers.items():
        members = set(found["members"])

        def middle(of: str, n: int, seeds: Sequence[Mapping[str, Any]] = (*found["seeds"].values(),)) -> str:
            return f"{statistics.median(own[of][str(n)] for own in seeds if str(n) in own[of]):.3g}"

        lines = {
            "the file": [middle("set", n) if n in members else f"({middle('set', n)})" for n in every],
            "a fit alone": [middle("alone", n) for n in every],
            "untrained": [f"{found['untrained'][str(n)]:.3g}" for n in every],
            "best handcrafted": [f"{found['handcrafted'][str(n)][1]:.3g}" for n in every],
        }
        rows += [[f"`{model}`", name, *line] for name, line in lines.items()]
    return table(["model", "what runs", *map(str, every)], rows)


STUDY = Study(
    "fit-sets", __doc__, measure, tables, models=MODELS, quick_models=("digits",), seeds=2, add_options=add_options
)
