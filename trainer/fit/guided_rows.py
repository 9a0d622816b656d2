"""Which steps ask for the unconditional prediction too: found on the maps of a fit in which all of them do."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from dyweight import DyWeight, Solver

from . import Progress
from .gauss_newton import GaussNewton

FIRST_PART, TRYING_PART = 0.3, 0.1
"""Of the calls: for the fit with all rows guided, and for each finalist until only the best goes on."""
MOST_CHOICES = 100
"""More are not all tried: rows are then dropped one by one, each time that whose loss the maps promise to be least."""
FINALISTS = 3
"""Choices that are fitted for a while, of those that the maps find best."""

MakeFit = Callable[[Solver, int, bool], GaussNewton]
"""(solver, calls, whether to begin where `start_of` says) -> its fit on the same pairs."""


class GuidedRows:
    """A `Fit` in two parts: with all rows guided, and with the best so many of them."""

    def __init__(self, solver: DyWeight, guided: int, calls: int, make: MakeFit) -> None:
        """guided: how many rows stay guided. calls: of both parts."""
        self.solver: Solver = solver
        self._guided, self._calls, self._make = guided, calls, make
        self._fit = make(solver, int(FIRST_PART * calls), True)
        self._chosen: tuple[int, ...] = ()
        self._tried = 0
        self.history: list[Progress] = []

    def expected_calls(self) -> int:
        """As `Fit.expected_calls`."""
        return self._fit.expected_calls() + (0 if self._chosen else self._calls - int(FIRST_PART * self._calls))

    def current(self) -> Solver:
        """The best so far; until the rows are chosen with all of them guided."""
        return self._fit.current()

    def run(self) -> Iterator[Progress]:
        """As `Fit.run`; the solver is another object once the rows are chosen."""
        if not self._chosen:
            yield from self._told(self._fit)
            fits, blocks = self._finalists(), list[int]()
            for fit in fits:
                for line in self._told(fit):
                    yield line
                    if fit.spent >= int(TRYING_PART * self._calls):
                        break
                blocks.append(fit.pairs.training_blocks)
            self._fit.pairs.take(max(blocks))
            losses = [fit.real_loss() for fit in fits]
            best = losses.index(min(losses))
            self._fit = fits[best]
            self._fit.pairs.take(blocks[best])
            self.solver, self._chosen, self._tried = self._fit.solver, self._fit.solver.guided, len(fits)
        yield from self._told(self._fit)

    def _told(self, fit: GaussNewton) -> Iterator[Progress]:
        for line in fit.run():
            self.history.append(line)
            yield line

    def _later(self, solver: Solver, finalists: int) -> GaussNewton:
        """A fit with what the first part and the other finalists leave."""
        left = self._calls - int(FIRST_PART * self._calls) - (finalists - 1) * int(TRYING_PART * self._calls)
        return self._make(solver, left, False)

    def _finalists(self) -> list[GaussNewton]:
        """Fits of the best choices on the maps, without a call."""
        full = self._fit.current()
        assert isinstance(full, DyWeight)
        rows, drop = full.guided, len(full.guided) - self._guided
        if math.comb(len(rows), self._guided) <= MOST_CHOICES:
            found = self._imagined(full, itertools.combinations(rows, self._guided))
        else:
            for _ in range(drop):
                found = self._imagined(full, itertools.combinations(rows, len(rows) - 1))
                rows = found[0][1].solver.guided
        best = found[:FINALISTS]
        return [self._later(fit.solver_at(vector), len(best)) for _, fit, vector in best]

    def _imagined(
        self, full: DyWeight, choices: Iterable[tuple[int, ...]]
    ) -> Sequence[tuple[float, GaussNewton, Tensor]]:
        """(loss, fit, vector) as the maps have it, best first."""
        found = []
        for rows in choices:
            fit = self._make(with_rows(full, rows), 0, False)
            loss, vector = fit.imagined_from(self._fit)
            found.append((loss, fit, vector))
        return sorted(found, key=lambda one: one[0])

    def state(self) -> dict[str, Tensor]:
        """As `Fit.state`."""
        own = {"guided": torch.tensor(self._chosen, dtype=torch.int64), "finalists": torch.tensor(self._tried)}
        return {**self._fit.state(), **own}

    def restore(self, state: dict[str, Tensor]) -> None:
        """As `Fit.restore`."""
        rows = tuple(state["guided"].tolist())
        if rows:
            assert isinstance(self.solver, DyWeight)
            self._chosen, self.solver = rows, with_rows(self.solver, rows)
            self._fit = self._later(self.solver, int(state["finalists"]))
        self._fit.restore(state)
        self.history = list(self._fit.history)


def with_rows(solver: DyWeight, rows: tuple[int, ...]) -> DyWeight:
    """The same solver with only these rows guided: the newest guided row before it serves one that is no more."""
    assert solver.learned_guidance is not None
    settings = {**solver.settings(), "learned_guidance": {**solver.learned_guidance, "guided": list(rows)}}
    return DyWeight.from_file(settings, solver.tensors()).tie_guidance(solver)
