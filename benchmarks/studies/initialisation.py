"""Where a fit begins: the initial weights and the base schedule (DyWeight, table A.3).

Neither changes what can be reached: with time shifting and time scaling every table of one base schedule is a table of
the others. Errors are relative endpoint errors on unseen samples. The teacher always runs on the model's own schedule.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dyweight import schedules
from trainer.checkpoints import Checkpoint, load_checkpoint

from .common import Bench, Options, parse, read_numbers, timed, write_numbers
from .variants import QUICK, Cases, Errors, Fits, Sizes, figure, print_errors

STUDY = "initialisation"
MODELS = ("digits", "gmm", "shapes")
SIZES = {"shapes": Sizes((3, 5), adam_pairs=2000)}
DEFAULT_SIZES = Sizes(adam_pairs=4000)
MOST_STUDENT_STEPS = 10
"""A schedule that is asked for more is the teacher's."""


class Rescheduled:
    """A model whose students get another base schedule than its own. The teacher keeps the model's.

    The fingerprint is the model's: pairs of noise and endpoint are the same, and are kept once for all schedules.
    """

    def __init__(self, model: str, schedule: Callable[[int], Tensor]) -> None:
        self.model: Checkpoint = load_checkpoint(model)
        self.shape = self.model.shape
        self.fingerprint: str = self.model.fingerprint  # type: ignore[attr-defined]
        self._schedule = schedule

    def schedule(self, steps: int) -> Tensor:
        return self._schedule(steps) if steps <= MOST_STUDENT_STEPS else self.model.schedule(steps)

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, Any]:
        return self.model.draw(generator, batch)

    def denoise(self, x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        return self.model.denoise(x, sigma, cond)


def flow_log_snr(steps: int) -> Tensor:
    """EDM's range of noise levels even in log SNR, as times sigma / (1 + sigma) of a flow, with its ends 1 and 0."""
    sigmas = schedules.log_snr(steps)
    times = sigmas / (1 + sigmas)
    times[0], times[-1] = 1, 0
    return times


digits_shifted = partial(Rescheduled, "digits", partial(schedules.flow, shift=3.0))
digits_log_snr = partial(Rescheduled, "digits", flow_log_snr)
gmm_time_uniform = partial(Rescheduled, "gmm", partial(schedules.polynomial, rho=1.0))
gmm_log_snr = partial(Rescheduled, "gmm", schedules.log_snr)
shapes_time_uniform = partial(Rescheduled, "shapes", partial(schedules.polynomial, rho=1.0))
shapes_log_snr = partial(Rescheduled, "shapes", schedules.log_snr)

HERE = "benchmarks.studies.initialisation"
EDM: Mapping[str, str | None] = {"EDM": None, "time-uniform": "time_uniform", "log-SNR": "log_snr"}
SCHEDULES: Mapping[str, Mapping[str, str | None]] = {
    "digits": {"uniform": None, "shifted by 3": "shifted", "log-SNR": "log_snr"},
    "gmm": EDM,
    "shapes": EDM,
}
"""Model -> name of a base schedule, the model's own first -> its checkpoint here."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = parse(STUDY, __doc__, arguments, MODELS)
    if options.quick and options.models == MODELS:
        options = replace(options, models=("digits",))
    timed(lambda: study(options))
    return 0


def study(options: Options) -> None:
    """Both parts on each model; tables, figure and numbers. Models of an earlier run stay in the figure."""
    numbers = read_numbers(options.out, STUDY)
    for model in options.models:
        fits = Fits(Bench(model, options.quick), QUICK if options.quick else SIZES.get(model, DEFAULT_SIZES))
        numbers[model] = {
            "handcrafted": fits.handcrafted(),
            "weights": fits.errors(weight_cases, options.seeds),
            "schedule": fits.errors(partial(schedule_cases, model), options.seeds),
        }
        for part in ("weights", "schedule"):
            print_errors(f"{model}: {part}", numbers[model][part], numbers[model]["handcrafted"])
        write_numbers(options.out, STUDY, numbers)
    if options.out is not None:
        draw(numbers, options)


def weight_cases(method: str, steps: int) -> Cases:
    """The paper's three initial weights, and for Gauss-Newton its own choice of starts."""
    del steps
    names = ("adams-bashforth", "euler", "uniform", *(() if method == "adam" else ("auto",)))
    return {name: {"initial": name} for name in names}


def schedule_cases(model: str, method: str, steps: int) -> Cases:
    """The base schedules of a model, with the method's usual initial weights."""
    del steps
    initial = "adams-bashforth" if method == "adam" else "auto"
    named = {name: {"ckpt": f"{HERE}:{model}_{other}"} if other else {} for name, other in SCHEDULES[model].items()}
    return {name: {"initial": initial, **checkpoint} for name, checkpoint in named.items()}


def draw(numbers: Mapping[str, Any], options: Options) -> None:
    """The figure: weights and schedule of each model side by side."""
    assert options.out is not None
    panels: dict[str, Errors] = {f"{m}, {part}": numbers[m][part] for m in numbers for part in ("weights", "schedule")}
    references = [first for m in numbers for first in ("adams-bashforth", next(iter(SCHEDULES[m])))]
    figure("Where a fit begins; the first variant = 1", panels, references, options.out / f"study-{STUDY}.png")


if __name__ == "__main__":
    sys.exit(main())
