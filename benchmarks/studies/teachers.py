"""The data of a fit: the teacher, the number of pairs, and the convergence (DyWeight, tables 5 and A.4, figure 5).

All errors are relative endpoint errors on unseen samples with one fine teacher, except for the column that says
otherwise and the convergence, which the fit itself measures: with its own teacher, on validation pairs.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.pairs.teacher import Teacher
from trainer.report.curves import COOL, LEGEND, MUTED, SMALL, TEXT, WARM, write

from ..harness.bench import Bench
from ..harness.panels import draw_range, log_scale, panels
from ..harness.study import Numbers, Options, Study, Tables, best, significant, table

STEPS = 5
"""Steps of the solvers in the parts on pairs and on convergence."""
ADAM, BATCH = "adam", 16
"""The paper's method, and its number of pairs per iteration."""
CONFIGURATIONS = {
    "adams-bashforth, order 3": {"initial": "adams-bashforth", "order": 3},
    f"adams-bashforth, order {STEPS}": {"initial": "adams-bashforth", "order": STEPS},
    "euler, order 3": {"initial": "euler", "order": 3},
    f"euler, order {STEPS}": {"initial": "euler", "order": STEPS},
}
"""Those of figure 5: initial weights of higher order or of Euler; the last slopes or all."""


CALLS = 20_000
"""Of gauss-newton in the part on pairs, enough for each number of them."""
GAUSS_NEWTON: Mapping[str, Any] = {"batch": BATCH}
"""Larger network calls than by default, which are faster on few cores."""


@dataclass(frozen=True)
class Sizes:
    """The amount of work for a model."""

    steps: tuple[int, ...] = (7,)
    """In the part on teachers."""
    teachers: tuple[str, ...] = ("ipndm:10", "ipndm:18", "ipndm:35", "dpm_solver_2:35", "heun:35")
    """Those of table 5, and a coarse one."""
    adam: tuple[int, ...] = (600, 2000, 10_000)
    """Pairs, each seen once."""
    again: tuple[int, ...] = (600,)
    """Pairs that are repeated for as many iterations as the largest number of `adam` takes."""
    gauss_newton: tuple[int, ...] = (16, 64, 128)
    """Pairs that it begins with, each with CALLS network calls."""
    convergence: int = 2000
    """Pairs of each run."""
    validation: int = 128
    fit: Mapping[str, Any] = field(default_factory=dict)
    """More options of the fits in the part on teachers."""


SIZES = {"gmm": Sizes(steps=(5,))}
QUICK = Sizes((3,), ("ipndm:10", "ipndm:35"), (32, 64), (32,), (8, 16), 160, 16, fit={"pairs": 16, "iterations": 2})


def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """Model -> the best handcrafted errors by number of steps, and the three parts."""
    for model in options.models:
        sizes = QUICK if options.quick else SIZES.get(model, Sizes())
        bench = Bench(model, options.quick)
        found = {
            "handcrafted": {n: best(bench.handcrafted_errors(n)) for n in sorted({*sizes.steps, STEPS})},
            "teachers": teachers(bench, sizes, options.seeds),
            "pairs": pairs(bench, sizes, options.seeds),
            "convergence": convergence(bench, sizes, options.seeds),
        }
        yield model, found


def teachers(bench: Bench, sizes: Sizes, seeds: Sequence[int]) -> dict[str, dict[str, dict[str, Any]]]:
    """Steps -> teacher -> its own error, and those of its students with the fine teacher and with itself."""
    judges = {name: Bench(bench.model, bench.quick, teacher=name) for name in sizes.teachers}
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for steps in sizes.steps:
        for name, judge in judges.items():
            students = [bench.fit(steps, seed, teacher=name, **GAUSS_NEWTON, **sizes.fit).solver for seed in seeds]
            found.setdefault(f"{steps}", {})[name] = {
                "teacher": bench.error(Teacher.parse(name).plan(bench.checkpoint)),
                "students": [bench.error(student) for student in students],
                "against itself": [judge.error(student) for student in students],
            }
    return found


def pairs(bench: Bench, sizes: Sizes, seeds: Sequence[int]) -> dict[str, dict[str, dict[str, Any]]]:
    """Method -> number of distinct training pairs -> errors."""
    most = max(sizes.adam) // BATCH
    series: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
        ADAM: (sizes.adam, {"method": "adam"}),
        f"{ADAM}, {most} iterations": (sizes.again, {"method": "adam", "iterations": most}),
        "gauss-newton": (sizes.gauss_newton, {"calls": CALLS, **GAUSS_NEWTON}),
    }
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, (counts, more) in series.items():
        for count in counts:
            errors = [bench.error(bench.fit(STEPS, seed, pairs=count, **more).solver) for seed in seeds]
            found.setdefault(name, {})[f"{count}"] = {"errors": errors}
    return found


def convergence(bench: Bench, sizes: Sizes, seeds: Sequence[int]) -> dict[str, dict[str, list[Any]]]:
    """Configuration -> pairs seen, and [points][seeds] of the training loss and of the validation error.

    The first point is the untrained solver, whose training loss is not measured.
    """
    found = {}
    for name, configuration in CONFIGURATIONS.items():
        more = {"method": "adam", "pairs": sizes.convergence, "validation_pairs": sizes.validation}
        runs = [bench.fit(STEPS, seed, **more, **configuration) for seed in seeds]
        before = [run.file.provenance["validation_error_before"] for run in runs]
        lines = list(zip(*(run.history for run in runs), strict=True))
        found[name] = {
            "pairs": [0, *(line[0].iteration * BATCH for line in lines)],
            "validation": [before, *([run.validation_error for run in line] for line in lines)],
            "training": [[run.training_error for run in line] for line in lines],
        }
    return found


