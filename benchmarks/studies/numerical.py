"""Are handcrafted multistep weights good at few steps? The numerical study: section 3.2, D.1, figures 3 and A.2.

Adams-Bashforth of orders 1 to 4 on polynomials of degree K, with the classical weights and with weights of each step
that Adam optimises for 2,000 iterations towards the known end. A point is the mean relative error of 50 problems per
seed. The paper's four observations are checked point by point.
"""

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.report.curves import COOL, INK, SMALL, TEXT, WARM, write

from ..harness.panels import log_scale, panels
from ..harness.study import Numbers, Options, Study, Tables, significant, table
from .polynomials import COUPLING, DIMENSION, Integration, Problems, optimised_weights, problems

ORDERS = (1, 2, 3, 4)
TEACHER_ORDER, TEACHER_STEPS = 4, 100
SHOWN_STEPS, SHOWN_DEGREE, READING_STEPS = 10, 20, 12
"""The values that the figure fixes, and the number of steps for the other reading of A's entries."""
SHOWN_DEGREES = (5, 20, 40)
"""The degrees in the tables."""
VARIANTS = ("standard", "optimised")
LEGEND: dict[str, Any] = {"frameon": False, "fontsize": SMALL, "labelcolor": INK}


@dataclass(frozen=True)
class Grid:
    """The problems and solvers that are run."""

    degrees: tuple[int, ...] = tuple(range(5, 45, 5))
    steps: tuple[int, ...] = tuple(range(6, 22, 2))
    runs: int = 50
    iterations: int = 2000


QUICK = Grid(degrees=(5, 20, 40), steps=(6, 12, 20), runs=5, iterations=50)


@dataclass(frozen=True)
class Errors:
    """Mean relative errors of one seed's problems."""

    standard: Tensor
    """[steps, orders, degrees]"""
    optimised: Tensor
    teacher: Tensor
    """[degrees]"""
    improved_runs: float
    """Fraction of single runs whose error the optimisation lowered."""


def study(options: Options) -> Iterator[tuple[str, Any]]:
    """The grid with all seeds, and three further questions with the first seed."""
    grid, first = QUICK if options.quick else Grid(), options.seeds[0]
    found = [plain(measure(problems(grid.runs, max(grid.degrees), seed), grid)) for seed in options.seeds]
    yield "grid", {"grid": asdict(grid), "seeds": dict(zip(options.seeds, found, strict=True))}
    yield "readings", readings(grid, first)
    yield "rates", rates(grid, first)
    yield "exchanged", exchanged(grid, first)


def measure(given: Problems, grid: Grid) -> Errors:
    """Standard and optimised errors at every number of steps, and the teacher's."""
    pairs = [errors_at(given, grid, steps) for steps in grid.steps]
    teacher = Integration(given, grid.degrees, (TEACHER_ORDER,), TEACHER_STEPS, torch.float64)
    improved = torch.stack([(after < before).double().mean() for before, after in pairs])
    standard, optimised = (torch.stack([one[i].mean(-1) for one in pairs]) for i in (0, 1))
    teacher_errors = teacher.relative_errors(teacher.classical_weights()).mean(-1)[0]
    return Errors(standard, optimised, teacher_errors, float(improved.mean()))


def errors_at(given: Problems, grid: Grid, steps: int) -> tuple[Tensor, Tensor]:
    """Relative errors [orders, degrees, runs] before and after the optimisation."""
    exact = Integration(given, grid.degrees, ORDERS, steps, torch.float64)
    # Only the training is in float32, torch's default; `rates` shows where that matters.
    fast = Integration(given, grid.degrees, ORDERS, steps, torch.float32)
    weights = optimised_weights(fast, grid.iterations)
    return exact.relative_errors(exact.classical_weights()), exact.relative_errors(weights.double())


def observations(grid: Grid, errors: Errors) -> dict[str, dict[str, bool]]:
    """Observation of the paper -> point -> whether it holds there."""
    found: dict[str, dict[str, bool]] = {}
    for variant in VARIANTS:
        table = getattr(errors, variant)
        found[f"1. a higher order is better, {variant}"] = _falls(grid, table, axis=1)
        found[f"2. a higher degree is worse, {variant}"] = _falls(grid, table.flip(2), axis=2, flipped=True)
        found[f"2. more steps are better, {variant}"] = _falls(grid, table, axis=0)
    better = errors.optimised < errors.standard
    found["3. optimised is below standard"] = {
        f"AB-{ORDERS[o]}, S {grid.steps[s]}, K {grid.degrees[k]}": bool(better[s, o, k]) for s, o, k in _points(better)
    }
    best = errors.standard[:, -1].amin(0)
    found[f"4. the teacher is below 5 % and below AB-4 with {grid.steps[-1]} steps"] = {
        f"K {degree}": bool(errors.teacher[k] < min(0.05, float(best[k]))) for k, degree in enumerate(grid.degrees)
    }
    return found


