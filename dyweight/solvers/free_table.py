"""Bespoke non-stationary solvers (Shaul et al. 2024, arXiv 2403.01329): every number of the table is learned."""

from typing import Any

import torch
from torch import Tensor, nn

from .. import baselines
from ..plan import Plan
from .base import TINTS, Panel, Row, Solver, weight_rows


class FreeTable(Solver):
    """An unconstrained table: each step combines the residuals of all steps so far with its own gains.

        x[i+1] = x[i] + sum over j <= i of gains[i, j] (x[j] - denoise(x[j], s[j] b[j]))

    In the paper a step also multiplies x[0] by a number a[i]. Here that is 1: a table of residuals leaves a perfect
    denoiser where it is, as every solver should. b, the base schedule, says where the states are believed to be; the
    update does not need it. Untrained it is a handcrafted solver.
    """

    family = "free-table"

    gains: nn.Parameter
    """[steps, steps] float64, lower triangular."""
    log_time_scale: nn.Parameter
    """[steps] float64: log of s, the factor from the state's noise level to that at which the network is asked."""

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
        Raises ValueError for invalid settings.
        """
        super().__init__(sigmas, schedule)
        cut = self.handover
        parts = [self.sigmas[: cut + 1], self.sigmas[cut:]] if cut else [self.sigmas]
        gains: Tensor = torch.block_diag(*(baselines.plan(base, p, order).gains for p in parts))  # type: ignore[no-untyped-call]
        if len(gains) != self.steps:
            raise ValueError(f"{base} makes {len(gains)} network calls in {self.steps} steps: give a one-call solver")
        self.order = self.steps
        self.gains = nn.Parameter(gains)
        self.log_time_scale = nn.Parameter(torch.zeros(self.steps, dtype=torch.float64))

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

    def _table(self, base: Tensor) -> Plan:
        """On another schedule `weights` and `time_scale` are kept."""
        gains = torch.tril(self.gains.to("cpu")).clone()
        gains[self.handover :, : self.handover] = 0
        gains = gains * (_slopes_in_gains(self.sigmas) / _slopes_in_gains(base))
        return Plan(base, base[:-1] * self.log_time_scale.to("cpu").exp(), gains, keep=self.steps)

    @torch.no_grad()
    def lower_time(self, factor: float | Tensor) -> None:
        self.log_time_scale.add_(torch.as_tensor(factor, dtype=torch.float64).log())

    @classmethod
    def _shapes(cls, settings: dict[str, Any], steps: int) -> dict[str, tuple[int, ...]]:
        return {"gains": (steps, steps), "log_time_scale": (steps,)}

    @classmethod
    def _made(cls, settings: dict[str, Any]) -> "FreeTable":
        return super()._made({**settings, "base": "euler"})

    @classmethod
    def from_file(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> "FreeTable":
        if bool(torch.triu(tensors["gains"], 1).any()):
            raise ValueError("gains has a value above the diagonal: row i may use the residuals 0 to i only")
        return super().from_file(settings, tensors)

    def panels(self, plan: Plan) -> list[Panel]:
        ones, all_rows = torch.ones(self.steps), [True] * self.steps
        sums = [Row("sum", self.weights.sum(1), ones, all_rows), Row("time scale", self.time_scale, ones, all_rows)]
        untrained = FreeTable(self.sigmas).weights
        return [(f"weights: {TINTS}", weight_rows(self.weights, untrained)), ("sum of weights, time scale", sums)]


def _slopes_in_gains(sigmas: Tensor) -> Tensor:
    """[steps, steps] factor from a gain to the weight of a slope: sigma of its state over the step."""
    return sigmas[:-1] / (sigmas[1:] - sigmas[:-1])[:, None]
