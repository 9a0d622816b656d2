"""A fit from two starts: a while from each, on the first pairs, and then on from where the loss is less."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from dyweight import Solver

from . import Progress, history_from, history_tensor, reached
from .budget import Budget, TooFewCallsError
from .gauss_newton import GaussNewton

EACH = 1.2
"""For each start, of the part of the calls that one start would give to its first pairs."""
FIRST = 1 / 2
"""Of these, for the pairs that it begins with: there are calls for trials, and to ask for the maps once more."""

FEWEST = 7
"""Network calls of a sample: with fewer there are fewer valleys, and more pairs are worth more."""
FIRSTS = "first."
"""Before the names of the first start's state, while the second one runs."""

MakeFit = Callable[[bool], GaussNewton]
"""Whether to begin where `start_of` says, else with the solver as it is -> its fit, with all calls."""


class TwoStarts:
    """A `Fit` in parts: from where `start_of` says, from the solver as it is, and on with the better of the two.

    Tables of many rows have many valleys, and which of two is deeper mostly shows once maps were asked anew.
    """

    def __init__(self, make: MakeFit) -> None:
        self.history: list[Progress] = []
        self._make, self._part, self._fit = make, 0, make(True)
        self._first: GaussNewton | None = None
        """In the second part, with this many blocks of pairs."""
        self._first_blocks = self._others_spent = 0
        self._budget = self._fit.settings.budget
        self._fit.go_on(self._own(0))

    @staticmethod
    def worth(network_calls: int, first_part: float) -> bool:
        """Whether a second start is worth its calls. network_calls: of a sample; first_part: as `Budget` has it."""
        return network_calls >= FEWEST and 2 * EACH * first_part < 1

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
        return self._better.current()

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
            self.history.append(replace(line, iteration=len(self.history), training_error=reached(self._better)))
            yield self.history[-1]

    @property
    def _better(self) -> GaussNewton:
        """Of the fits so far."""
        return self._fit if self._first is None else min(self._first, self._fit, key=reached)

    def _begin_second(self, first: GaussNewton) -> None:
        pairs = first.pairs
        self._part, self._first, self._fit = 1, first, self._make(False)
        self._first_blocks, self._others_spent = pairs.training_blocks, first.spent
        paid = pairs.training_blocks * pairs.targets.batch * pairs.targets.teacher_calls
        self._fit.begin_as(first, self._own(paid))

    def _own(self, paid: int) -> Budget:
        """Of one start. paid: calls that the other made for both."""
        calls = EACH * self._budget.first_part * self._budget.calls
        return replace(self._budget, calls=int(calls) - paid, first_part=FIRST)

    def _choose(self) -> None:
        """Go on with the better one, and with the pairs that it had."""
        better, pairs, spent = self._better, self._fit.pairs, self.spent
        if better is self._first:
            pairs.take(self._first_blocks)
        self._part, self._fit, self._first = 2, better, None
        self._others_spent = spent - better.spent
        better.go_on(self._left())

    def _left(self) -> Budget:
        return replace(self._budget, calls=self._budget.calls - self._others_spent)

    def state(self) -> dict[str, Tensor]:
        """As `Fit.state`."""
        first = {} if self._first is None else self._first.state()
        return {
            **self._fit.state(),
            **{f"{FIRSTS}{name}": value for name, value in first.items()},
            "parts": torch.tensor([self._part, self._others_spent]),
            "told": history_tensor(self.history),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """As `Fit.restore`."""
        self._part, self._others_spent = state["parts"].tolist()
        if self._part == 1:
            first = {name.removeprefix(FIRSTS): value for name, value in state.items() if name.startswith(FIRSTS)}
            self._fit.restore(first)
            self._begin_second(self._fit)
        if self._part == 2:
            self._fit.go_on(self._left())
        self._fit.restore(state)
        self.history = history_from(state["told"])