def _points(table: Tensor) -> Iterator[tuple[int, ...]]:
    return itertools.product(*map(range, table.shape))


def _falls(grid: Grid, table: Tensor, axis: int, flipped: bool = False) -> dict[str, bool]:
    """Whether each error is above the next one along an axis; the point is named by the first."""
    holds = table.diff(dim=axis) < 0
    degrees = grid.degrees[::-1] if flipped else grid.degrees
    return {f"AB-{ORDERS[o]}, S {grid.steps[s]}, K {degrees[k]}": bool(holds[s, o, k]) for s, o, k in _points(holds)}


def tables(numbers: Numbers) -> Tables:
    """Errors and observations over the grid, and the further questions, where they are given."""
    made: dict[str, str] = {}
    if "grid" in numbers:
        grid, found = read(numbers["grid"])
        made = {f"grid, {steps} steps": of_errors(grid, found, steps) for steps in grid.steps}
        made |= {"grid, gains": of_gains(found), "grid, observations": of_observations(grid, found)}
    orders = [f"AB-{order}" for order in ORDERS]
    if "readings" in numbers:
        rows = ([name, f"{found['growth']:.2f}", *cells(found)] for name, found in numbers["readings"].items())
        made["readings"] = table(["0.1/sqrt(D) is the", "largest growth rate of A", *orders], rows)
    for part in ("rates", "exchanged"):
        if part in numbers:
            lines = ([name, *(f"{error:.3g}" for error in line)] for name, line in numbers[part].items())
            made[part] = table(["weights", *orders], lines)
    return made


def read(found: Mapping[str, Any]) -> tuple[Grid, list[Errors]]:
    """The grid and each seed's errors from JSON."""
    sizes: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found["grid"].items()}
    return Grid(**sizes), [
        Errors(*map(torch.tensor, (one[name] for name in (*VARIANTS, "teacher"))), one["improved_runs"])  # type: ignore
        for one in found["seeds"].values()
    ]


def cells(found: Mapping[str, Any]) -> list[str]:
    """Standard / optimised error of each order."""
    return [f"{a:.3g} / {b:.3g}" for a, b in zip(found["standard"], found["optimised"], strict=True)]


def of_errors(grid: Grid, found: Sequence[Errors], steps: int) -> str:
    """Standard / optimised errors at a number of steps, over the seeds: a row per order, columns for some degrees."""
    at, shown = grid.steps.index(steps), [k for k, degree in enumerate(grid.degrees) if degree in SHOWN_DEGREES]
    rows = [
        [
            f"AB-{order}",
            *(
                " / ".join(significant(getattr(one, name)[at, o, k].item() for one in found) for name in VARIANTS)
                for k in shown
            ),
        ]
        for o, order in enumerate(ORDERS)
    ]
    teacher = [f"{statistics.mean(one.teacher[k].item() for one in found):.2g}" for k in shown]
    header = ["solver", *(f"K = {grid.degrees[k]}" for k in shown)]
    return table(header, [*rows, [f"teacher, {TEACHER_STEPS} steps", *teacher]])


def of_gains(found: Sequence[Errors]) -> str:
    """The part of the error that optimising removes, mean over the grid, and the share of runs that it improves."""
    gains = [
        [f"AB-{order}", _spread([float((1 - one.optimised[:, o] / one.standard[:, o]).mean()) for one in found])]
        for o, order in enumerate(ORDERS)
    ]
    improved = ["single problems that it improves", _spread([one.improved_runs for one in found], 2)]
    return table(["solver", "optimising takes off the error"], [*gains, improved])


def _spread(values: Sequence[float], digits: int = 1) -> str:
    """As percentages."""
    mean = f"{100 * statistics.mean(values):.{digits}f} %"
    return f"{mean} ({100 * min(values):.{digits}f} to {100 * max(values):.{digits}f})" if len(values) > 1 else mean


def of_observations(grid: Grid, found: Sequence[Errors]) -> str:
    """A row for each observation: how often it holds, and where it does not."""
    by_seed = [observations(grid, errors) for errors in found]
    rows = []
    for name in by_seed[0]:
        held = [one[name] for one in by_seed]
        failing = sorted({point for points in held for point, holds in points.items() if not holds})
        where = "; ".join(failing[:4]) + (f" and {len(failing) - 4} more" if len(failing) > 4 else "")
        shares = ", ".join(f"{sum(points.values())} of {len(points)}" for points in held)
        rows.append([name, shares, where or "nowhere"])
    return table(["observation", "holds at", "not at"], rows)


def readings(grid: Grid, seed: int) -> dict[str, Any]:
    """The errors with 0.1/sqrt(D) as A's deviation and as its variance, at READING_STEPS steps."""
    deviation, found = COUPLING * DIMENSION**-0.5, {}
    for name, coupling in (("deviation", deviation), ("variance", deviation**0.5)):
        given = problems(grid.runs, max(grid.degrees), seed, coupling)
        before, after = (errors.mean((1, 2)).tolist() for errors in errors_at(given, grid, READING_STEPS))
        growth = float(torch.linalg.eigvals(given.coupling).real.amax())
        found[name] = {"growth": growth, "standard": before, "optimised": after}
    return found


