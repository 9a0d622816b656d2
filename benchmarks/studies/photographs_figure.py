"""The figure of the study `photographs`: distance and error over network calls."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.compare.handcrafted import solvers
from trainer.report.curves import COOL, INK, LEGEND, SMALL, TEXT, WARM, styles, write

from ..harness.panels import draw_range, log_scale, panels

HANDCRAFTED = ("euler", "ipndm:3", "dpmpp_2m", "dpmpp_3m", "unipc:3")
"""The paper's, and what ComfyUI's users take."""
LEARNED = {"dyweight, draft": "#e69f00", "dyweight, normal": WARM, "dyweight, adam": COOL, "indis": "#009e73"}
TITLES = {"distance": "Fréchet distance of the judge's features", "error": "endpoint error"}


def draw(numbers: Mapping[str, Any], folder: Path) -> None:
    """`study-photographs.png`: a column a model, a row for distances and one for errors."""
    models = list(dict.fromkeys(part.partition(": ")[0] for part in numbers))
    figure, axes = panels("Samplers on photographs over network calls", [2.8, 2.8], len(models))
    for column, model in enumerate(models):
        parts = [found["rows"] for part, found in numbers.items() if part.startswith(f"{model}: ")]
        rows = {name: by_calls for part in parts for name, by_calls in part.items()}
        for row, (what, title) in enumerate(TITLES.items()):
            one = axes[row, column]
            one.set_title(f"{model}\n{title}", loc="left", fontsize=TEXT, color=INK)
            _panel(one, rows, what)
        axes[1, column].set_xlabel("network calls (NFE)", fontsize=SMALL)
    handles = {label: line for one in axes.flat for line, label in zip(*one.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), ncols=4, loc="outside lower left", **LEGEND)
    write(figure, folder / "study-photographs.png")


def _panel(axes: Any, rows: Mapping[str, Any], what: str) -> None:
    for name, style in styles(HANDCRAFTED).items():
        if name in rows:
            at, values = _points(rows[name], what)
            axes.plot(at, [value[0] for value in values], lw=0.9, ms=3, label=name, **style)
    axes.plot(*_best(rows, what), color=INK, lw=1.2, ls="--", label="best handcrafted, any order")
    for name, colour in LEARNED.items():
        if name in rows:
            draw_range(axes, *_points(rows[name], what), colour, "-o", name)
    floor = [one[what] for name, by in rows.items() if name.startswith("teacher") for one in next(iter(by.values()))]
    if what == "distance" and floor:
        axes.axhline(floor[0], color=INK, lw=1, ls=":", label="teacher")
    log_scale(axes)


def _best(rows: Mapping[str, Any], what: str) -> tuple[list[int], list[float]]:
    """Network calls and the smallest value of the handcrafted solvers there."""
    found = [zip(*_points(by_calls, what), strict=True) for name, by_calls in rows.items() if name in solvers()]
    every = [(calls, value) for one in found for calls, (value, *_) in one]
    least = {calls: min(value for at, value in every if at == calls) for calls, _ in sorted(every)}
    return list(least), list(least.values())


def _points(by_calls: Mapping[str, Sequence[Mapping[str, Any]]], what: str) -> tuple[list[int], list[list[float]]]:
    """Network calls and the values of the seeds there, without what diverged."""
    found = {int(calls): [one[what] for one in seeds if one[what] is not None] for calls, seeds in by_calls.items()}
    kept = {calls: values for calls, values in sorted(found.items()) if values}
    return list(kept), list(kept.values())
