"""DyWeight and INDIS together: phi corrects the weights and time scales of a distilled DyWeight for each sample."""

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..plan import Plan
from .dyweight import DyWeight
from .phi import LARGEST_SIZE, SETTINGS, Phi
from .settings import check_settings, check_sizes

LARGEST_WEIGHT, LARGEST_SCALE = 0.5, 0.3
"""Bounds of phi's corrections: of a weight as a part of the row's sum, of a time scale as a part of itself."""


class InstanceDyWeight(nn.Module):
    """A DyWeight whose rows phi corrects for each sample; ours, no paper has it.

        w[n, i] + c (sum of w[n]) tanh(o_w[n, i] / 2);   s[n] (1 + d tanh(o_s[n] / 2))

    The noise levels of the states stay those of the DyWeight: a correction to a row does not shift the times after it,
    so no sample can be carried beyond the schedule. Untrained it is the DyWeight.
    """

    family: ClassVar[str] = "instance-dyweight"
    reads_samples: ClassVar[bool] = True
    """Whether `plan` reads noise and condition."""

    def __init__(
        self,
        dyweight: DyWeight,
        shape: tuple[int, ...] = (),
        condition_width: int = 0,
        *,
        instance: bool = True,
        shift_factors: bool = True,
        seed: int = 0,
        phi: dict[str, Any] | None = None,
    ) -> None:
        """
        dyweight: what is corrected; it stays as it is. shape: of a latent without the batch axis. condition_width:
        numbers of the condition, 0 for none. instance, shift_factors: False for the ablations without noise, and
        without corrections of the time scale. phi: settings of the network, by default from shape.
        """
        super().__init__()
        self.dyweight = dyweight.requires_grad_(False)
        self.shift_factors = bool(shift_factors)
        self.provenance: dict[str, Any] = {}
        self.source = ""  # the file it was read from
        self.phi_settings = phi or Phi.settings_for(shape, condition_width, instance)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.phi = Phi(self.steps * (self.order + int(self.shift_factors)), **self.phi_settings)

    @property
    def sigmas(self) -> Tensor:
        """[steps + 1] float64, the base schedule."""
        return self.dyweight.sigmas

    @property
    def steps(self) -> int:
        return self.dyweight.steps

    @property
    def order(self) -> int:
        return self.dyweight.order

    @property
    def slope(self) -> str:
        return self.dyweight.slope

    @property
    def analytic_first_step(self) -> bool:
        return self.dyweight.analytic_first_step

    @property
    def schedule(self) -> dict[str, Any]:
        return self.dyweight.schedule

    @property
    def network_calls(self) -> int:
        """Number of function evaluations (NFE) of one sample."""
        return self.dyweight.network_calls

    def plan(self, sigmas: Tensor | None = None, noise: Tensor | None = None, condition: Tensor | None = None) -> Plan:
        """A table with a row for each sample; without noise and condition one table for all.

        sigmas, noise, condition: as in `Indis.plan`. Gradients flow to phi.
        """
        shared = self.dyweight.plan(sigmas).detach()
        unit = None if noise is None else noise.detach().cpu().float() / float(shared.sigmas[0])
        said = self.phi(unit, None if condition is None else condition.detach().cpu().float()).double()
        said = said[0] if len(said) == 1 else said
        by_weight, by_scale = torch.split(said, [self.steps * self.order, said.shape[-1] - self.steps * self.order], -1)
        ratio = torch.ones(self.steps, dtype=torch.float64)
        if self.shift_factors:
            ratio = 1 + LARGEST_SCALE * torch.tanh(by_scale / 2) * self._scaled()
        query = shared.query_sigmas * ratio
        moves = shared.gains * self._divisors(shared, shared.query_sigmas)
        corrected = moves + self._corrections(shared, by_weight)
        batch = said.shape[:-1]
        return replace(
            shared,
            sigmas=shared.sigmas.expand(*batch, -1),
            query_sigmas=query.expand(*batch, -1),
            gains=corrected / self._divisors(shared, query).unsqueeze(-2),
            history=self.order,
        )

    def _divisors(self, shared: Plan, query: Tensor) -> Tensor:
        return shared.sigmas[:-1] if self.slope == "state" else query

    def _scaled(self) -> Tensor:
        """[steps] 1 where a time scale may be corrected."""
        return (torch.arange(self.steps) >= int(self.analytic_first_step)).double()

    def _corrections(self, shared: Plan, said: Tensor) -> Tensor:
        """[*batch, steps, steps]: what phi adds to each row's moves, newest slope last."""
        steps, order = self.steps, self.order
        by_row = torch.tanh(said.reshape(*said.shape[:-1], steps, order) / 2)
        lengths = LARGEST_WEIGHT * (shared.sigmas[1:] - shared.sigmas[:-1])
        rows = []
        for n in range(steps):
            used = min(n + 1, order)
            row = by_row[..., n, :used].flip(-1) * lengths[n]
            rows.append(nn.functional.pad(row, (n + 1 - used, steps - n - 1)))
        return torch.stack(rows, -2)

    def settings(self) -> dict[str, Any]:
        """What the file keeps beside the tensors; JSON values only."""
        return {**self.dyweight.settings(), "shift_factors": self.shift_factors, **self.phi_settings}

    def tensors(self) -> dict[str, Tensor]:
        """What the file keeps as tensors."""
        own = {f"phi.{name}": value.detach() for name, value in self.phi.state_dict().items()}
        return {**self.dyweight.tensors(), **own}

    @staticmethod
    def shapes(settings: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        """The shapes that a file with these settings must have, by tensor name; ValueError for wrong settings."""
        kinds: dict[str, type] = {name: list if name == "grid" else int for name in SETTINGS}
        own = {**_own(settings), "sigmas": settings.get("sigmas")}
        check_settings(own, {**kinds, "shift_factors": bool, "sigmas": list})
        check_sizes(settings, SETTINGS, LARGEST_SIZE)
        shapes = DyWeight.shapes(_of_dyweight(settings))
        outputs = shapes["time_scale"][0] * (settings["order"] + int(settings["shift_factors"]))
        phi = Phi.shapes(outputs, {name: settings[name] for name in SETTINGS})
        return {**shapes, **{f"phi.{name}": shape for name, shape in phi.items()}}

    @classmethod
    def from_file(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> "InstanceDyWeight":
        """The solver of a file, without gradients; ValueError where settings and tensors make none."""
        base = DyWeight.from_file(_of_dyweight(settings), tensors)
        phi = {name: settings[name] for name in SETTINGS}
        solver = cls(base, shift_factors=settings["shift_factors"], phi=phi)
        own = {name.removeprefix("phi."): value for name, value in tensors.items() if name.startswith("phi.")}
        solver.phi.load_state_dict(own)
        solver.requires_grad_(False)
        solver.plan()
        return solver


def _own(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name in (*SETTINGS, "shift_factors")}


def _of_dyweight(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in _own(settings)}
