"""Is a file good for another model? Coefficients made on one model and used on another (DyWeight, table A.1), and on a
FLUX with another size, guidance, shift or a LoRA.

The weights and the time scale of a solver are applied to the other model's own schedule with as many steps. All errors
are relative endpoint errors on unseen samples of the model that is sampled.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm

from dyweight import Plan, Solver
from dyweight.placement import place
from trainer.checkpoints.protocol import Checkpoint
from trainer.compare.endpoint_error import errors_at_equal_calls
from trainer.compare.handcrafted import handcrafted
from trainer.report.curves import COOL, DIVERGING, INK, LEGEND, MUTED, SMALL, WARM, write
from trainer.run.errors import NonFiniteError

from ..harness.bench import FLUX, TINY_FLUX, Bench, without_flux
from ..harness.panels import log_scale, panels
from ..harness.study import Numbers, Options, Study, Tables, best, significant, table

OURS = "benchmarks.models:"
MODELS = ("digits", *(f"{OURS}digits_{kind}" for kind in ("shifted", "guided", "exploding")), "gmm", FLUX)
QUICK_MODELS = (MODELS[0], MODELS[1], MODELS[3])
STEPS, QUICK_STEPS, FLUX_STEPS = (5,), (3,), 5
METHODS: dict[str, dict[str, Any]] = {"gauss-newton": {"batch": 16}, "adam": {"method": "adam", "pairs": 1000}}
"""The default, which takes any weights with a small error, and the paper's, which stays close to its first weights.
Larger network calls than by default are faster on few cores."""
SAMPLES, FLUX_SAMPLES = 200, 100
QUICK_METHODS: dict[str, dict[str, Any]] = {"gauss-newton": {"pairs": 16, "iterations": 2}}
LORA = TINY_FLUX.with_name("tiny-flux-lora.safetensors")
VARIANTS: dict[str, dict[str, Any]] = {
    "as made": {},
    "width 96": {"width": 96},
    "width 128": {"width": 128},
    "guidance 1": {"guidance": 1.0},
    "guidance 7": {"guidance": 7.0},
    "shift 0.5": {"shift": 0.5},
    "LoRA at 0.5": {"lora": (f"{LORA}:0.5",)},
    "LoRA at 1": {"lora": (f"{LORA}:1",)},
}
"""Variants of the tiny FLUX, which is made for width 64, guidance 3.5, shift 1.15 and no LoRA."""
KINDS = {
    "coefficients": "weights on the sampled model's schedule",
    "own schedule": "each solver on its own schedule",
    "placed": "on the sampled model's schedule by the rules of the nodes",
}
"""Ways to use a solver on another model."""
FARTHEST = 30.0
"""The end of the colours: this multiple of the error of the best handcrafted solver, or this fraction of it."""
ROWS = (
    ("gauss-newton", "coefficients", "weights carried"),
    ("gauss-newton", "own schedule", "on its own schedule"),
    ("adam", "coefficients", "Adam, weights carried"),
)
"""Method, way, title."""
SERIES = {"own schedule": (WARM, "o", "file of the model as made"), "native": (WARM, "D", "the variant's own")}
GROUPS = {"flow": {"digits", "digits_shifted", "digits_guided"}, "exploding": {"digits_exploding", "gmm"}}
"""Models with the same kind of noise."""


def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """Method -> steps -> the matrix of all models except the FLUX; the FLUX -> its variants."""
    models = without_flux(options.models)
    small = {
        model.removeprefix(OURS): Bench(model, options.quick, samples=SAMPLES) for model in models if model != FLUX
    }
    steps, methods = (QUICK_STEPS, QUICK_METHODS) if options.quick else (STEPS, METHODS)
    for method, more in methods.items() if small else ():
        yield method, {n: matrix(small, n, options.seeds, more) for n in steps}
    if FLUX in models:
        yield FLUX, variants(options)


def matrix(
    benches: Mapping[str, Bench], steps: int, seeds: Sequence[int], more: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Model that is sampled -> errors of the handcrafted solvers, of its own, and of each model's coefficients.

    coefficients: weights and time scale on the model's schedule, as in the paper. own schedule: the solver on its own
    schedule, as with the scheduler `dyweight`, if that begins at the model's noise level. placed: on the model's
    schedule by the rules of the nodes, which carry over the learned times where the weights would diverge
    (docs/schedules.md).
    """
    solvers = {
        name: [bench.fit(steps, seed, **more).solver.requires_grad_(False) for seed in seeds]
        for name, bench in benches.items()
    }
    return {
        name: {
            "handcrafted": bench.handcrafted_errors(steps),
            "native": [error(bench, solver.plan()) for solver in solvers[name]],
            **{
                kind: {of: [error(bench, way(one, bench.checkpoint)) for one in made] for of, made in solvers.items()}
                for kind, way in WAYS.items()
            },
        }
        for name, bench in benches.items()
    }


