"""The fit of learned guidance: from constant guidance to all steps guided, and from there to fewer of them."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from dyweight import Solver

from . import Progress, history_from, history_tensor, reached
from .budget import TooFewCallsError
from .gauss_newton import GaussNewton

CONSTANT_PART = 0.25
"""Of the calls, for the solver with constant guidance that the others begin from."""
FULL_PART, TRYING_PART = 0.3, 0.06
"""Where fewer rows are guided: of the calls, for all rows guided and at most for each finalist."""
MOST_CHOICES = 100
"""More are not all tried: rows are then dropped one by one, each time that whose loss the maps promise to be least."""
FINALISTS, TRIALS_EACH = 4, 3
"""Choices that are tried, of those that the maps find best, and with how many rollouts: too few for maps anew."""

MakeFit = Callable[[Solver, int, bool], GaussNewton]
"""(solver, calls, whether to begin where `start_of` says) -> its fit on the same pairs."""


class GuidedFit:
    """A `Fit` in parts: constant guidance, learned guidance in all rows, and in the best so many of them.

    Which are the best is found on the maps of the second part, which are those of both predictions at each row, without
    a network call. The finalists then make trials with copies of these maps, which costs them no maps of their own.
    """

    def __init__(self, solver: Solver, guided: int, calls: int, make: MakeFit, lowered: bool = True) -> None:
        """solver: with all rows guided. guided: how many stay so. calls: of all parts. lowered: for the first part, as
        `MakeFit` has it."""
        self.solver: Solver = solver
        self._full, self._guided, self._calls, self._make = solver, guided, calls, make
        self.history: list[Progress] = []
        self._spent, self._part = 0, 0
        self._fit = make(solver.guiding(()), int(CONSTANT_PART * calls), lowered)
        self._before_choice: dict[str, Tensor] | None = None
        self._finalists = list[GaussNewton]()
        """While they are tried."""

    @property
    def spent(self) -> int:
        """As `Fit.spent`."""
        return self._spent + self._fit.spent + sum(fit.spent for fit in self._finalists)

    def expected_calls(self) -> int:
        """As `Fit.expected_calls`."""
        last = self._part == 2 or (self._part == 1 and not self._fewer)
        return self._fit.expected_calls() if last else max(0, self._calls - self.spent)

    def current(self) -> Solver:
        """The best of the part that runs."""
        found = self._fit.current()
        return self._tied(found) if self._part == 0 else found

    def run(self) -> Iterator[Progress]:
        """As `Fit.run`; the solver is another object where rows are dropped."""
        if self._part == 0:
            try:
                yield from self._told(self._fit)
            except TooFewCallsError as error:
                needed = math.ceil((int(CONSTANT_PART * self._calls) + error.missing) / CONSTANT_PART)
                raise TooFewCallsError(error.pairs, needed - self._calls) from error
            self._begin(1, self._tied(self._fit.current()), self.spent)
        if self._part == 1:
            yield from self._told(self._fit)
            if self._fewer:
                yield from self._choose()
        yield from self._told(self._fit)
        self.solver = self._fit.solver

    def _told(self, fit: GaussNewton) -> Iterator[Progress]:
        for line in fit.run():
            self.history.append(line)
            yield line

    @property
    def _fewer(self) -> bool:
        return self._guided < len(self._full.guided)

    def _begin(self, part: int, solver: Solver, spent: int) -> None:
        """spent: by all earlier parts."""
        left = self._calls - spent
        own = min(left, int(FULL_PART * self._calls)) if part == 1 and self._fewer else left
        self._part, self._spent, self.solver = part, spent, solver
        self._fit = self._make(solver, own, False)

    def _tied(self, constant: Solver) -> Solver:
        """The solver with learned guidance that does what this one does with constant guidance."""
        full = self._full.guiding(self._full.guided)
        with torch.no_grad():
            for name, value in constant.named_parameters():
                full.get_parameter(name).copy_(value)
        return full.tie_guidance()

    def _choose(self) -> Iterator[Progress]:
        """Go on with the finalist that ends lowest after a while."""
        self._before_choice = self.state()
        self._finalists = self._best_on_maps()
        for fit in self._finalists:
            calls = min(TRIALS_EACH * fit.trial_calls, int(TRYING_PART * self._calls))
            if calls >= fit.trial_calls:
                fit.go_on(replace(fit.settings.budget, calls=calls))
                yield from self._told(fit)
        best = min(self._finalists, key=reached)
        self._part, self._spent = 2, self.spent - best.spent
        self._fit, self.solver, self._finalists = best, best.solver, []
        best.go_on(replace(best.settings.budget, calls=self._calls - self._spent))
        self._before_choice = None

    def _best_on_maps(self) -> list[GaussNewton]:
        """The fits with fewer guided rows that the maps promise to end lowest."""
        full = self._fit.current()
        rows = full.guided
        while len(rows) > self._guided:
            fewer = self._guided if math.comb(len(rows), self._guided) <= MOST_CHOICES else len(rows) - 1
            found = self._imagined(full, itertools.combinations(rows, fewer))
            rows = found[0].solver.guided
        return found[:FINALISTS]

    def _imagined(self, full: Solver, choices: Iterable[tuple[int, ...]]) -> list[GaussNewton]:
        """Fits with these rows guided, first the one for which the maps lead to the least loss."""
        fits = [self._make(full.guiding(rows), 0, False) for rows in choices]
        return sorted(fits, key=lambda fit: fit.begin_on_maps_of(self._fit))

    def state(self) -> dict[str, Tensor]:
        """As `Fit.state`. Finalists are tried again from the beginning."""
        if self._before_choice is not None:
            return self._before_choice
        parts = torch.tensor([self._part, self._spent, *self._fit.solver.guided])
        return {**self._fit.state(), "parts": parts, "told": history_tensor(self.history)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """As `Fit.restore`."""
        part, spent, *rows = state["parts"].tolist()
        if part:
            self._begin(part, self._full.guiding(rows), spent)
        self._fit.restore(state)
        self.history = history_from(state["told"])
