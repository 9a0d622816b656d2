"""The gain of a table for each sample over one for all: INDIS, DyWeight, both together, and the ablations."""

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dyweight

from ..harness.bench import Bench
from ..harness.study import Numbers, Options, Study, Tables, best, table

INDIS: dict[str, Any] = {"family": "indis"}
CORRECTED: dict[str, Any] = {"instance_aware": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "indis, one schedule for all": {**INDIS, "instance": False, "condition": False},
    "indis, no instance": {**INDIS, "instance": False},
    "indis, no condition": {**INDIS, "condition": False},
    "indis, no shift factors": {**INDIS, "shift_factors": False},
    "indis": INDIS,
    "dyweight": {},
    "dyweight, instance-aware, no instance": {**CORRECTED, "instance": False},
    "dyweight, instance-aware": CORRECTED,
}
SAMPLES = 2000
QUICK = {"pairs": 512, "iterations": 8}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=100_000, help="training pairs of the variants with a network")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--teacher", default="ipndm:20", help="the teacher of the fits")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")


def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """Model -> steps, samples, errors of the handcrafted solvers, and of each variant by seed."""
    given = options.more
    for model in options.models:
        bench, errors = Bench(model, options.quick, samples=SAMPLES), dict[str, list[float]]()
        with tempfile.TemporaryDirectory() as folder:
            for seed in options.seeds:
                for name in given.variants:
                    errors.setdefault(name, []).append(fitted(bench, name, seed, options, Path(folder)))
                    print(f"seed {seed}  {name:<40} {errors[name][-1]:.5f}", flush=True)
        samples = sum(len(block.noise) for block in bench.blocks)
        found = {
            "steps": given.steps,
            "samples": samples,
            "handcrafted": bench.handcrafted_errors(given.steps),
            "errors": errors,
        }
        yield model, found


def fitted(bench: Bench, name: str, seed: int, options: Options, folder: Path) -> float:
    """The error of a variant. folder: for each seed's DyWeight, from which others start."""
    given, variant, start = options.more, dict(VARIANTS[name]), folder / f"dyweight-{seed}.safetensors"
    few = {"pairs": 16, "iterations": 1} if options.quick else {}
    if not start.exists() and (not variant or "instance_aware" in variant):
        bench.fit(given.steps, seed, out=start, **few)
    if not variant:
        return bench.error(dyweight.SolverFile.read(start).solver)
    if "instance_aware" in variant:
        variant["start"] = start
    more = {
        **{name: getattr(given, name) for name in ("pairs", "batch", "iterations", "learning_rate", "teacher")},
        **(QUICK if options.quick else {}),
    }
    return bench.error(bench.fit(given.steps, seed, validation_pairs=512, **more, **variant).solver)


def tables(numbers: Numbers) -> Tables:
    """A table for each model."""
    return {model: of_model(found) for model, found in numbers.items()}


def of_model(found: Mapping[str, Any]) -> str:
    """The mean over the seeds, the smallest and the largest."""
    solver, error = best(found["handcrafted"])
    rows = [[f"best handcrafted, {solver}", f"{error:.5f}", ""]]
    for name, errors in found["errors"].items():
        rows.append([name, f"{statistics.mean(errors):.5f}", f"{min(errors):.5f} to {max(errors):.5f}"])
    return table(["solver", "endpoint error", "smallest to largest"], rows)


STUDY = Study("instance-aware", __doc__, measure, tables, models=("digits",), add_options=add_options)
