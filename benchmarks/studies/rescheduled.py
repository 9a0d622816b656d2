"""Models with a base schedule other than their own, for `--ckpt benchmarks.studies.rescheduled:NAME`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dyweight import schedules
from trainer.checkpoints.load import load_checkpoint

MOST_STUDENT_STEPS = 10
"""Schedules with more steps are for the teacher."""


class Rescheduled:
    """A model whose students get another base schedule, while the teacher keeps the model's.

    The fingerprint is the model's: pairs of noise and endpoint are the same, and are cached once for all schedules.
    """

    def __init__(self, model: str, schedule: Callable[[int], Tensor]) -> None:
        self.model = load_checkpoint(model)
        self.shape = self.model.shape
        self.fingerprint = self.model.fingerprint
        self._schedule = schedule

    def schedule(self, steps: int) -> Tensor:
        return self._schedule(steps) if steps <= MOST_STUDENT_STEPS else self.model.schedule(steps)

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, Any]:
        return self.model.draw(generator, batch)

    def denoise(self, x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        return self.model.denoise(x, sigma, cond)


def flow_log_snr(steps: int) -> Tensor:
    """EDM's range of noise levels, even in log SNR, as times sigma / (1 + sigma) of a flow with the ends 1 and 0."""
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
