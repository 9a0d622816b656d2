"""What a file costs at another size than its own: with its own sigmas, with shifted ones, and fitted on both sizes.

The model is a tiny FLUX whose training times are shifted by the size of the picture: tiny-flux-sizes in tools/models,
made by `python -m tools.models.train_tiny_flux OUT --begin tools/models/tiny-flux.safetensors --sizes 16 24 --steps 250
--batch 24 --rate 7e-4`.
"""

import argparse
import math
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from dyweight import Solver
from trainer.checkpoints.load import load_checkpoint
from trainer.checkpoints.protocol import FullCheckpoint
from trainer.options.checkpoint import CheckpointOptions

from ..harness.bench import TINY_FLUX, Bench, use_stand_ins
from ..harness.study import Numbers, Options, Study, Tables, best, table

SIZES = {64: 2.0, 96: 3.0}
"""Width of the picture -> shift of its schedule: that of the training times."""
MODEL = TINY_FLUX.with_name("tiny-flux-sizes.safetensors")
FEW = {"calls": 450, "teacher": "ipndm:8", "validation_pairs": 2}


def of_size(*widths: int) -> FullCheckpoint:
    """The model at one size, or several, with the shift between theirs."""
    conditions = TINY_FLUX.with_name("tiny-flux-conditions.safetensors")
    mu = sum(math.log(SIZES[width]) for width in widths) / len(widths)
    return load_checkpoint(str(MODEL), CheckpointOptions(conditioning=conditions, width=widths, shift=mu))


def small() -> Any:
    """`--ckpt benchmarks.measurements.sizes:small`."""
    return of_size(64).made


def large() -> Any:
    """`--ckpt benchmarks.measurements.sizes:large`."""
    return of_size(96).made


def both() -> Any:
    """`--ckpt benchmarks.measurements.sizes:both`."""
    return of_size(*SIZES).made


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--effort", default="normal", choices=("draft", "normal", "thorough"))


def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """One part: errors by the size that is sampled, of each way to come to a solver for it, a list over seeds."""
    use_stand_ins()
    given = options.more
    names = {64: "small", 96: "large"}
    benches = {
        width: Bench(f"{__name__}:{name}", options.quick, samples=given.samples) for width, name in names.items()
    }
    joint = Bench(f"{__name__}:both", options.quick)
    errors: dict[str, dict[str, list[float]]] = {str(width): {} for width in SIZES}
    for seed in options.seeds:
        few = FEW if options.quick else {"effort": given.effort}
        fitted = {width: bench.fit(given.steps, seed, **few).solver for width, bench in benches.items()}
        together = joint.fit(given.steps, seed, **few).solver
        for width, bench in benches.items():
            other = next(solver for size, solver in fitted.items() if size != width)
            for way, found in ways(bench, fitted[width], other, together).items():
                errors[str(width)].setdefault(way, []).append(found)
                print(f"seed {seed}  {width:>3}  {way:<40} {found:.5f}", flush=True)
    handcrafted = {str(width): bench.handcrafted_errors(given.steps) for width, bench in benches.items()}
    yield "tiny-flux", {"steps": given.steps, "errors": errors, "handcrafted": handcrafted}


def ways(bench: Bench, own: Solver, other: Solver, together: Solver) -> dict[str, float]:
    """Error at one size of its own solver and of others."""
    shifted = bench.checkpoint.schedule(own.steps)
    plans = {
        "fitted at this size": own.plan(),
        "fitted at the other, its own sigmas": other.plan(),
        "fitted at the other, sigmas shifted": other.plan(shifted),
        "fitted at both, its own sigmas": together.plan(),
        "fitted at both, sigmas shifted": together.plan(shifted),
    }
    return {way: bench.error(plan.detach()) for way, plan in plans.items()}


def tables(numbers: Numbers) -> Tables:
    """One for each model."""
    return {model: of_model(found) for model, found in numbers.items()}


def of_model(found: Mapping[str, Any]) -> str:
    """The error of each way at each size, the median over the seeds."""
    widths = list(found["errors"])
    rows = [["best handcrafted", *(f"{best(found['handcrafted'][width])[1]:.5f}" for width in widths)]]
    for way in found["errors"][widths[0]]:
        middles = [statistics.median(found["errors"][width][way]) for width in widths]
        rows.append([way, *(f"{error:.5f}" for error in middles)])
    return table(["solver", *(f"at {width} x {width}" for width in widths)], rows)


STUDY = Study("sizes", __doc__, measure, tables, models=("tiny-flux",), add_options=add_options)
