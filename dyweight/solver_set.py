"""Several solvers for one model, one for each number of steps: the family `set` of the coefficient file."""

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from .solvers import FAMILIES, Solver
from .solvers.settings import MAXIMUM_STEPS

SAME_START = 0.01
"""Largest |log ratio| of two first sigmas that still counts as the same start."""


class SolverSet:
    """Solvers for one model by their number of steps. A solver alone is a set of one."""

    family: ClassVar[str] = "set"
    """Its name in a file."""

    def __init__(self, solvers: Iterable[Solver]) -> None:
        """Raises ValueError for none, for two with as many steps, and where they start at different sigmas."""
        given = sorted(solvers, key=lambda solver: solver.steps)
        self._members = {solver.steps: solver for solver in given}
        if not given:
            raise ValueError("a set needs one solver or more")
        if len(self._members) < len(given):
            raise ValueError(f"a set has one solver for a number of steps, these are for {[s.steps for s in given]}")
        starts = [float(solver.sigmas[0]) for solver in given]
        if math.log(max(starts) / min(starts)) > SAME_START:
            raise ValueError(f"the solvers of a set are for one model, these start at the sigmas {starts}")

    @property
    def steps(self) -> tuple[int, ...]:
        """The numbers of steps it has, smallest first."""
        return tuple(self._members)

    def member(self, steps: int = 0) -> Solver:
        """The solver for this number of steps; 0: the only one, or the middle one.

        Raises ValueError for a number that it does not have.
        """
        steps = steps or self.steps[len(self.steps) // 2]
        if steps not in self._members:
            raise ValueError(f"set steps to {in_words(self.steps)}: there is no solver for {steps}")
        return self._members[steps]

    def sigmas_for(self, steps: int = 0) -> Tensor:
        """A schedule for any number of steps, [steps + 1]: the member's own, where there is one.

        Otherwise points on the curve of the next finer member, or of the finest: evenly spaced between its steps, in
        log sigma except for a last step to 0.
        """
        if not steps or steps in self._members:
            return self.member(steps).sigmas
        own = self.member(next((known for known in self.steps if known > steps), self.steps[-1])).sigmas
        position = torch.linspace(0, len(own) - 1, steps + 1, dtype=torch.float64)
        below = position.floor().long().clamp(max=len(own) - 2)
        fraction, high, low = position - below, own[below], own[below + 1]
        curve = torch.exp(torch.lerp(high.log(), low.clamp(min=1e-300).log(), fraction))
        return torch.where(low > 0, curve, torch.lerp(high, low, fraction))

    def settings(self) -> dict[str, Any]:
        """What the file keeps besides the tensors: family and settings of each member."""
        members = [{"family": solver.family, "settings": solver.settings()} for solver in self._members.values()]
        return {"members": members}

    def tensors(self) -> dict[str, Tensor]:
        """What the file keeps as tensors: those of each member, with its number of steps before the name."""
        return {
            f"{steps}.{name}": tensor
            for steps, solver in self._members.items()
            for name, tensor in solver.tensors().items()
        }

    @classmethod
    def shapes(cls, settings: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        """The shapes that a file with these settings must have, by tensor name; ValueError for wrong settings."""
        shapes: dict[str, tuple[int, ...]] = {}
        last = total = 0
        for member in _members(settings):
            own = _family(member).shapes(member["settings"])
            steps = len(member["settings"]["sigmas"]) - 1
            total += steps
            if steps <= last:
                raise ValueError(f"setting 'members' must be in the order of steps: {steps} comes after {last}")
            if total > MAXIMUM_STEPS:
                raise ValueError(f"setting 'members' has more than {MAXIMUM_STEPS} steps in all")
            shapes |= {f"{steps}.{name}": shape for name, shape in own.items()}
            last = steps
        return shapes

    @classmethod
    def from_file(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> "SolverSet":
        """The set of a file, without gradients; ValueError where settings and tensors do not make one."""
        solvers = []
        for member in _members(settings):
            prefix = f"{len(member['settings']['sigmas']) - 1}."
            own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            solvers.append(_family(member).from_file(member["settings"], own))
        return cls(solvers)


def in_words(steps: Iterable[object]) -> str:
    """Numbers of steps in words: `3, 5 or 7`."""
    *before, last = map(str, steps)
    return f"{', '.join(before)} or {last}" if before else last


def _members(settings: dict[str, Any]) -> list[dict[str, Any]]:
    if set(settings) != {"members"}:
        raise ValueError(f"a set has the setting 'members' only, not {sorted(settings)}")
    members = settings["members"]
    if not isinstance(members, list) or not members:
        raise ValueError("setting 'members' must be a list with one member or more")
    for member in members:
        if not isinstance(member, dict) or set(member) != {"family", "settings"}:
            raise ValueError("setting 'members' has an entry that is not an object of 'family' and 'settings'")
        if not isinstance(member["settings"], dict):
            raise ValueError("setting 'members' has an entry whose 'settings' are not an object")
    return members


def _family(member: dict[str, Any]) -> type[Solver]:
    """The class of a member, of those with one table for all samples."""
    known = {name: solver for name, solver in FAMILIES.items() if not solver.reads_samples}
    if not isinstance(member["family"], str) or member["family"] not in known:
        raise ValueError(f"setting 'members' has the family {member['family']!r}: give one of {', '.join(known)}")
    return known[member["family"]]
