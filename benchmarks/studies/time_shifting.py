"""Does time shifting steady the training? The slopes on the way and the loss, with and without it: figure 4.

python -m benchmarks time-shifting --out time-shifting

The trainer's Adam fits a solver of 5 steps twice, on the same pairs: with time shifting, and with the times of the base
schedule whatever the weights sum to. After every iteration the solver samples the same held-out pairs. Where the solver
says that its state has noise level t, the slope (x - D(x, s t)) / t should spread as the teacher's slopes do at t.
"""

import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dyweight import DyWeight
from trainer.fit.adam import AdamSettings, default_learning_rate
from trainer.losses.endpoint import EndpointLoss
from trainer.losses.features import Latent
from trainer.pairs.pairs import Pairs
from trainer.pairs.targets import Block, Targets, default_cache
from trainer.pairs.teacher import Teacher
from trainer.report.curves import COOL, INK, SMALL, TEXT, WARM, write

from .common import Bench, Options, parse, print_table, significant, timed, write_numbers
from .panels import log_scale, panels
from .watched import Record, WatchedAdam, slopes

MODELS = ("shapes", "benchmarks.models:digits_exploding", "gmm")
STEPS, ORDER, BATCH = 5, 3, 16
TEACHER = Teacher("ipndm", 35)
SHOWN_STATES = (3, 4)
VARIANTS = {"with time shifting": True, "without": False}
COLOURS = (WARM, COOL)
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Sizes:
    """Of the fits."""

    pairs: int = 800
    iterations: int = 150
    """Three times through the pairs."""
    held_out: int = 64
    """Pairs, whose first batch is sampled after every iteration."""


QUICK = Sizes(pairs=48, iterations=6, held_out=16)


@dataclass(frozen=True)
class Summary:
    """Of one fit."""

    deviations: list[tuple[float, float, float, float]]
    """By state, over the iterations: mean, standard deviation, 5 % and 95 % of the slopes' relative deviation."""
    loss: float
    """On the iterations' own pairs, mean of the last fifth of the iterations."""
    held_out: float
    """Of the median held-out pair, likewise."""
    jitter: float
    """How far the logarithm of the held-out loss jumps from one iteration to the next."""
    halved: int | None
    """First iteration whose held-out loss is below half of the untrained solver's; None if there is none."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = parse("time-shifting", __doc__, arguments, MODELS)
    timed(lambda: study(options))
    return 0


def study(options: Options) -> None:
    """All models, variants and seeds; the tables and the figure."""
    sizes, numbers = (QUICK if options.quick else Sizes()), {}
    for model in options.models:
        bench = Bench(model, options.quick)
        by_seed = [watch(bench, sizes, seed) for seed in options.seeds]
        records = {name: [found[name] for found in by_seed] for name in VARIANTS}
        numbers[model] = {
            name: [{**asdict(record), "relative": relative(record).tolist()} for record in found]
            for name, found in records.items()
        }
        print_model(bench, {name: [summary(record) for record in found] for name, found in records.items()})
        write_numbers(options.out, "time-shifting", numbers)
    if options.out is not None:
        draw(numbers, options.out / "time-shifting.png")


def watch(bench: Bench, sizes: Sizes, seed: int) -> dict[str, Record]:
    """The fits of one seed, with the trainer's defaults for Adam and on the same pairs."""
    pairs = Pairs(Targets(bench.network, TEACHER, seed, BATCH, default_cache()), sizes.pairs, sizes.held_out)
    loss = EndpointLoss(features=Latent(pairs.deviation))
    steady, records = expected(bench, pairs.validation[0]), {}
    for name, time_shifting in VARIANTS.items():
        solver = DyWeight(bench.checkpoint.schedule(STEPS), ORDER, time_shifting=time_shifting)
        settings = AdamSettings(sizes.iterations, default_learning_rate(solver), recomputed=False)
        adam = WatchedAdam(solver, bench.network, pairs, loss, settings, expected=steady)
        for _ in adam.run():
            pass
        records[name] = adam.record
    return records


