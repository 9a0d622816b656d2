"""The fits against the best handcrafted solver at any order: endpoint error, network calls, seconds.

Every fit begins without the teacher's endpoints, so its calls and seconds include the teacher's. Errors are measured on
unseen samples against a finer teacher.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.compare.endpoint_error import errors_over_calls
from trainer.report.curves import error_over_steps

from ..harness.bench import FLUX, SAMPLES, Bench, without_flux
from ..harness.study import Numbers, Options, Study, Tables, best, table

OURS = "benchmarks.models:"
MODELS = (
    *("digits", "gmm", "shapes", "photographs", FLUX),
    *(f"{OURS}{name}" for name in ("digits_exploding", "digits_shifted", "digits_guided", "digits_rounded")),
    *(f"{OURS}{name}" for name in ("digits_karras", "photographs_karras", "photographs_guided", "mixture_flow")),
)
FITS: Mapping[str, Mapping[str, Any]] = {
    "draft": {"effort": "draft"},
    "normal": {"effort": "normal"},
    "thorough": {"effort": "thorough"},
    "adam": {"method": "adam", "pairs": 10_000},
}
"""Name -> options of the trainer."""
ON_EVERY_MODEL, DEFAULT = ("draft", "normal"), "normal"
EVERY_FIT = ("digits", "gmm")
"""Models on which all of them are run."""
HELD_OUT = ("photographs_guided", "mixture_flow")
"""Models on which no constant of the fit was chosen."""
STEPS = [3, 5, 8, 12]
QUICK = {"pairs": 8, "iterations": 2}
PICTURED = "digits"
PHOTOGRAPHS = ("photographs", *(f"{OURS}photographs_{kind}" for kind in ("guided", "karras")))
SLOW = dict.fromkeys(("shapes", *PHOTOGRAPHS, FLUX), 200)
"""Samples where a network call is dear."""
Row = Mapping[str, Any]
"""One fit: model, steps, fit, seed, error, calls, seconds."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, nargs="+", help="by default 3 5 8 12, with --quick 3")
    parser.add_argument("--fits", nargs="+", choices=FITS, help="by default those that the model is worth")


def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """Model -> samples, errors of the handcrafted solvers by steps, a row a fit, and the curves of the picture."""
    for model in without_flux(options.models):
        bench, name = Bench(model, options.quick, samples=SLOW.get(model, SAMPLES)), model.removeprefix(OURS)
        every_step = options.more.steps or ([3] if options.quick else STEPS)
        default = FITS if model in EVERY_FIT else ON_EVERY_MODEL
        found = {
            "samples": sum(len(block.noise) for block in bench.blocks),
            "handcrafted": {steps: bench.handcrafted_errors(steps) for steps in every_step},
            "rows": [
                row(bench, name, steps, fit, seed, options.quick)
                for steps in every_step
                for fit in options.more.fits or default
                for seed in options.seeds
            ],
            "curves": errors_over_calls(bench.network, bench.blocks, max(every_step) + 3) if name == PICTURED else {},
        }
        yield name, found


def row(bench: Bench, model: str, steps: int, fit: str, seed: int, quick: bool) -> Row:
    """One fit."""
    with tempfile.TemporaryDirectory() as cache:
        more = {**FITS[fit], **(QUICK if quick else {})}
        done = bench.fit(steps, seed, cache=Path(cache), **more)
    found = {"error": bench.error(done.solver), "calls": done.network_calls["total"], "seconds": done.seconds}
    return {"model": model, "steps": steps, "fit": fit, "seed": seed, **found}


def tables(numbers: Numbers) -> Tables:
    """One for each model with all its fits; two with the efforts: models that constants were chosen on, and others."""
    found = {model: of_model(one) for model, one in numbers.items()}
    unseen = {model: one for model, one in numbers.items() if model in HELD_OUT}
    seen = {model: one for model, one in numbers.items() if model not in HELD_OUT}
    return {**found, "in sample": of_default(seen), "held out": of_default(unseen)}


def of_model(found: Mapping[str, Any]) -> str:
    """The median over the seeds, with the smallest and largest error."""
    rows: list[list[str]] = []
    for steps, handcrafted in found["handcrafted"].items():
        solver, least = best(handcrafted)
        rows.append([steps, solver, f"{least:.5f}", "1", "", ""])
        for fit, fits in by_fit(found["rows"], int(steps)).items():
            seconds = f"{middle(fits, 'seconds'):.0f}"
            rows.append([steps, fit, *error_and_ratio(fits, least), f"{middle(fits, 'calls'):,.0f}", seconds])
    header = ["steps", "solver", "endpoint error", "of the best handcrafted", "network calls", "seconds"]
    return table(header, rows)


def of_default(numbers: Numbers) -> str:
    """A row for each model, number of steps and effort."""
    rows = []
    for model, found in numbers.items():
        for steps, handcrafted in found["handcrafted"].items():
            solver, least = best(handcrafted)
            start = [f"`{model}`", steps, f"{solver} {least:.5f}"]
            for fit, fits in by_fit(found["rows"], int(steps)).items():
                if "effort" in FITS[fit]:
                    calls = f"{middle(fits, 'calls'):,.0f}"
                    rows.append([*start, fit, *error_and_ratio(fits, least), calls])
                    start = ["", "", ""]
    return table(["model", "steps", "best handcrafted", "effort", "error", "ratio", "network calls"], rows)


def by_fit(rows: Sequence[Row], steps: int) -> dict[str, list[Row]]:
    """Fit -> its rows of all seeds."""
    fits = dict.fromkeys(row["fit"] for row in rows if row["steps"] == steps)
    return {fit: [row for row in rows if row["steps"] == steps and row["fit"] == fit] for fit in fits}


def middle(fits: Sequence[Row], of: str) -> float:
    """The median over the seeds."""
    return float(statistics.median(row[of] for row in fits))


def error_and_ratio(fits: Sequence[Row], least: float) -> tuple[str, str]:
    """The median, smallest and largest error, and the median over the best handcrafted error."""
    errors = [row["error"] for row in fits]
    text = f"{middle(fits, 'error'):.5f} ({min(errors):.5f} to {max(errors):.5f})"
    return text, f"{middle(fits, 'error') / least:.3f}"


def draw(numbers: Numbers, folder: Path) -> None:
    """The default fit among the handcrafted solvers."""
    if PICTURED not in numbers:
        return
    found, fit = numbers[PICTURED], DEFAULT
    curves = {name: {int(n): error for n, error in line.items()} for name, line in found["curves"].items()}
    every_step = map(int, found["handcrafted"])
    learned = {n: middle(fits[fit], "error") for n in every_step if fit in (fits := by_fit(found["rows"], n))}
    error_over_steps(curves, folder / f"{PICTURED}-errors.png", learned, "dyweight", PICTURED)


STUDY = Study("fit-methods", __doc__, measure, tables, draw, MODELS, quick_models=(PICTURED,), add_options=add_options)
