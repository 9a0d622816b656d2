"""DyWeight and INDIS together: phi corrects the weights and time scales of a distilled DyWeight for each sample."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn

from ..plan import Plan
from .base import TINTS, Panel, Row, Solver, weight_rows
from .dyweight import DyWeight
from .per_sample import PerSample

LARGEST_WEIGHT, LARGEST_SCALE = 0.5, 0.3
"""Bounds of phi's corrections: of a weight as a fraction of the row's sum, of a time scale as a fraction of itself."""


class InstanceDyWeight(PerSample):
    """A DyWeight whose rows phi corrects for each sample; ours, in no paper.

        w[n, i] + c (sum of w[n]) tanh(o_w[n, i] / 2);   s[n] (1 + d tanh(o_s[n] / 2))

    The noise levels of the states stay those of the DyWeight: a correction to a row does not shift the times after it,
    so no sample can be carried beyond the schedule. Untrained it is the DyWeight.
    """

    family = "instance-dyweight"
    kinds: ClassVar[Mapping[str, type]] = {**DyWeight.kinds, "shift_factors": bool, **PerSample.phi_kinds}

    def __init__(
        self,
        dyweight: Solver,
        shape: tuple[int, ...] = (),
        condition_width: int = 0,
        *,
        instance: bool = True,
        shift_factors: bool = True,
        seed: int = 0,
        phi: dict[str, Any] | None = None,
    ) -> None:
        """
        dyweight: the solver to correct; it is unchanged. shape: of a latent without the batch axis. condition_width:
        numbers of the condition, 0 for none. instance, shift_factors: False for the ablations without noise, and
        without corrections of the time scale. phi: settings of the network, by default from shape.
        """
        if not isinstance(dyweight, DyWeight):
            raise ValueError(f"the family {dyweight.family} can't be corrected: give a solver of the family dyweight")
        if dyweight.guided:
            raise ValueError("a DyWeight with learned guidance can't be corrected: give one without")
        super().__init__(dyweight.sigmas, dyweight.schedule)
        self.dyweight = dyweight.requires_grad_(False)
        self.order, self.slope, self.analytic_first_step = dyweight.order, dyweight.slope, dyweight.analytic_first_step
        self.shift_factors = bool(shift_factors)
        outputs = self.steps * (self.order + int(self.shift_factors))
        self._add_phi(outputs, shape, condition_width, instance, seed, phi)

    def _tables(self, base: Tensor, said: Tensor) -> Plan:
        shared = self.dyweight.plan(base).detach()
        by_weight, by_scale = said[..., : self.steps * self.order], said[..., self.steps * self.order :]
        ratio = torch.ones(self.steps, dtype=torch.float64)
        if self.shift_factors:
            ratio = 1 + LARGEST_SCALE * torch.tanh(by_scale / 2) * torch.tensor(self.asked()).double()
        batch, query = said.shape[:-1], (shared.query_sigmas * ratio).expand(*said.shape[:-1], -1)
        corrected = replace(
            shared,
            sigmas=shared.sigmas.expand(*batch, -1),
            query_sigmas=query,
            gains=(shared.gains * self.divisors(shared) + self._corrections(shared, by_weight)).expand(*batch, -1, -1),
        )
        return replace(corrected, gains=corrected.gains / self.divisors(corrected).unsqueeze(-2))

    def _corrections(self, shared: Plan, said: Tensor) -> Tensor:
        """[*batch, steps, steps]: what phi adds to each row's moves, newest slope last."""
        steps, order = self.steps, self.order
        by_row = torch.tanh(rearrange(said, "... (n k) -> ... n k", k=order) / 2)
        lengths = LARGEST_WEIGHT * (shared.sigmas[1:] - shared.sigmas[:-1])
        rows = []
        for n in range(steps):
            used = min(n + 1, order)
            row = by_row[..., n, :used].flip(-1) * lengths[n]
            rows.append(nn.functional.pad(row, (n + 1 - used, steps - n - 1)))
        return torch.stack(rows, -2)

    def settings(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("shift_factors", *self.phi_kinds)}
        return {**self.dyweight.settings(), **own}

    def tensors(self) -> dict[str, Tensor]:
        own = {f"phi.{name}": value.detach() for name, value in self.phi.named_parameters()}
        return {**self.dyweight.tensors(), **own}

    @classmethod
    def _shapes(cls, settings: dict[str, Any], steps: int) -> dict[str, tuple[int, ...]]:
        phi = {f"phi.{name}": shape for name, shape in super()._shapes(settings, steps).items()}
        return {**DyWeight._shapes(settings, steps), **phi}

    @staticmethod
    def _outputs(settings: dict[str, Any], steps: int) -> int:
        return steps * int(settings["order"] + settings["shift_factors"])

    @classmethod
    def _made(cls, settings: dict[str, Any]) -> "InstanceDyWeight":
        own = {name: value for name, value in settings.items() if name in (*DyWeight.kinds, "sigmas", "schedule")}
        phi = {name: settings[name] for name in cls.phi_kinds}
        return cls(DyWeight._made(own), shift_factors=settings["shift_factors"], phi=phi)

    def panels(self, plan: Plan) -> list[Panel]:
        weights = self._weights(plan)
        rows = weight_rows(weights.mean(0), DyWeight(self.sigmas, self.order).weights)
        if len(weights) > 1:
            spread = weights.std(0).amax(1)
            rows.append(Row("largest spread", spread, spread, [True] * self.steps))
        calls = self._calls(plan, "network calls", self.dyweight.plan().query_sigmas)
        return [(f"weights: {TINTS}", rows), calls]

    def _weights(self, plan: Plan) -> Tensor:
        """[samples, steps, order] newest first: the inverse of how a DyWeight makes its table."""
        lengths = self.sigmas[1:] - plan.sigmas[..., :-1]
        moves = plan.gains * self.divisors(plan).unsqueeze(-2) / lengths.unsqueeze(-1)
        rows = [moves[..., n, : n + 1].flip(-1)[..., : self.order] for n in range(self.steps)]
        padded = [nn.functional.pad(row, (0, self.order - row.shape[-1])) for row in rows]
        return torch.stack(padded, -2).reshape(-1, self.steps, self.order)
