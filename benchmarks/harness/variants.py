"""What studies of variants share: fits at equal numbers of network calls, a table and a figure."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.ticker import LogLocator, NullLocator

from trainer.distillation.result import Distillation
from trainer.report.curves import COOL, INK, LEGEND, SMALL, WARM, write

from .bench import SAMPLES, Bench
from .panels import panels
from .study import Numbers, best, significant, table

Cases = Mapping[str, Mapping[str, Any]]
"""Name of a variant -> options of its fit."""
Errors = dict[str, dict[str, dict[str, list[float]]]]
"""Method -> variant -> network calls -> error of each seed."""
Found = tuple[Errors, Mapping[str, tuple[str, float]]]
"""A model's errors, and for each number of network calls the best handcrafted solver with its error."""
ANALYTIC_FIRST_STEP = ("shapes",)
"""Pixel-space models, for which the paper makes the first slope without a network call."""
HANDCRAFTED = "best handcrafted"
STYLES = {"3": (WARM, "o"), "5": (COOL, "s")}
"""Network calls -> colour and marker."""


@dataclass(frozen=True)
class Sizes:
    """The amount of work for a model."""

    calls: tuple[int, ...] = (3, 5)
    methods: tuple[str, ...] = ("adam", "gauss-newton")
    adam_pairs: int = 4000
    samples: int = SAMPLES
    """Number of unseen samples on which errors are measured."""
    more: Mapping[str, Mapping[str, Any]] | None = None
    """Method -> more options of its fits."""

    def bench(self, model: str, quick: bool) -> Bench:
        """The model with its unseen samples."""
        return Bench(model, quick, samples=self.samples)

    def options(self, method: str) -> dict[str, Any]:
        """The options of a fit with this method."""
        # Gauss-Newton is faster on few cores with larger network calls than by default.
        own = {"pairs": self.adam_pairs} if method == "adam" else {"batch": 16}
        return {"method": method, **own, **(self.more or {}).get(method, {})}


SLOW = Sizes((5,), adam_pairs=600, samples=200)
"""For models with slow network calls."""
QUICK = Sizes((3,), adam_pairs=64, more={"gauss-newton": {"pairs": 16, "iterations": 1}})


class Fits:
    """Fits on a model; a fit that is needed twice is made once."""

    def __init__(self, bench: Bench, sizes: Sizes) -> None:
        self.bench, self.sizes = bench, sizes
        self._made: dict[tuple[object, ...], tuple[Distillation, float]] = {}

    def errors(self, cases: Callable[[str, int], Cases], seeds: Sequence[int]) -> Errors:
        """Errors on unseen samples. cases: (method, steps) -> the variants."""
        found: Errors = {}
        for method in self.sizes.methods:
            for calls in reversed(self.sizes.calls):  # most calls first, since they have the most variants
                for name, options in cases(method, steps_of(self.bench.model, calls)).items():
                    errors = [self.fit(method, calls, seed, options)[1] for seed in seeds]
                    found.setdefault(method, {}).setdefault(name, {})[str(calls)] = errors
        return found

    def fit(self, method: str, calls: int, seed: int, options: Mapping[str, Any]) -> tuple[Distillation, float]:
        """A fitted solver and its error on unseen samples."""
        key = (method, calls, seed, *sorted(options.items()))
        if key not in self._made:
            analytic = self.bench.model in ANALYTIC_FIRST_STEP
            given = {**self.sizes.options(method), "analytic_first_step": analytic, **options}
            done = self.bench.fit(steps_of(self.bench.model, calls), seed, **given)
            self._made[key] = done, self.bench.error(done.solver)
        return self._made[key]

    def handcrafted(self) -> dict[str, tuple[str, float]]:
        """Network calls -> the best handcrafted solver and its error."""
        return {str(calls): best(self.bench.handcrafted_errors(calls)) for calls in self.sizes.calls}


def steps_of(model: str, calls: int) -> int:
    """The number of steps that make this many network calls."""
    return calls + int(model in ANALYTIC_FIRST_STEP)