def expected(bench: Bench, block: Block) -> list[tuple[float, float]]:
    """(noise level, standard deviation of the slopes there) of the teacher on a block, from low to high."""
    denoise = bench.network.bound(block.cond, block.first, who="teacher")
    with torch.no_grad():
        _, sigmas, deviations = slopes(denoise, block.noise, TEACHER.plan(bench.checkpoint))
    return sorted(zip(sigmas, deviations, strict=True))


def relative(record: Record) -> Numbers:
    """[iterations, states]: the deviation of the slopes over the expected one at the state's own noise level."""
    sigmas, deviations = np.array(record.expected).T
    at: Numbers = np.interp(np.log(record.sigmas), np.log(sigmas), deviations)
    return np.array(record.deviations) / at


def summary(record: Record) -> Summary:
    """What a fit's record comes to."""
    table, held_out = relative(record), np.array(record.held_out_losses)
    low, high = np.quantile(table, (0.05, 0.95), axis=0)
    rows = zip(table.mean(0).tolist(), table.std(0).tolist(), low.tolist(), high.tolist(), strict=True)
    last = len(held_out) - max(1, len(held_out) // 5)
    halved = np.flatnonzero(held_out < held_out[0] / 2)
    return Summary(
        list(rows),
        float(np.mean(record.losses[last:])),
        float(held_out[last:].mean()),
        float(np.diff(np.log(held_out)).std()),
        int(halved[0]) if len(halved) else None,
    )


def print_model(bench: Bench, found: dict[str, list[Summary]]) -> None:
    """Two tables: slopes by state, losses. Means over the seeds, with the smallest and the largest."""
    print(f"\n{bench.model}: deviation of the slopes over the expected one, over the iterations\n")
    rows = []
    for state in range(1, STEPS):
        for name, fits in found.items():
            mean, spread, low, high = zip(*(fit.deviations[state] for fit in fits), strict=True)
            sigma = f"{float(bench.checkpoint.schedule(STEPS)[state]):.3g}"
            middle = f"{statistics.mean(low):.3f} to {statistics.mean(high):.3f}"
            rows.append([f"{state}, sigma {sigma}", name, significant(mean), significant(spread), middle])
    print_table(["state", "", "mean", "standard deviation", "5 % to 95 %"], rows)
    print(f"\n{bench.model}: losses\n")
    rows = [
        [
            name,
            *(significant([getattr(fit, part) for fit in fits]) for part in ("loss", "held_out", "jitter")),
            ", ".join("never" if fit.halved is None else str(fit.halved) for fit in fits),
        ]
        for name, fits in found.items()
    ]
    print_table(["", "training, last fifth", "held out, last fifth", "jitter", "halved after"], rows)


def draw(numbers: dict[str, Any], path: Path) -> None:
    """A column a model; the slopes of two states above the losses. A line a seed."""
    figure, axes = panels("Slopes and loss during training, a line a seed", [1.8, 1.8, 2.0], len(numbers))
    for column, (model, variants) in enumerate(numbers.items()):
        for (name, records), colour in zip(variants.items(), COLOURS, strict=True):
            for i, record in enumerate(records):
                label = name if i == 0 else None
                for row, state in enumerate(SHOWN_STATES):
                    axes[row, column].plot([line[state] for line in record["relative"]], color=colour, lw=0.8)
                axes[2, column].plot(record["losses"], color=colour, lw=0.4, alpha=0.25)
                axes[2, column].plot(record["held_out_losses"], color=colour, lw=1.2, label=label)
        for row, state in enumerate(SHOWN_STATES):
            axes[row, column].axhline(1, color=INK, lw=0.8, ls=":")
            axes[row, column].set_title(f"{model.rpartition(':')[2]}, state {state}", loc="left", fontsize=TEXT)
        log_scale(axes[2, column])
        axes[2, column].set_xlabel("iteration", fontsize=SMALL)
    for row in range(2):
        axes[row, 0].set_ylabel("deviation / expected", fontsize=SMALL)
    axes[2, 0].set_ylabel("loss (pale: training)", fontsize=SMALL)
    handles = axes[2, 0].get_legend_handles_labels()
    figure.legend(*handles, ncols=2, loc="outside lower left", frameon=False, fontsize=SMALL, labelcolor=INK)
    write(figure, path)


if __name__ == "__main__":
    sys.exit(main())
