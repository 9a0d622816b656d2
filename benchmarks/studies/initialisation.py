"""Where a fit begins: the initial weights and the base schedule (DyWeight, table A.3).

Neither changes what can be reached: with time shifting and time scaling every table of one base schedule is a table of
the others. Errors are relative endpoint errors on unseen samples. The teacher always runs on the model's own schedule.
"""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .common import Bench, Options, parse, read_numbers, timed, write_numbers
from .variants import QUICK, Cases, Fits, Sizes, figure, print_errors, with_handcrafted

STUDY = "initialisation"
MODELS = ("digits", "gmm", "shapes")
SIZES = {"shapes": Sizes((3, 5), adam_pairs=1000)}
RESCHEDULED = "benchmarks.studies.rescheduled"
EDM: Mapping[str, str | None] = {"EDM": None, "time-uniform": "time_uniform", "log-SNR": "log_snr"}
SCHEDULES: Mapping[str, Mapping[str, str | None]] = {
    "digits": {"uniform": None, "shifted by 3": "shifted", "log-SNR": "log_snr"},
    "gmm": EDM,
    "shapes": EDM,
}
"""Model -> name of a base schedule, the model's own first -> its checkpoint in rescheduled.py."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = parse(STUDY, __doc__, arguments, MODELS, quick_models=("digits",))
    timed(lambda: study(options))
    return 0


def study(options: Options) -> None:
    """Both parts on each model; tables, figure and numbers. Models of an earlier run stay in the figure."""
    numbers = read_numbers(options.out, STUDY)
    for model in options.models:
        fits = Fits(Bench(model, options.quick), QUICK if options.quick else SIZES.get(model, Sizes()))
        numbers[model] = {
            "handcrafted": fits.handcrafted(),
            "weights": fits.errors(weight_cases, options.seeds),
            "schedule": fits.errors(partial(schedule_cases, model), options.seeds),
        }
        for part in ("weights", "schedule"):
            print_errors(f"{model}: {part}", numbers[model][part], numbers[model]["handcrafted"])
        write_numbers(options.out, STUDY, numbers)
    if options.out is not None:
        draw(numbers, options.out)


def weight_cases(method: str, steps: int) -> Cases:
    """The paper's three initial weights, and for Gauss-Newton its own choice of starts."""
    del steps
    names = ("adams-bashforth", "euler", "uniform", *(() if method == "adam" else ("auto",)))
    return {name: {"initial": name} for name in names}


def schedule_cases(model: str, method: str, steps: int) -> Cases:
    """The base schedules of a model, with the method's usual initial weights."""
    del steps
    initial = "adams-bashforth" if method == "adam" else "auto"
    named = {
        name: {"ckpt": f"{RESCHEDULED}:{model}_{other}"} if other else {} for name, other in SCHEDULES[model].items()
    }
    return {name: {"initial": initial, **checkpoint} for name, checkpoint in named.items()}


def draw(numbers: Mapping[str, Any], out: Path) -> None:
    """The figure: weights and schedule of each model side by side."""
    panels = {
        f"{model}, {part}": with_handcrafted(found[part], found["handcrafted"])
        for model, found in numbers.items()
        for part in ("weights", "schedule")
    }
    references = [first for m in numbers for first in ("adams-bashforth", next(iter(SCHEDULES[m])))]
    figure("Where a fit begins; the first variant = 1", panels, references, out / f"study-{STUDY}.png")


if __name__ == "__main__":
    sys.exit(main())
