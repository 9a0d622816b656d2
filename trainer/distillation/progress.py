"""What a running fit reports."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from dyweight import Solver

from .fitting import Fitting
from .fitting_set import FittingSet


@dataclass(frozen=True)
class FitProgress:
    """One report of a running fit."""

    network_calls: int
    expected_calls: int
    """Of the whole run, at most."""
    steps: int
    """For which the solver is that is being fitted: of several, the smallest first."""
    error: float
    """On the pairs that it trains on."""
    best: float
    """The smallest so far."""
    solver: Solver
    """The best so far."""


def reports(fits: FittingSet, fitting: Fitting, before: int = 0) -> Iterator[FitProgress]:
    """Run one of the fits, with a report at each trial. before: network calls of earlier processes."""
    best = min((line.training_error for line in fitting.fit.history), default=math.inf)
    for line in fitting.run():
        best = min(best, line.training_error)
        calls, now = before + fits.network.total, fitting.fit.current()
        yield FitProgress(calls, calls + fits.expected_calls(), fitting.steps, line.training_error, best, now)
