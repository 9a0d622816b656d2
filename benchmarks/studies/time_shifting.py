"""Does time shifting steady the training? The slopes on the path and the loss, with and without it (figure 4).

The trainer's Adam fits a solver of 5 steps twice on the same pairs: with time shifting, and with the times of the base
schedule, whatever the sums of the weights. After every iteration the solver samples the same held-out pairs. Where its
state has noise level t, the slope (x - D(x, s t)) / t should have the deviation of the teacher's slopes at t.
"""

import statistics
from collections.abc import Iterator
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

from ..harness.bench import Bench
from ..harness.panels import log_scale, panels
from ..harness.study import Numbers, Options, Study, Tables, significant, table
from .watched import Record, WatchedAdam, slopes

MODELS = ("shapes", "benchmarks.models:digits_exploding", "gmm")
STEPS, ORDER, BATCH = 5, 3, 16
TEACHER = Teacher("ipndm", 35)
SHOWN_STATES = (3, 4)
VARIANTS = {"with time shifting": True, "without": False}
COLOURS = (WARM, COOL)
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sizes:
    """The amount of work for a model."""

    pairs: int = 800
    iterations: int = 150
    """Three passes over the pairs."""
    held_out: int = 64
    """Number of pairs, of which the first batch is sampled after every iteration."""


QUICK = Sizes(pairs=48, iterations=6, held_out=16)


@dataclass(frozen=True)
class Summary:
    """The figures of one fit."""

    deviations: list[tuple[float, float, float, float]]
    """By state, over the iterations: mean, standard deviation, 5 % and 95 % quantile of the relative deviation."""
    loss: float
    """Mean over the last fifth of the iterations, on each iteration's own pairs."""
    held_out: float
    """The same for the median held-out pair."""
    jitter: float
    """Standard deviation of the change of the logarithm of the held-out loss from one iteration to the next."""
    halved: int | None
    """First iteration with a held-out loss below half of the untrained solver's; None if there is none."""


def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """Model -> its scheduled sigmas, and for each variant what `kept` returns for each seed."""
    sizes = QUICK if options.quick else Sizes()
    for model in options.models:
        bench = Bench(model, options.quick)
        by_seed = [watch(bench, sizes, seed) for seed in options.seeds]
        variants = {name: [kept(found[name]) for found in by_seed] for name in VARIANTS}
        yield model.rpartition(":")[2], {"sigmas": bench.checkpoint.schedule(STEPS).tolist(), "variants": variants}


def kept(record: Record) -> dict[str, Any]:
    """The summary of a fit, and its lines in the picture."""
    shown = {state: relative(record)[:, state].tolist() for state in SHOWN_STATES}
    lines = {"losses": record.losses, "held_out_losses": record.held_out_losses, "relative": shown}
    return {"summary": asdict(summary(record)), **lines}


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
    """(noise level, standard deviation of the slopes there) of the teacher on a block, in increasing order."""
    denoise = bench.network.bound(block.cond, block.first, who="teacher")
    with torch.no_grad():
        _, sigmas, deviations = slopes(denoise, block.noise, TEACHER.plan(bench.checkpoint))
    return sorted(zip(sigmas, deviations, strict=True))


def relative(record: Record) -> Array:
    """[iterations, states]: the deviation of the slopes relative to the expected one at the state's own noise level."""
    sigmas, deviations = np.array(record.expected).T
    at: Array = np.interp(np.log(record.sigmas), np.log(sigmas), deviations)
    return np.array(record.deviations) / at


def summary(record: Record) -> Summary:
    """The summary of the record of a fit."""
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


def tables(numbers: Numbers) -> Tables:
    """Slopes by state relative to the expected ones, and losses: means over the seeds with the range."""
    slopes_of, losses = [], []
    for model, found in numbers.items():
        for name, fits in found["variants"].items():
            fits_ = [fit["summary"] for fit in fits]
            for state in range(1, STEPS):
                mean, spread, low, high = zip(*(fit["deviations"][state] for fit in fits_), strict=True)
                middle = f"{statistics.mean(low):.3f} to {statistics.mean(high):.3f}"
                where = [f"`{model}`", f"{state}, {found['sigmas'][state]:.3g}", name]
                slopes_of.append([*where, significant(mean), significant(spread), middle])
            parts = (significant(fit[part] for fit in fits_) for part in ("loss", "held_out", "jitter"))
            halved = ", ".join("never" if fit["halved"] is None else str(fit["halved"]) for fit in fits_)
            losses.append([f"`{model}`", name, *parts, halved])
    slope = ["model", "state, scheduled sigma", "", "mean", "standard deviation", "5 % to 95 %"]
    loss = ["model", "", "training, last fifth", "held out, last fifth", "jitter", "halved after"]
    return {"slopes": table(slope, slopes_of), "losses": table(loss, losses)}


def draw(numbers: Numbers, folder: Path) -> None:
    """A column for each model, a line for each seed: the slopes of two states, and the losses below."""
    figure, axes = panels("Slopes and loss during training, a line a seed", [1.8, 1.8, 2.0], len(numbers))
    for column, (model, found) in enumerate(numbers.items()):
        for (name, records), colour in zip(found["variants"].items(), COLOURS, strict=True):
            for i, record in enumerate(records):
                label = name if i == 0 else None
                for row, state in enumerate(SHOWN_STATES):
                    axes[row, column].plot(record["relative"][str(state)], color=colour, lw=0.8)
                axes[2, column].plot(record["losses"], color=colour, lw=0.4, alpha=0.25)
                axes[2, column].plot(record["held_out_losses"], color=colour, lw=1.2, label=label)
        for row, state in enumerate(SHOWN_STATES):
            axes[row, column].axhline(1, color=INK, lw=0.8, ls=":")
            axes[row, column].set_title(f"{model}, state {state}", loc="left", fontsize=TEXT)
        log_scale(axes[2, column])
        axes[2, column].set_xlabel("iteration", fontsize=SMALL)
    for row in range(2):
        axes[row, 0].set_ylabel("deviation / expected", fontsize=SMALL)
    axes[2, 0].set_ylabel("loss (pale: training)", fontsize=SMALL)
    handles = axes[2, 0].get_legend_handles_labels()
    figure.legend(*handles, ncols=2, loc="outside lower left", frameon=False, fontsize=SMALL, labelcolor=INK)
    write(figure, folder / "study-time-shifting.png")


STUDY = Study("time-shifting", __doc__, measure, tables, draw, MODELS)
