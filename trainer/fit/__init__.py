"""How a solver's numbers move: `gauss_newton` (forward only) and `adam` (the paper's)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dyweight import Solver


@dataclass(frozen=True)
class Progress:
    """One line of a fit."""

    iteration: int
    training_error: float
    """Loss on the training pairs of this iteration, before its step is judged by the validation pairs. In gauss-newton
    pairs far off the others count less."""
    validation_error: float
    """Relative endpoint error on the validation pairs; nan where it was not measured."""
    network_calls: int
    """So far, in forward-equivalents."""


class Fit(Protocol):
    """A way to fit. It changes the solver that it was given, or a copy."""

    history: list[Progress]

    @property
    def solver(self) -> Solver:
        """As it is, and when `run` is done the result."""

    @property
    def spent(self) -> int:
        """Network calls of `budget` so far, whatever the cache holds; 0 for adam, which has none."""

    def expected_calls(self) -> int:
        """Network calls that `run` still needs in all processes at most, in forward-equivalents, the teacher's for the
        training pairs included."""

    def current(self) -> Solver:
        """The best solver so far."""

    def run(self) -> Iterator[Progress]:
        """Iterate to the end, from the beginning or from what `restore` set; state is consistent at each yield."""

    def state(self) -> dict[str, Tensor]:
        """All that a later process needs to go on."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` gave."""


def history_tensor(history: list[Progress]) -> Tensor:
    """[lines, 4] float64, for the state that a resumed run reads."""
    return torch.tensor([list(vars(line).values()) for line in history], dtype=torch.float64).reshape(-1, 4)


def history_from(lines: Tensor) -> list[Progress]:
    """The inverse of `history_tensor`."""
    return [Progress(int(i), training, validation, int(calls)) for i, training, validation, calls in lines.tolist()]


def reached(fit: Fit) -> float:
    """The loss so far, infinite before the first line."""
    return fit.history[-1].training_error if fit.history else math.inf