def of_models(numbers: Numbers, part: str = "errors") -> dict[str, Found]:
    """One part of the errors of each model, with the handcrafted ones."""
    return {model: (found[part], found["handcrafted"]) for model, found in numbers.items()}


def errors_table(models: Mapping[str, Found]) -> str:
    """A row for each variant of each method on each model, a column for each number of network calls."""
    every_calls = sorted({int(calls) for _, handcrafted in models.values() for calls in handcrafted})
    rows = []
    for model, (errors, handcrafted) in models.items():
        named = {int(calls): f"{name} {error:.3g}" for calls, (name, error) in handcrafted.items()}
        rows.append([f"`{model}`", "", HANDCRAFTED, *(named.get(n, "") for n in every_calls)])
        for method, variants in errors.items():
            for name, by_calls in variants.items():
                given = {int(calls): significant(values) for calls, values in by_calls.items()}
                rows.append([f"`{model}`", method, name, *(given.get(n, "") for n in every_calls)])
    return table(["model", "fit", "variant", *(f"{n} calls" for n in every_calls)], rows)


def figure(title: str, models: Mapping[str, Found], references: Sequence[str], path: Path) -> None:
    """Errors as multiples of a reference variant's, the handcrafted one first.

    A column for each model, a row for each method. references: for each model the variant whose mean is 1. Marks are
    means over the seeds, bars reach from the smallest to the largest.
    """
    columns: dict[str, Errors] = {}
    for model, (errors, handcrafted) in models.items():
        best_ = {calls: [error] for calls, (_, error) in handcrafted.items()}
        columns[model] = {method: {HANDCRAFTED: best_, **variants} for method, variants in errors.items()}
    methods = list(dict.fromkeys(method for errors in columns.values() for method in errors))
    drawn, axes = panels(title, [2.6] * len(methods), len(columns))
    handles: dict[str, Any] = {}
    for column, ((name, errors), reference) in enumerate(zip(columns.items(), references, strict=True)):
        names = _names(errors)
        for row, method in enumerate(methods):
            one = axes[row, column]
            one.set_title(f"{name}\n{method}", loc="left", fontsize=SMALL, color=INK)
            if method in errors:
                handles |= _draw(one, errors[method], reference, names)
            else:
                one.set_visible(False)
        for one in [one for one in axes[:, column] if one.get_visible()][:-1]:
            one.set_xticklabels([])
    _same_limits([one for one in axes.flat if one.get_visible()])
    drawn.supylabel("error relative to the line", fontsize=SMALL, color=INK)
    drawn.legend(handles.values(), handles.keys(), loc="upper right", ncols=3, **LEGEND)
    write(drawn, path)


def _names(errors: Errors) -> list[str]:
    """The variants of all methods, in the order of the method with the most."""
    longest_first = sorted(errors.values(), key=len, reverse=True)
    return list(dict.fromkeys(name for variants in longest_first for name in variants))


def _draw(
    axes: Any, variants: Mapping[str, Mapping[str, Sequence[float]]], reference: str, names: list[str]
) -> dict[str, Any]:
    """Draw the marks of one panel; returns what the legend names."""
    handles = {}
    for index, calls in enumerate(STYLES):
        shown = [name for name in names if calls in variants.get(name, {})]
        if reference not in shown:
            continue
        one, (colour, marker) = statistics.mean(variants[reference][calls]), STYLES[calls]
        at = [names.index(name) + 0.24 * (index - 0.5) for name in shown]
        ratios = [[error / one for error in variants[name][calls]] for name in shown]
        axes.vlines(at, [*map(min, ratios)], [*map(max, ratios)], color=colour, lw=1.2, alpha=0.6)
        means = [*map(statistics.mean, ratios)]
        (handles[f"{calls} calls"],) = axes.plot(at, means, marker, color=colour, ms=3.5)
    axes.axhline(1, color=INK, lw=0.8)
    axes.set_xticks(range(len(names)), names, rotation=65, ha="right", rotation_mode="anchor", fontsize=SMALL)
    axes.set(yscale="log", xlim=(-0.6, len(names) - 0.4))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    return handles


def _same_limits(axes: Sequence[Any]) -> None:
    limits = [one.get_ylim() for one in axes]
    for one in axes:
        one.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