def carried(solver: Solver, checkpoint: Checkpoint) -> Plan | None:
    """The solver's weights and time scale on the checkpoint's schedule; None if they reach time 0 too early."""
    try:
        return solver.plan(checkpoint.schedule(len(solver.sigmas) - 1))
    except ValueError:
        return None


def on_its_own(solver: Solver, checkpoint: Checkpoint) -> Plan | None:
    """The solver on its own schedule; None if that begins at another noise level than the checkpoint's."""
    return solver.plan() if math.isclose(float(solver.sigmas[0]), float(checkpoint.schedule(1)[0])) else None


def placed(solver: Solver, checkpoint: Checkpoint) -> Plan:
    """The solver on the checkpoint's schedule by the rules of the nodes."""
    return place(solver, checkpoint.schedule(len(solver.sigmas) - 1)).plan


WAYS: dict[str, Callable[[Solver, Checkpoint], Plan | None]] = {
    "coefficients": carried,
    "own schedule": on_its_own,
    "placed": placed,
}


def error(bench: Bench, plan: Plan | None) -> float | None:
    """The error on the model of the bench; None without a plan, or if the network overflows."""
    try:
        return None if plan is None else bench.error(plan)
    except NonFiniteError:
        return None


def variants(options: Options) -> dict[str, dict[str, Any]]:
    """Variant -> errors of the handcrafted solvers, its own solvers, and for each way those of the model as made.

    The handcrafted ones are ComfyUI's samplers with each of its schedules, and ours at every order.
    """
    more = (QUICK_METHODS if options.quick else METHODS)["gauss-newton"]
    found: dict[str, dict[str, Any]] = {}
    made: list[Solver] = []
    for name, named in VARIANTS.items():
        bench = Bench(FLUX, options.quick, samples=FLUX_SAMPLES, **named)
        native = [bench.fit(FLUX_STEPS, seed, **more).solver.requires_grad_(False) for seed in options.seeds]
        made = made or native
        at_every_order = errors_at_equal_calls(bench.network, bench.blocks, handcrafted(bench.checkpoint, FLUX_STEPS))
        found[name] = {
            "handcrafted": bench.handcrafted_errors(FLUX_STEPS) | at_every_order,
            "native": [error(bench, solver.plan()) for solver in native],
            **{kind: [error(bench, way(one, bench.checkpoint)) for one in made] for kind, way in WAYS.items()},
        }
    return found


def tables(numbers: Numbers) -> Tables:
    """A matrix for each method, number of steps and way; the variants of the FLUX; and how often foreign coefficients
    win."""
    made = {
        f"{method}, {steps} steps, {kind}": of_matrix(rows, kind)
        for method in METHODS
        for steps, rows in numbers.get(method, {}).items()
        for kind in KINDS
    }
    if FLUX in numbers:
        made[FLUX] = of_variants(numbers[FLUX])
    return {**made, "wins": of_wins(numbers)} if made.keys() - {FLUX} else made


def of_variants(rows: Mapping[str, Any]) -> str:
    """The errors of each way; where the model's schedule is the file's, all are the same."""
    lines = []
    for name, row in rows.items():
        native, own, *others = (significant(row[kind]) for kind in ("native", "own schedule", "coefficients", "placed"))
        lines.append([name, native, own, *("the same" if other == own else other for other in others), _best(row)])
    ways = ("its own schedule", "the model's schedule", "the model's schedule, by the rules of the nodes")
    header = ["used with", "the variant's own", *(f"file of the model as made, on {way}" for way in ways)]
    return table([*header, "best handcrafted"], lines)


def of_matrix(rows: Mapping[str, Mapping[str, Any]], kind: str) -> str:
    """The errors of one way, over that of the best handcrafted solver of the row."""
    lines = (
        [f"`{name}`", *(significant(_over_best(row, row[kind][of])) for of in rows), _best(row)]
        for name, row in rows.items()
    )
    return table(["used on", *(f"made on `{of}`" for of in rows), "best handcrafted"], lines)


def of_wins(numbers: Numbers) -> str:
    """For how many pairs of two models of one kind the mean error of the foreign coefficients is the lower one."""
    lines = []
    for method, kind in ((method, kind) for method in METHODS if method in numbers for kind in KINDS):
        for title, group in GROUPS.items():
            pairs = [
                (statistics.mean(errors) if None not in errors else math.inf, row["handcrafted"])
                for rows in numbers[method].values()
                for name, row in rows.items()
                for of, errors in row[kind].items()
                if name != of and {name, of} <= group
            ]
            wins = (sum(error < least(h) for error, h in pairs) for least in (ipndm, lambda h: best(h)[1]))
            lines.append([f"{title} models, {method}, {KINDS[kind]}", *(f"{n} of {len(pairs)}" for n in wins)])
    header = ["of the pairs of two models with one kind of noise", "better than iPNDM", "better than every handcrafted"]
    return table(header, lines)