def tables(numbers: Numbers) -> Tables:
    """A table for each part; for the convergence one for each set of points."""
    header = ["model, steps", "teacher", "its own error", "error of the student", "against its teacher"]
    judged = [
        [
            *(f"`{model}`, {steps}", name, significant([row["teacher"]]), significant(row["students"])),
            *(significant(row["against itself"]), "{} {:.3g}".format(*found["handcrafted"][steps])),
        ]
        for model, found in numbers.items()
        for steps, rows in found["teachers"].items()
        for name, row in rows.items()
    ]
    fed = [
        [
            *(f"`{model}`", method, f"{int(count):,}", significant(row["errors"])),
            f"{statistics.mean(row['errors']) / found['handcrafted'][f'{STEPS}'][1]:.3f}",
        ]
        for model, found in numbers.items()
        for method, rows in found["pairs"].items()
        for count, row in rows.items()
    ]
    of_pairs = ["model", "method", "training pairs", "error", "of the best handcrafted"]
    return {
        "teachers": table([*header, "best handcrafted"], judged),
        "pairs": table(of_pairs, fed),
        **converging(numbers),
    }


def converging(numbers: Numbers) -> Tables:
    """Validation error over the pairs seen: a table for the models with the same number of pairs."""
    made: dict[str, tuple[list[str], list[list[str]]]] = {}
    for model, found in numbers.items():
        for name, row in found["convergence"].items():
            seen = row["pairs"]
            points = sorted({0, 1, 2, len(seen) // 5, len(seen) // 2, len(seen) - 1} & set(range(len(seen))))
            header = ["model", "start", *(f"{seen[i]:,} pairs" for i in points)]
            _, rows = made.setdefault(f"convergence, {seen[-1]:,} pairs", (header, []))
            rows.append([f"`{model}`", name, *(significant(row["validation"][i]) for i in points)])
    return {name: table(header, rows) for name, (header, rows) in made.items()}


def draw(numbers: Numbers, folder: Path) -> None:
    """A column for each model, a row for each part: students over teachers, errors over pairs, convergence."""
    drawn, axes = panels("What a fit is fed with: the teacher, the pairs, the time", [2.1, 2.1, 2.1], len(numbers))
    for column, (model, found) in enumerate(numbers.items()):
        _draw_teachers(axes[0, column], found["teachers"])
        for row, title in enumerate((model, " ", " ")):
            axes[row, column].set_title(title, fontsize=TEXT, loc="left", pad=18 if row == 0 else 8)
        best = found["handcrafted"][f"{STEPS}"][1]
        for name, rows in found["pairs"].items():
            again = name.startswith(f"{ADAM},")
            errors, colour = [row["errors"] for row in rows.values()], COOL if ADAM in name else WARM
            label = "adam, as many iterations as its last" if again else name
            draw_range(axes[1, column], [*map(int, rows)], errors, colour, "--s" if again else "-o", label)
        axes[1, column].axhline(best, color=MUTED, ls="--", lw=1, label="best handcrafted")
        log_scale(axes[1, column], "xy")
        _draw_convergence(axes[2, column], found["convergence"])
    for row, (below, beside) in enumerate(
        (("", "endpoint error"), (f"training pairs ({STEPS} steps)", "endpoint error"), ("pairs seen", "error"))
    ):
        axes[row, 0].set_ylabel(beside, fontsize=SMALL)
        legend = axes[row, 0].legend(loc="lower left", bbox_to_anchor=(-0.1, 1.0), ncols=4, **LEGEND)
        legend.set_in_layout(False)  # it is wider than its axes; the titles keep its room free
        for one in axes[row]:
            one.set_xlabel(below, fontsize=SMALL)
    write(drawn, folder / "study-teachers.png")


def _draw_teachers(axes: Any, found: dict[str, dict[str, dict[str, Any]]]) -> None:
    names = list(next(iter(found.values())))
    for steps, marker in zip(found, "os^", strict=False):
        rows = [found[steps][name]["students"] for name in names]
        draw_range(axes, range(len(names)), rows, WARM, f"-{marker}", f"student, {steps} steps")
    own = [found[next(iter(found))][name]["teacher"] for name in names]
    axes.plot(range(len(names)), own, "x", color=COOL, label="the teacher itself")
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
    log_scale(axes)


def _draw_convergence(axes: Any, found: dict[str, dict[str, list[Any]]]) -> None:
    for name, row in found.items():
        colour, style = WARM if name.startswith("adams") else COOL, "-" if name.endswith("3") else "--"
        draw_range(axes, row["pairs"], row["validation"], colour, style, name)
        training = [statistics.mean(values) for values in row["training"]]
        axes.plot(row["pairs"][1:], training, style, color=colour, lw=0.6, alpha=0.5)
    log_scale(axes)


STUDY = Study("teachers", __doc__, measure, tables, draw, ("digits", "gmm"), quick_models=("digits",))