def rates(grid: Grid, seed: int) -> dict[str, list[float]]:
    """What a constant learning rate and float32 leave of the smallest errors, on the first few problems."""
    given = problems(min(10, grid.runs), max(grid.degrees), seed)
    exact, fast = (
        Integration(given, grid.degrees[:1], ORDERS, grid.steps[-1], dtype) for dtype in (torch.float64, torch.float32)
    )
    weights = {
        "standard": exact.classical_weights(),
        "optimised, as above": optimised_weights(fast, grid.iterations),
        "optimised, in float64": optimised_weights(exact, grid.iterations),
        "optimised, learning rate decays to 0": optimised_weights(fast, grid.iterations, decaying=True),
    }
    return {name: exact.relative_errors(found.double()).mean((1, 2)).tolist() for name, found in weights.items()}


def exchanged(grid: Grid, seed: int) -> dict[str, list[float]]:
    """Mean errors over runs and degrees with classical weights, each run's own weights, and the next run's weights."""
    given = problems(grid.runs, max(grid.degrees), seed)
    made = Integration(given, grid.degrees, ORDERS, READING_STEPS, torch.float32)
    own = optimised_weights(made, grid.iterations)
    weights = {"standard": made.classical_weights(), "own": own, "of the next problem": own.roll(1, dims=2)}
    return {name: made.relative_errors(found).mean((1, 2)).tolist() for name, found in weights.items()}


def plain(errors: Errors) -> dict[str, Any]:
    """For JSON."""
    return {name: value.tolist() if isinstance(value, Tensor) else value for name, value in vars(errors).items()}


def draw(numbers: Numbers, folder: Path) -> None:
    """`study-numerical.png` like the paper's figure 3, `study-numerical-grid.png` like its figure A.2."""
    grid, found = read(numbers["grid"])
    means = {name: torch.stack([getattr(one, name) for one in found]).mean(0) for name in (*VARIANTS, "teacher")}
    steps = SHOWN_STEPS if SHOWN_STEPS in grid.steps else grid.steps[0]
    figure, axes = panels("Classical weights (dashed) and optimised weights (solid) on polynomials", [2.9], 2)
    _over_degree(axes[0, 0], grid, means, steps)
    _over_steps(axes[0, 1], grid, means, SHOWN_DEGREE)
    axes[0, 0].set_ylabel("relative error at t = 1", fontsize=TEXT)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=5, loc="outside lower left", **LEGEND)
    write(figure, folder / "study-numerical.png")
    rows = -(-len(grid.steps) // 4) + -(-len(grid.degrees) // 4)
    figure, axes = panels("Classical (dashed) and optimised (solid) weights: the whole grid", [1.8] * rows, 4)
    for axis, steps in zip(axes.flat, grid.steps, strict=False):
        _over_degree(axis, grid, means, steps)
    for axis, degree in zip(list(axes.flat)[4 * -(-len(grid.steps) // 4) :], grid.degrees, strict=False):
        _over_steps(axis, grid, means, degree)
    for axis in [axis for axis in axes.flat if not axis.lines]:
        axis.remove()
    write(figure, folder / "study-numerical-grid.png")


def _over_degree(axes: Any, grid: Grid, means: Mapping[str, Tensor], steps: int) -> None:
    s = grid.steps.index(steps)
    axes.plot(grid.degrees, means["teacher"], ":", color=INK, lw=1.6, label=f"teacher, S = {TEACHER_STEPS}")
    _lines(axes, grid.degrees, {name: means[name][s] for name in VARIANTS}, f"S = {steps} steps", "degree K")


def _over_steps(axes: Any, grid: Grid, means: Mapping[str, Tensor], degree: int) -> None:
    k = grid.degrees.index(degree)
    _lines(axes, grid.steps, {name: means[name][:, :, k].T for name in VARIANTS}, f"degree K = {degree}", "steps S")


def _lines(axes: Any, at: Sequence[int], tables: Mapping[str, Tensor], title: str, below: str) -> None:
    """tables: [orders, points] of each variant."""
    for name, style, colour in zip(VARIANTS, ("--", "-"), (COOL, WARM), strict=True):
        for order, marker, line in zip(ORDERS, "os^D", tables[name], strict=True):
            label = f"AB-{order}" if name == "optimised" else None
            axes.plot(at, line, style, marker=marker, ms=3.5, color=colour, lw=1.2, label=label)
    axes.set_title(title, loc="left", fontsize=TEXT, color=INK)
    axes.set_xlabel(below, fontsize=SMALL)
    log_scale(axes)


STUDY = Study("numerical", __doc__, study, tables, draw)
