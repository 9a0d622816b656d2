"""What the studies of variants share: each fitted at equal numbers of network calls, one table and one figure."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.ticker import LogLocator, NullLocator

from trainer.report.curves import COOL, INK, LEGEND, SMALL, WARM, write
from trainer.report.report import Distillation

from .common import Bench, print_table, significant
from .panels import panels

Cases = Mapping[str, Mapping[str, Any]]
"""Name of a variant -> options of its fit."""
Errors = dict[str, dict[str, dict[str, list[float]]]]
"""Method -> variant -> network calls -> error of each seed."""
ANALYTIC_FIRST_STEP = ("shapes",)
"""Pixel models, where the paper takes the first slope without a network call."""
HANDCRAFTED = "best handcrafted"
STYLES = {"3": (WARM, "o"), "5": (COOL, "s"), "7": (INK, "^")}
"""Network calls -> colour and marker."""


@dataclass(frozen=True)
class Sizes:
    """How much is run for a model."""

    calls: tuple[int, ...] = (3, 5, 7)
    methods: tuple[str, ...] = ("adam", "gauss-newton")
    adam_pairs: int = 4000
    more: Mapping[str, Mapping[str, Any]] | None = None
    """Method -> further options."""

    def options(self, method: str) -> dict[str, Any]:
        """Of a fit with this method."""
        pairs = {"pairs": self.adam_pairs} if method == "adam" else {}
        return {"method": method, **pairs, **(self.more or {}).get(method, {})}


QUICK = Sizes((3,), adam_pairs=64, more={"gauss-newton": {"pairs": 16, "iterations": 1}})


class Fits:
    """Fits on a model at numbers of network calls; one that is asked for twice is made once."""

    def __init__(self, bench: Bench, sizes: Sizes) -> None:
        self.bench, self.sizes = bench, sizes
        self._made: dict[tuple[object, ...], tuple[Distillation, float]] = {}

    def errors(self, cases: Callable[[str, int], Cases], seeds: Sequence[int]) -> Errors:
        """Errors on unseen samples. cases: of a method and a number of steps."""
        found: Errors = {}
        for method in self.sizes.methods:
            for calls in reversed(self.sizes.calls):  # the most calls have the most variants
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
        return {str(calls): next(iter(self.bench.handcrafted_errors(calls).items())) for calls in self.sizes.calls}


def steps_of(model: str, calls: int) -> int:
    """Steps that make so many network calls."""
    return calls + int(model in ANALYTIC_FIRST_STEP)


def with_handcrafted(errors: Errors, handcrafted: Mapping[str, tuple[str, float]]) -> Errors:
    """The same with the best handcrafted solver before each method's variants, for a figure."""
    best = {calls: [error] for calls, (_, error) in handcrafted.items()}
    return {method: {HANDCRAFTED: best, **variants} for method, variants in errors.items()}


def print_errors(title: str, errors: Errors, handcrafted: Mapping[str, tuple[str, float]]) -> None:
    """A row a variant, a column a number of network calls."""
    print(f"\n{title}")
    calls = list(handcrafted)
    rows = [["", HANDCRAFTED, *(f"{name} {error:.3g}" for name, error in handcrafted.values())]]
    for method, variants in errors.items():
        for name, by_calls in variants.items():
            rows.append([method, name, *(significant(by_calls[n]) if n in by_calls else "" for n in calls)])
    print_table(["method", "variant", *(f"{n} calls" for n in calls)], rows)


def figure(title: str, columns: Mapping[str, Errors], references: Sequence[str], path: Path) -> None:
    """Errors as multiples of a reference variant's: a panel for each of `columns` and each method.

    references: of each column the variant whose mean is 1. Marks are means over the seeds, bars reach from the
    smallest to the largest.
    """
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
    drawn.supylabel("error as a multiple of the line's", fontsize=SMALL, color=INK)
    drawn.legend(handles.values(), handles.keys(), loc="upper right", ncols=3, **LEGEND)
    write(drawn, path)


def _names(errors: Errors) -> list[str]:
    """Of the variants of all methods, in the order of the method that has most."""
    longest_first = sorted(errors.values(), key=len, reverse=True)
    return list(dict.fromkeys(name for variants in longest_first for name in variants))


def _draw(
    axes: Any, variants: Mapping[str, Mapping[str, Sequence[float]]], reference: str, names: list[str]
) -> dict[str, Any]:
    """The marks of one panel; what its legend names."""
    handles = {}
    for index, calls in enumerate(STYLES):
        shown = [name for name in names if calls in variants.get(name, {})]
        if reference not in shown:
            continue
        one, (colour, marker) = statistics.mean(variants[reference][calls]), STYLES[calls]
        at = [names.index(name) + 0.24 * (index - 1) for name in shown]
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
