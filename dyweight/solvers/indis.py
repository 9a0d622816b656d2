"""INDIS (CVPR 2026): each sample's own schedule for a handcrafted solver."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..plan import Plan
from ..schedules import stretched
from .handcrafted import OverHandcrafted, rows_of
from .per_sample import PerSample

LARGEST_SHIFT, LARGEST_SCALE = 0.3, 0.3
"""Bounds of phi's outputs: the time shift as a fraction of the time, the scale."""


class Indis(PerSample, OverHandcrafted):
    """A network phi reads noise and condition of a sample and gives it its own timesteps, time shifts and scales.

    With the base schedule b and phi's logits o (o_tau for each step, o_shift and o_gamma for each network call):

        f[n] proportional to (b[n] - b[n+1]) exp(o_tau[n]);  tau[n+1] = tau[n] - f[n] (b[0] - b[N]);  tau[0] = b[0]
        q = tau (1 + d tanh(o_shift / 2));   gamma = 1 + c tanh(o_gamma / 2)
        the base solver on tau, with gamma * eps(x, q) instead of eps(x, tau), eps = (x - denoise(x, q)) / q

    The cumulative softmax is the paper's, here with the base schedule where the logits are 0, so that an untrained
    Indis is its base solver. The paper leaves the bounds open: o_tau within 4, d = c = 0.3, the shift relative to the
    time so that it fits schedules of any range.
    """

    family = "indis"
    kinds: ClassVar[Mapping[str, type]] = {"base": str, "order": int, "shift_factors": bool, **PerSample.phi_kinds}

    def __init__(
        self,
        sigmas: Tensor,
        shape: tuple[int, ...] = (),
        condition_width: int = 0,
        base: str = "ipndm",
        order: int | None = None,
        *,
        instance: bool = True,
        shift_factors: bool = True,
        schedule: dict[str, Any] | None = None,
        seed: int = 0,
        phi: dict[str, Any] | None = None,
    ) -> None:
        """
        sigmas: [steps + 1]. shape: of a latent without the batch axis. condition_width: numbers of the condition, 0 for
        none. base, order: the handcrafted solver, one of `baselines.NAMES`.
        instance, shift_factors: False for the paper's ablations without noise, and without shifts and scales.
        schedule: the recipe that made sigmas, kept in the file. phi: settings of the network, by default from shape.
        Raises ValueError for invalid settings.
        """
        super().__init__(sigmas, base, order, schedule)
        self.shift_factors = bool(shift_factors)
        outputs = self.steps + (2 * self.rows if shift_factors else 0)
        self._add_phi(outputs, shape, condition_width, instance, seed, phi)

    def _tables(self, base: Tensor, said: Tensor) -> Plan:
        said = said if self.shift_factors else nn.functional.pad(said, (0, 2 * self.rows))
        logits, shifts, scales = torch.split(said, [self.steps, self.rows, self.rows], -1)
        plan = self._untrained(stretched(base, logits))
        ratio = 1 + LARGEST_SHIFT * torch.tanh(shifts / 2)
        gamma = 1 + LARGEST_SCALE * torch.tanh(scales / 2)
        return replace(plan, query_sigmas=plan.query_sigmas * ratio, gains=plan.gains * (gamma / ratio).unsqueeze(-2))

    @torch.no_grad()
    def lower_time(self, factor: float | Tensor) -> None:
        """Of one that is untrained."""
        if self.shift_factors:
            raised = (torch.as_tensor(factor, dtype=torch.float64) - 1) / LARGEST_SHIFT
            self.phi.leave.bias[self.steps : self.steps + self.rows] = 2 * torch.atanh(raised)

    def tensors(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in self.phi.named_parameters()}

    @staticmethod
    def _outputs(settings: dict[str, Any], steps: int) -> int:
        return steps + 2 * rows_of(settings) * int(settings["shift_factors"])
