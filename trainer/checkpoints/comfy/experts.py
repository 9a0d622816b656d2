"""Two networks for one model, as in Wan 2.2: one above a noise level, the other below it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from comfyui.facts import family_of

from ...run.errors import CheckpointError

MOST_STEPS = 10_000
"""Of ComfyUI's own samplers."""


@dataclass(frozen=True)
class Experts:
    """Which of the networks runs which row of a plan: 0 for the only one or the one above the boundary, 1 below it."""

    boundary: float | None
    """A noise level; None where there is one network."""
    schedule: Callable[[int], Tensor]
    """The base schedule for a number of steps, [steps + 1]."""

    def of_row(self, states: Tensor, row: int) -> Tensor:
        """0 or 1 for each sample, or once for all. states: [rows] or [B, rows], the noise levels of a plan's states.

        ComfyUI hands over between two steps of the schedule, wherever learned times have taken the state by then: so a
        plan with a row for each step changes networks at that step. Others, and single levels, go by the level.
        """
        if self.boundary is None:
            return torch.zeros(1, dtype=torch.long)
        rows = states.shape[-1]
        if rows == 1 or self._of_two_calls(states):
            return (states[..., row].reshape(-1) < self.boundary).long()
        return (self.schedule(rows)[row : row + 1] < self.boundary).long()

    def split(self, sigmas: Tensor) -> int:
        """How many steps of a schedule [steps + 1] run on the first network."""
        return len(sigmas) - 1 if self.boundary is None else int((sigmas[:-1] >= self.boundary).sum())

    def _of_two_calls(self, states: Tensor) -> bool:
        """Whether these are the states of a handcrafted solver with two calls a step."""
        steps = (states.shape[-1] + 1) // 2
        every_other = states[..., ::2].double().cpu()
        return torch.allclose(every_other, self.schedule(steps)[:-1].expand_as(every_other), rtol=1e-5)


def noise_level(boundary: str, schedule: Callable[[int], Tensor]) -> float:
    """A boundary in words: a noise level, or STEP/STEPS, the step of a schedule with which the second network begins.

    Of such a step it is the middle between its sigma and the one before, so that with any number of steps the networks
    change near it. schedule: as `Experts.schedule`. Raises CheckpointError.
    """
    level, slash, steps = boundary.partition("/")
    try:
        if not slash:
            return float(level)
        if 0 < int(level) < int(steps) <= MOST_STEPS and int(level) < len(sigmas := schedule(int(steps))) - 1:
            return float(sigmas[int(level) - 1 : int(level) + 1].mean())
    except ValueError:
        pass
    raise CheckpointError(
        "boundary is {boundary}: give a noise level, such as 0.875 for Wan 2.2, or the step at which the models "
        "change and the number of steps, as 10/20",
        boundary=boundary,
    )


def check_experts(high: Any, low: Any, boundary: float | None, name: str) -> None:
    """CheckpointError where two MODELs of ComfyUI do not make one model. name: of the second, in the error."""
    families = [family_of(one.model) for one in (high, low)]
    if families[0] != families[1]:
        raise CheckpointError(
            "{name}: it is {other}, and the first model is {first}: give its other half",
            name=name,
            first=families[0],
            other=families[1],
        )
    sampling, other = (one.get_model_object("model_sampling") for one in (high, low))
    if not torch.equal(sampling.sigmas, other.sigmas):
        raise CheckpointError(
            "{name}: it has another schedule than the first model: give both the same shift", name=name
        )
    least, most = float(sampling.sigma_min), float(sampling.sigma_max)
    if boundary is None or not least < boundary < most:
        raise CheckpointError(
            "boundary is {boundary}: give a noise level between {least} and {most}, such as 0.875 for Wan 2.2",
            boundary=boundary,
            least=f"{least:.3g}",
            most=f"{most:.3g}",
        )
