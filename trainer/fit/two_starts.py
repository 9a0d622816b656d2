"""A fit from two starts: a while from each, on the same pairs, and then on from where the loss is less."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from dyweight import Solver

from . import Progress, history_from, history_tensor
from .budget import TooFewCallsError
from .gauss_newton import GaussNewton

EACH = 4 / 3
"""For each start, of the part of the calls that the first pairs take: enough for trials, too little for more pairs."""

MakeFit = Callable[[bool], GaussNewton]
"""Whether to begin where `start_of` says, else with the solver as it is -> its fit, with all calls."""


class TwoStarts:
    """A `Fit` in parts: from where `start_of` says, from the solver as it is, and on with the better of the two.

    Where a network trembles there are many valleys, and which of two is deeper shows on the first pairs.
    """

    def __init__(self, make: MakeFit) -> None:
        self.history: list[Progress] = []
        self._make, self._part = make, 0
        self._fit, self._first = make(True), make(True)
        self._budget = self._fit.settings.budget
        part = EACH * self._budget.first_part
        self._fit.go_on(replace(self._budget, calls=int(part * self._budget.calls), first_part=1 / EACH))
        self._others_spent = 0

    @staticmethod
    def worth(first_part: float) -> bool:
        """Whether two starts leave calls to go on with. first_part: as `Budget` has it."""
        return 2 * EACH * first_part < 1

    @property
    def solver(self) -> Solver:
        """As `Fit.solver`; another object for each start."""
        return self._fit.solver

    @property
    def spent(self) -> int:
        """As `Fit.spent`."""
        return self._others_spent + self._fit.spent

    def expected_calls(self) -> int:
        """As `Fit.expected_calls`."""
        return self._fit.expected_calls() if self._part == 2 else max(0, self._budget.calls - self.spent)

    def current(self) -> Solver:
        """As `Fit.current`."""
        first_is_better = self._part == 1 and reached(self._first) <= reached(self._fit)
        return (self._first if first_is_better else self._fit).current()

    def run(self) -> Iterator[Progress]:
        """As `Fit.run`."""
        if self._part == 0:
            try:
                yield from self._told()
                self._begin_second(self._fit)
            except TooFewCallsError:  # the first pairs need what two starts would share
                self._fit.go_on(self._budget)
                self._part = 2
        if self._part == 1:
            yield from self._told()
            self._choose()
        yield from self._told()

    def _told(self) -> Iterator[Progress]:
        """The lines of the fit that runs, each with the least loss of both starts."""
        for line in self._fit.run():
            least = min(line.training_error, reached(self._first)) if self._part == 1 else line.training_error
            self.history.append(replace(line, iteration=len(self.history), training_error=least))
            yield self.history[-1]

    def _begin_second(self, first: GaussNewton) -> None:
        blocks, batch = first.pairs.training_blocks, first.pairs.targets.batch
        calls = first.spent - blocks * batch * first.pairs.targets.teacher_calls
        self._part, self._first, self._fit = 1, first, self._make(False)
        self._fit.begin_as(first, replace(self._budget, calls=calls, fixed_blocks=blocks))
        self._others_spent = first.spent

    def _choose(self) -> None:
        both = sorted((self._first, self._fit), key=reached)
        self._part, (self._fit, other) = 2, both
        self._others_spent = other.spent
        self._fit.go_on(replace(self._budget, calls=self._budget.calls - other.spent))

    def state(self) -> dict[str, Tensor]:
        """As `Fit.state`."""
        first = self._first.state() if self._part == 1 else {}
        return {
            **self._fit.state(),
            **{f"first.{name}": value for name, value in first.items()},
            "parts": torch.tensor([self._part, self._others_spent]),
            "told": history_tensor(self.history),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """As `Fit.restore`."""
        part, spent = state["parts"].tolist()
        if part == 1:
            self._fit.restore({name.removeprefix("first."): value for name, value in state.items() if "first." in name})
            self._begin_second(self._fit)
        self._fit.restore(state)
        if part == 2:
            self._part, self._others_spent = part, spent
            self._fit.go_on(replace(self._budget, calls=self._budget.calls - spent))
        self.history = history_from(state["told"])


def reached(fit: GaussNewton) -> float:
    """The loss so far."""
    return fit.history[-1].training_error if fit.history else math.inf
