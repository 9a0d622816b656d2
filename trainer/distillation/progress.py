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
    """The smallest so far on as many pairs."""
    solver: Solver
    """The best so far."""


def reports(fits: FittingSet, fitting: Fitting, before: int = 0) -> Iterator[FitProgress]:
    """Run one of the fits, with a report at each trial. before: network calls of earlier processes."""
    best, pairs = math.inf, 0
    for line in fitting.run():
        now_on = fits.pairs.training_pairs
        best, pairs = line.training_error if now_on != pairs else min(best, line.training_error), now_on
        calls, now = before + fits.network.total, fitting.fit.current()
        yield FitProgress(calls, calls + fits.expected_calls(), fitting.steps, line.training_error, best, now)
