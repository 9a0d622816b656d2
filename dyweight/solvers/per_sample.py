"""What solvers share whose network phi gives each sample a table of its own."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from ..plan import Plan
from .base import Solver
from .phi import LARGEST_SIZE, Phi
from .settings import check_sizes

S = TypeVar("S", bound="PerSample")
NOISES = 64
"""Of which a picture shows the tables."""


class PerSample(Solver):
    """A solver whose table depends on the noise and the condition of each sample, by what phi says of them."""

    reads_samples = True
    phi_kinds: ClassVar[Mapping[str, type]] = {
        "channels": int,
        "grid": list,
        "detail": int,
        "condition_width": int,
        "hidden": int,
    }
    """Those of `kinds` that phi's constructor takes."""

    phi: Phi
    channels: int
    """Of the latent; 0 where phi reads no noise."""
    grid: list[int]

    def _add_phi(
        self,
        outputs: int,
        shape: Sequence[int],
        condition_width: int,
        instance: bool,
        seed: int,
        phi: dict[str, Any] | None,
    ) -> None:
        """phi: its settings, by default those for latents of this shape."""
        phi = phi or Phi.settings_for(shape, condition_width, instance)
        for name in self.phi_kinds:
            setattr(self, name, phi[name])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.phi = Phi(outputs, **phi)

    def plan(self, sigmas: Tensor | None = None, noise: Tensor | None = None, condition: Tensor | None = None) -> Plan:
        """A table for each sample; without noise and condition, or where phi reads neither, one for all.

        sigmas: [steps + 1], another schedule of as many steps, or None. noise: [B, *shape] at the first sigma.
        condition: [B, width] as `dyweight.conditions` makes it. Gradients flow to phi.
        Raises ValueError for latents or conditions of another kind, and for sigmas that make no table.
        """
        base = self._base(sigmas)
        # On the CPU and as of unit variance: the same table whatever the device and the schedule.
        noise = None if noise is None else noise.detach().cpu().float() / float(base[0])
        said = self.phi(noise, None if condition is None else condition.detach().cpu().float()).double()
        return self._tables(base, said[0] if len(said) == 1 else said)

    @abstractmethod
    def _tables(self, base: Tensor, said: Tensor) -> Plan:
        """The tables on a schedule [steps + 1], of what phi says [*batch, outputs]."""

    def _table(self, base: Tensor) -> Plan:
        return self.plan(base)

    @property
    def reads_noise(self) -> bool:
        return self.channels > 0

    def numbers(self) -> list[nn.Parameter]:
        return list(self.phi.parameters())

    @classmethod
    def _shapes(cls, settings: dict[str, Any], steps: int) -> dict[str, tuple[int, ...]]:
        check_sizes(settings, cls.phi_kinds, LARGEST_SIZE)
        return Phi.shapes(cls._outputs(settings, steps), {name: settings[name] for name in cls.phi_kinds})

    @staticmethod
    @abstractmethod
    def _outputs(settings: dict[str, Any], steps: int) -> int:
        """How many numbers phi says with the settings of a file."""

    @classmethod
    def _made(cls: type[S], settings: dict[str, Any]) -> S:
        own = {name: value for name, value in settings.items() if name not in cls.phi_kinds}
        return super()._made({**own, "phi": {name: settings[name] for name in cls.phi_kinds}})

    def pictured(self) -> Plan:
        """Of noises without a prompt."""
        noise = torch.randn(NOISES, max(1, self.channels), *self.grid, generator=torch.Generator().manual_seed(0))
        line = self.channels == len(self.grid) == 1
        with torch.no_grad():
            return self.plan(noise=(noise.squeeze(1) if line else noise) * float(self.sigmas[0]))
