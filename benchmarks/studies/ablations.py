"""The gain of each part of DyWeight: time shifting, time scaling, and the number of slopes of a step (figure 6).

Errors are relative endpoint errors on unseen samples. With time scaling, every table of a solver with time shifting is
also one of a solver without it (`without_shifting` converts it). So where the two end at different errors, the fit
made the difference, not the tables that exist.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dyweight import DyWeight, Solver

from ..harness.study import Numbers, Options, Study, Tables, table
from ..harness.variants import QUICK, SLOW, Cases, Fits, Sizes, errors_table, figure, of_models

DEFAULT = "order 3"
MODELS = ("digits", "gmm", "shapes")
SIZES = {
    "shapes": SLOW,
    "tiny-flux": Sizes((5,), methods=("gauss-newton",)),
}
TIME: Cases = {
    "no shifting": {"time_shifting": False},
    "no scaling": {"time_scaling": False},
    "neither": {"time_shifting": False, "time_scaling": False},
}


def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """Model -> the errors of the best handcrafted solvers, all variants, and the default's tables without shifting."""
    for model in options.models:
        sizes = QUICK if options.quick else SIZES.get(model, Sizes((5,), adam_pairs=1000))
        fits = Fits(sizes.bench(model, options.quick), sizes)
        errors = fits.errors(cases, options.seeds)
        again = rewritten(fits, options.seeds[0])
        yield model, {"handcrafted": fits.handcrafted(), "errors": errors, "rewritten": again}


def cases(method: str, steps: int) -> Cases:
    """Variants of a solver with this many steps: orders 1, 2, 3 and N, then parts turned off."""
    orders: dict[str, dict[str, Any]] = {f"order {order}": {"order": order} for order in range(1, min(3, steps) + 1)}
    if steps > 3:
        orders["order N"] = {"order": steps}
        if method == "adam":
            orders["order N from Euler"] = {"order": steps, "initial": "euler"}
    return orders | {name: {"order": min(3, steps), **options} for name, options in TIME.items()}


def without_shifting(solver: Solver) -> DyWeight:
    """A solver without time shifting whose weights and time scales give the same table."""
    other = DyWeight(solver.sigmas, solver.order, solver.slope, solver.analytic_first_step, time_shifting=False)
    return other.set_table(solver.plan().detach())


def rewritten(fits: Fits, seed: int) -> list[list[Any]]:
    """Rows of method, network calls, error of the table without time shifting, and error of the original solver."""
    rows: list[list[Any]] = []
    for method in fits.sizes.methods:
        for calls in fits.sizes.calls:
            done, error = fits.fit(method, calls, seed, {"order": 3})
            rows.append([method, calls, fits.bench.error(without_shifting(done.solver)), error])
    return rows


def tables(numbers: Numbers) -> Tables:
    """All variants, and the default's tables without time shifting."""
    again = [
        [f"`{model}`", method, calls, f"{error:.6f}", f"{before:.6f}"]
        for model, found in numbers.items()
        for method, calls, error, before in found["rewritten"]
    ]
    return {
        "errors": errors_table(of_models(numbers)),
        "without time shifting": table(["model", "method", "network calls", "error", "as it was"], again),
    }


def draw(numbers: Numbers, folder: Path) -> None:
    """The figure: a column for each model, a row for each method."""
    title = f"DyWeight with less; {DEFAULT} = 1"
    figure(title, of_models(numbers), [DEFAULT] * len(numbers), folder / "study-ablations.png")


STUDY = Study("ablations", __doc__, measure, tables, draw, MODELS, quick_models=("digits",))
