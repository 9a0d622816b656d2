"""What each part of DyWeight brings: time shifting, time scaling, and the number of slopes a step uses (DyWeight,
figure 6).

Errors are relative endpoint errors on unseen samples. A table of a solver with time shifting is also one of a solver
without it, as long as time scaling is on (`without_shifting` writes it as one); so where the two end apart, the way
to the table made the difference, not what can be reached.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dyweight import DyWeight, Solver

from .common import Bench, Options, parse, print_table, read_numbers, timed, write_numbers
from .variants import QUICK, Cases, Fits, Sizes, figure, print_errors, with_handcrafted

STUDY, DEFAULT = "ablations", "order 3"
MODELS = ("digits", "gmm", "shapes")
SIZES = {
    "digits": Sizes(adam_pairs=10_000),
    "shapes": Sizes((3, 5), adam_pairs=1000),
    "tiny-flux": Sizes((5,), methods=("gauss-newton",)),
}
TIME: Cases = {
    "no shifting": {"time_shifting": False},
    "no scaling": {"time_scaling": False},
    "neither": {"time_shifting": False, "time_scaling": False},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = parse(STUDY, __doc__, arguments, MODELS, quick_models=("digits",))
    timed(lambda: study(options))
    return 0


def study(options: Options) -> None:
    """All variants on each model; tables, figure and numbers. Models of an earlier run stay in the figure."""
    numbers = read_numbers(options.out, STUDY)
    for model in options.models:
        fits = Fits(Bench(model, options.quick), QUICK if options.quick else SIZES.get(model, Sizes()))
        numbers[model] = {"handcrafted": fits.handcrafted(), "errors": fits.errors(cases, options.seeds)}
        print_errors(model, numbers[model]["errors"], numbers[model]["handcrafted"])
        print("\nthe default's table, written without time shifting")
        print_table(["method", "network calls", "error", "as it was"], rewritten(fits, options.seeds[0]))
        write_numbers(options.out, STUDY, numbers)
    if options.out is not None:
        draw(numbers, options.out)


def cases(method: str, steps: int) -> Cases:
    """Variants of a solver with so many steps: orders from 1 to N, with Adam 1, 2, 3 and N, then parts off."""
    orders: dict[str, dict[str, Any]] = {
        f"order {order}": {"order": order} for order in range(1, steps + 1) if order <= 3 or method != "adam"
    }
    if steps > 3:
        orders.pop(f"order {steps}", None)
        orders["order N"] = {"order": steps}
        if method == "adam":
            orders["order N from Euler"] = {"order": steps, "initial": "euler"}
    return orders | {name: {"order": min(3, steps), **options} for name, options in TIME.items()}


def without_shifting(solver: Solver) -> DyWeight:
    """The same table as weights and time scales of a solver without time shifting."""
    other = DyWeight(solver.sigmas, solver.order, solver.slope, solver.analytic_first_step, time_shifting=False)
    return other.set_table(solver.plan().detach())


def rewritten(fits: Fits, seed: int) -> list[list[object]]:
    """Rows of method, network calls, error of the table without time shifting, and of the solver it was."""
    rows: list[list[object]] = []
    for method in fits.sizes.methods:
        for calls in fits.sizes.calls:
            done, error = fits.fit(method, calls, seed, {"order": 3})
            again = fits.bench.error(without_shifting(done.solver))
            rows.append([method, calls, f"{again:.6f}", f"{error:.6f}"])
    return rows


def draw(numbers: Mapping[str, Any], out: Path) -> None:
    """The figure: a column a model, a row a method."""
    errors = {model: with_handcrafted(found["errors"], found["handcrafted"]) for model, found in numbers.items()}
    figure(f"DyWeight with less; {DEFAULT} = 1", errors, [DEFAULT] * len(errors), out / f"study-{STUDY}.png")


if __name__ == "__main__":
    sys.exit(main())
