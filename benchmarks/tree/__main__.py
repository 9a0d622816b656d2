"""The synthetic experiment of INDIS: its tables and pictures."""

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..harness import study as harness
from ..harness.study import Numbers, Options, Tables, table
from . import figures
from .data import checkpoint
from .learned import Iterations
from .settings import settings
from .study import ORACLE, PHI, QUICK, SHARED, UNIFORM, Sizes, study

STUDENTS = (UNIFORM, SHARED, ORACLE, PHI)
DISTANCES = ("mse", "kl", "wasserstein")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--settings", action="store_true", help="measure how the oracle's gain depends on the tree")
    parser.add_argument("--calls", type=int, nargs="+", help="numbers of network calls besides 3")


def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """The experiment: its sizes and the figures of every seed; with --settings its variants, with the first seed."""
    if options.more.settings:
        yield "settings", [asdict(row) for row in settings(options.seeds[0])]
        return
    sizes = QUICK if options.quick else Sizes()
    if options.more.calls:
        sizes = replace(sizes, calls=tuple(sorted({3, *options.more.calls})))
    with tempfile.TemporaryDirectory() as cache:
        studies = [asdict(study(checkpoint(), seed, sizes, Path(cache))[0]) for seed in options.seeds]
    yield "experiment", {"sizes": asdict(sizes), "studies": studies}


def tables(numbers: Numbers) -> Tables:
    """The tables of the parts that are given."""
    made = {}
    if "experiment" in numbers:
        studies = numbers["experiment"]["studies"]
        made = {"three steps": of_three(studies), "gain by noise": of_noise(studies), "calls": of_calls(studies)}
        made = {f"experiment, {name}": text for name, text in made.items()}
    if "settings" in numbers:
        header = ["changed", "deviation of the tree", UNIFORM, SHARED, ORACLE, "oracle's gain"]
        errors = (UNIFORM, "shared", ORACLE)
        rows = (
            [row["changed"], f"{row['deviation']:.2f}", *(f"{row[e]:.4f}" for e in errors), f"{row['gain']:.1%}"]
            for row in numbers["settings"]
        )
        made["settings"] = table(header, rows)
    return made


def of_three(studies: Sequence[Mapping[str, Any]]) -> str:
    """Three steps: mean squared error of the endpoints on unseen samples."""
    threes = [done["three"] for done in studies]
    rows = [[done["seed"], *_errors_and_gains([done["three"]])] for done in studies]
    header = ["seed", UNIFORM, SHARED, "own, oracle", "own, phi", "oracle's gain", "phi has of it"]
    return table(header, [*rows, ["mean", *_errors_and_gains(threes)]])


def _errors_and_gains(threes: Sequence[Mapping[str, Any]]) -> list[str]:
    errors = [f"{statistics.mean(three['mse'][name] for three in threes):.4f}" for name in STUDENTS]
    gain, recovered = (statistics.mean(three[name] for three in threes) for name in ("gain", "recovered"))
    return [*errors, f"{gain:.1%}", f"{recovered:.0%}"]


def of_noise(studies: Sequence[Mapping[str, Any]]) -> str:
    """The best shared sigmas of each seed, and the oracle's gain in each quarter by the length of the noise."""
    rows = []
    for done in studies:
        sigmas, gains = done["three"]["shared_sigmas"], done["three"]["gain_by_noise"]
        rows.append([done["seed"], ", ".join(f"{s:.3f}" for s in sigmas), *(f"{gain:.0%}" for gain in gains)])
    return table(["seed", "best shared sigmas", "gain, shortest noise", "second", "third", "longest"], rows)


def of_calls(studies: Sequence[Mapping[str, Any]]) -> str:
    """Mean squared error, KL divergence and Wasserstein distance over the network calls, mean over the seeds."""
    rows = []
    for calls in studies[0]["phi_gain"]:
        means = {
            name: [statistics.mean(done["curves"][name][calls][field] for done in studies) for field in DISTANCES]
            for name in (UNIFORM, SHARED, PHI)
        }
        gains = (1 - ours / theirs for ours, theirs in zip(means[PHI], means[SHARED], strict=True))
        cells = (", ".join(f"{value:.4f}" for value in values) for values in means.values())
        rows.append([calls, *cells, ", ".join(f"{gain:.0%}" for gain in gains)])
    return table(["calls", UNIFORM, SHARED, PHI, "phi's gain over best shared"], rows)


def draw(numbers: Numbers, folder: Path) -> None:
    """Three steps sample by sample, computed again with the first seed; distances over the calls."""
    if "experiment" not in numbers:
        return
    found = numbers["experiment"]
    sizes = Sizes(**{**found["sizes"], "calls": (3,), "iterations": Iterations(**found["sizes"]["iterations"])})
    with tempfile.TemporaryDirectory() as cache:
        picture = study(checkpoint(), found["studies"][0]["seed"], sizes, Path(cache))[1]
    figures.errors_over_noise(picture, folder / "tree-noise.png")
    figures.distances_over_calls(found["studies"], folder / "tree-calls.png")


STUDY = harness.Study("tree", __doc__, measure, tables, draw, add_options=add_options)

if __name__ == "__main__":
    raise SystemExit(STUDY.main())
