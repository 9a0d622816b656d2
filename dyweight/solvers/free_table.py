"""Bespoke non-stationary solvers (Shaul et al. 2024, arXiv 2403.01329): every number of the table is learned."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import baselines
from ..plan import Plan
from .settings import check_same_steps, check_settings, checked_schedule

_SETTINGS: dict[str, type] = {"sigmas": list, "schedule": dict}


class FreeTable(nn.Module):
    """A table without structure: each step combines the residuals of all steps so far with gains of its own.

        x[i+1] = x[i] + sum over j <= i of gains[i, j] (x[j] - denoise(x[j], s[j] b[j]))

    In the paper a step also multiplies x[0] by a number a[i]. Here that is 1: a table of residuals leaves a perfect
    denoiser where it is, as every solver should. b, the base schedule, says where the states are believed to be; the
    update does not need it. Untrained it is a handcrafted solver.
    """

    family: ClassVar[str] = "free-table"
    reads_samples: ClassVar[bool] = False
    """Whether `plan` reads noise and condition."""
    analytic_first_step: ClassVar[bool] = False
    slope: ClassVar[str] = "state"

    gains: nn.Parameter
    """[steps, steps] float64, lower triangular."""
    log_time_scale: nn.Parameter
    """[steps] float64: log of s, by which the network is asked at another noise level than the state's."""
    sigmas: Tensor
    """[steps + 1] float64, the base schedule."""

    def __init__(
        self,
        sigmas: Tensor,
        base: str = "ipndm",
        order: int | None = None,
        *,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        """
        sigmas: [steps + 1]. base, order: the handcrafted solver to begin with, one of `baselines.NAMES` with one
        network call a step. schedule: the recipe that made sigmas, kept in the file.
        Raises ValueError for settings that make no solver.
        """
        super().__init__()
        self.register_buffer("sigmas", checked_schedule(sigmas).detach().clone())
        table = baselines.plan(base, self.sigmas, order)
        if table.rows != self.steps:
            raise ValueError(f"{base} makes {table.rows} network calls in {self.steps} steps: give a solver with one")
        self.schedule = dict(schedule or {})
        self.provenance: dict[str, Any] = {}
        self.source = ""  # the file it was read from
        self.gains = nn.Parameter(table.gains.clone())
        self.log_time_scale = nn.Parameter(torch.zeros(self.steps, dtype=torch.float64))

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    @property
    def order(self) -> int:
        """The most residuals that a step uses: all."""
        return self.steps

    @property
    def network_calls(self) -> int:
        """Number of function evaluations (NFE) of one sample."""
        return self.steps

    @property
    def weights(self) -> Tensor:
        """[steps, steps] float64, newest slope first: the gains as `DyWeight.weights` would have them."""
        by_row = self.gains.detach().tril() * _slopes_in_gains(self.sigmas)
        weights = torch.zeros_like(by_row)
        for n in range(self.steps):
            weights[n, : n + 1] = by_row[n, : n + 1].flip(0)
        return weights

    @property
    def time_scale(self) -> Tensor:
        """[steps] float64, as `DyWeight.time_scale`."""
        return self.log_time_scale.detach().exp()

    def plan(self, sigmas: Tensor | None = None, noise: Tensor | None = None, condition: Tensor | None = None) -> Plan:
        """The table of this solver on its own schedule, or on another of as many steps; one for all samples.

        sigmas: [steps + 1] or None; another schedule keeps `weights` and `time_scale`. noise, condition: what families
        with a table for each sample read; not used here. Gradients flow to all numbers.
        """
        base = self.sigmas if sigmas is None else checked_schedule(sigmas)
        check_same_steps(base, self.steps)
        gains = torch.tril(self.gains.to("cpu"))
        if sigmas is not None:
            gains = gains * _slopes_in_gains(self.sigmas) / _slopes_in_gains(base)
        return Plan(base, base[:-1] * self.log_time_scale.to("cpu").exp(), gains, history=self.steps)

    def settings(self) -> dict[str, Any]:
        """What the file keeps beside the tensors; JSON values only."""
        return {"sigmas": self.sigmas.tolist(), "schedule": self.schedule}

    def tensors(self) -> dict[str, Tensor]:
        """What the file keeps as tensors."""
        return {"gains": self.gains.detach().tril(), "log_time_scale": self.log_time_scale.detach()}

    @staticmethod
    def shapes(settings: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        """The shapes that a file with these settings must have, by tensor name; ValueError for wrong settings."""
        check_settings(settings, _SETTINGS)
        steps = len(settings["sigmas"]) - 1
        return {"gains": (steps, steps), "log_time_scale": (steps,)}

    @classmethod
    def from_file(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> "FreeTable":
        """The solver of a file, without gradients; ValueError where settings and tensors make none."""
        if bool(torch.triu(tensors["gains"], 1).any()):
            raise ValueError("gains has a value above the diagonal: row i may use the residuals 0 to i only")
        solver = cls(torch.tensor(settings["sigmas"], dtype=torch.float64), "euler", schedule=settings["schedule"])
        solver.requires_grad_(False)
        solver.gains.copy_(tensors["gains"])
        solver.log_time_scale.copy_(tensors["log_time_scale"])
        solver.plan()
        return solver


def _slopes_in_gains(sigmas: Tensor) -> Tensor:
    """[steps, steps] what a gain is multiplied by to be the weight of a slope: sigma of its state, over the step."""
    return sigmas[:-1] / (sigmas[1:] - sigmas[:-1])[:, None]