def ipndm(handcrafted: Mapping[str, float]) -> float:
    """The error of iPNDM at its best order."""
    return min(error for name, error in handcrafted.items() if name.partition(":")[0] == "ipndm")


def _over_best(row: Mapping[str, Any], errors: Sequence[float | None]) -> list[float | None]:
    """Errors as multiples of that of the best handcrafted solver."""
    least = min(row["handcrafted"].values())
    return [error and error / least for error in errors]


def _best(row: Mapping[str, Any]) -> str:
    """The best handcrafted solver of a row and its error."""
    return "{} {:.3g}".format(*best(row["handcrafted"]))


def draw(numbers: Numbers, folder: Path) -> None:
    """A matrix for each number of steps and way, and the variants of the FLUX below."""
    matrices, flux = {method: numbers[method] for method in METHODS if method in numbers}, numbers.get(FLUX, {})
    drawn_rows = [row for row in ROWS if row[0] in matrices]
    heights = [2.6] * len(drawn_rows) + [2.3] * bool(flux)
    drawn, axes = panels(
        "Coefficients of other models: error over that of the best handcrafted",
        heights,
        max([1, *map(len, matrices.values())]),
    )
    for row, (method, kind, title) in zip(axes, drawn_rows, strict=False):
        for one, (steps, errors) in zip(row, matrices[method].items(), strict=True):
            _draw_matrix(one, errors, kind)
            one.set_title(f"{title}, {steps} steps", fontsize=SMALL, loc="left", color=INK)
    if flux:
        for one in axes[-1, 1:]:
            one.remove()
        axes[-1, 0].set_subplotspec(axes[-1, 0].get_gridspec()[len(heights) - 1, :])
        _draw_variants(axes[-1, 0], flux)
    write(drawn, folder / "study-transfer.png")


def _draw_matrix(axes: Any, rows: Mapping[str, Any], kind: str) -> None:
    """A cell: the mean error of a column's coefficients on a row's model, over the row's best handcrafted error."""
    names = list(rows)
    ratios = np.array([[_ratio(rows[name], rows[name][kind][of]) for of in names] for name in names])
    axes.imshow(ratios, cmap=DIVERGING.reversed(), norm=LogNorm(1 / FARTHEST, FARTHEST), aspect="auto")
    for row, column in np.ndindex(*ratios.shape):
        ratio = ratios[row, column]
        text = "-" if math.isnan(ratio) else f"{ratio:.2g}" if ratio < 99.5 else ">99"
        weight = "bold" if row == column else "normal"
        axes.text(column, row, text, ha="center", va="center", fontsize=SMALL - 1, color=INK, weight=weight)
    shown = [name.replace("digits_", "") for name in names]
    axes.set_xticks(range(len(names)), shown, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), shown)
    axes.grid(False)
    axes.set_xlabel("made on", fontsize=SMALL - 1)
    axes.set_ylabel("used on", fontsize=SMALL - 1)


def _ratio(row: Mapping[str, Any], errors: Sequence[float | None]) -> float:
    finite = [ratio for ratio in _over_best(row, errors) if ratio is not None]
    return statistics.mean(finite) if finite else math.nan


def _draw_variants(axes: Any, variants: Mapping[str, Any]) -> None:
    at = np.arange(len(variants))
    for shift, (kind, (colour, marker, label)) in zip((-0.12, 0.12), SERIES.items(), strict=True):
        values = [[value for value in row[kind] if value is not None] or [math.nan] for row in variants.values()]
        means = np.array([statistics.mean(one) for one in values])
        spread = np.abs(np.array([[min(one), max(one)] for one in values]).T - means)
        filled = colour if kind == "native" else "white"
        axes.errorbar(at + shift, means, spread, fmt=marker, color=colour, mfc=filled, ms=5, lw=1, label=label)
    best = [min(row["handcrafted"].values()) for row in variants.values()]
    axes.plot(at, best, "_", color=COOL, ms=18, mew=2, label="best handcrafted")
    axes.set_xticks(at, list(variants), rotation=20, ha="right")
    log_scale(axes)
    axes.set_ylabel("a small FLUX: error", fontsize=SMALL)
    axes.tick_params(color=MUTED)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, **LEGEND)


STUDY = Study("transfer", __doc__, measure, tables, draw, MODELS, quick_models=QUICK_MODELS)
