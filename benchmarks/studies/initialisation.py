"""Where a fit begins: the initial weights and the base schedule (DyWeight, table A.3).

Neither changes which tables are possible: with time shifting and time scaling, every table of one base schedule is a
table of the others. Errors are relative endpoint errors on unseen samples. The teacher always runs on the model's own
schedule.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..harness.study import Numbers, Options, Study, Tables
from ..harness.variants import QUICK, SLOW, Cases, Fits, Sizes, errors_table, figure, of_models

MODELS = ("digits", "gmm", "shapes")
SIZES = {"shapes": SLOW}
RESCHEDULED = "benchmarks.studies.rescheduled"
EDM: Mapping[str, str | None] = {"EDM": None, "time-uniform": "time_uniform", "log-SNR": "log_snr"}
SCHEDULES: Mapping[str, Mapping[str, str | None]] = {
    "digits": {"uniform": None, "shifted by 3": "shifted", "log-SNR": "log_snr"},
    "gmm": EDM,
    "shapes": EDM,
}
"""Model -> name of a base schedule, its own first -> the checkpoint in rescheduled.py."""
PARTS = ("weights", "schedule")


def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """Model -> the best handcrafted errors, and those of both parts."""
    for model in options.models:
        sizes = QUICK if options.quick else SIZES.get(model, Sizes((5,), adam_pairs=2000))
        fits = Fits(sizes.bench(model, options.quick), sizes)
        found = {
            "handcrafted": fits.handcrafted(),
            "weights": fits.errors(weight_cases, options.seeds),
            "schedule": fits.errors(partial(schedule_cases, model), options.seeds),
        }
        yield model, found


def weight_cases(method: str, steps: int) -> Cases:
    """The paper's three initial weights, and for Gauss-Newton also its own choice."""
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


def tables(numbers: Numbers) -> Tables:
    """A table for each part."""
    return {part: errors_table(of_models(numbers, part)) for part in PARTS}


def draw(numbers: Numbers, folder: Path) -> None:
    """The figure: weights and schedule of each model side by side."""
    panels = {
        f"{model}, {part}": (found[part], found["handcrafted"]) for model, found in numbers.items() for part in PARTS
    }
    references = [first for m in numbers for first in ("adams-bashforth", next(iter(SCHEDULES[m])))]
    title = "Where a fit begins; the first variant = 1"
    figure(title, panels, references, folder / "study-initialisation.png")


STUDY = Study("initialisation", __doc__, measure, tables, draw, MODELS, quick_models=("digits",))
