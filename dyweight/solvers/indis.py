"""INDIS (CVPR 2026): a schedule of its own for each sample, over a handcrafted solver."""

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import baselines
from ..plan import Plan
from ..schedules import stretched
from .phi import LARGEST_SIZE, SETTINGS, Phi
from .settings import check_same_steps, check_settings, check_sizes, checked_schedule

LARGEST_SHIFT, LARGEST_SCALE = 0.3, 0.3
"""Bounds of what phi says: the time shift as a part of the time, the scale."""
MOST_STEPS = 100
_SETTINGS: dict[str, type] = {
    "base": str,
    "order": int,
    "shift_factors": bool,
    "sigmas": list,
    "schedule": dict,
    **{name: list if name == "grid" else int for name in SETTINGS},
}


class Indis(nn.Module):
    """A network phi reads noise and condition of a sample and gives it its own timesteps, time shifts and scales.

    With the base schedule b and phi's logits o (o_tau for each step, o_shift and o_gamma for each network call):

        f[n] proportional to (b[n] - b[n+1]) exp(o_tau[n]);  tau[n+1] = tau[n] - f[n] (b[0] - b[N]);  tau[0] = b[0]
        q = tau (1 + d tanh(o_shift / 2));   gamma = 1 + c tanh(o_gamma / 2)
        the base solver on tau, with gamma * eps(x, q) in the place of eps(x, tau), eps = (x - denoise(x, q)) / q

    The cumulative softmax is the paper's, here with the base schedule where the logits are 0, so that an untrained
    Indis is its base solver. The paper leaves the bounds open: o_tau within 4, d = c = 0.3, the shift relative to the
    time so that it fits schedules of any range.
    """

    family: ClassVar[str] = "indis"
    reads_samples: ClassVar[bool] = True
    """Whether `plan` reads noise and condition."""
    analytic_first_step: ClassVar[bool] = False
    slope: ClassVar[str] = "query"

    sigmas: Tensor
    """[steps + 1] float64, the base schedule."""

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
        Raises ValueError for settings that make no solver.
        """
        super().__init__()
        self.register_buffer("sigmas", checked_schedule(sigmas).detach().clone())
        if self.steps > MOST_STEPS:
            raise ValueError(f"sigmas has {self.steps} steps: phi speaks of {MOST_STEPS} at most")
        table = baselines.plan(base, self.sigmas, order)
        self.base, self._order, self.rows = base, order, table.rows
        self.order = table.history or table.rows
        self.shift_factors = bool(shift_factors)
        self.schedule = dict(schedule or {})
        self.provenance: dict[str, Any] = {}
        self.source = ""  # the file it was read from
        self.phi_settings = phi or Phi.settings_for(shape, condition_width, instance)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.phi = Phi(self.steps + (2 * self.rows if shift_factors else 0), **self.phi_settings)

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    @property
    def network_calls(self) -> int:
        """Number of function evaluations (NFE) of one sample."""
        return self.rows

    def plan(self, sigmas: Tensor | None = None, noise: Tensor | None = None, condition: Tensor | None = None) -> Plan:
        """A table with a row for each sample; without noise and condition one table for all.

        sigmas: [steps + 1], another base schedule, or None. noise: [B, *shape] at the first sigma. condition:
        [B, width] as `dyweight.conditions` makes it. Gradients flow to phi.
        Raises ValueError for latents or conditions of another kind, and for a schedule on which the base solver makes
        another number of network calls.
        """
        base = self.sigmas if sigmas is None else checked_schedule(sigmas)
        check_same_steps(base, self.steps)
        self._check_same_end(base)
        said = self.phi(_unit(noise, base), None if condition is None else condition.detach().cpu().float()).double()
        said = said[0] if len(said) == 1 else said
        said = said if self.shift_factors else nn.functional.pad(said, (0, 2 * self.rows))
        logits, shifts, scales = torch.split(said, [self.steps, self.rows, self.rows], -1)
        plan = baselines.plan(self.base, stretched(base, logits), self._order)
        ratio = 1 + LARGEST_SHIFT * torch.tanh(shifts / 2)
        gamma = 1 + LARGEST_SCALE * torch.tanh(scales / 2)
        gains = plan.gains * (gamma / ratio).unsqueeze(-2)
        # On another schedule a gain may stand that is rounded to 0 on the base schedule.
        history = max(self.order, plan.detach().history or 1)
        return replace(plan, query_sigmas=plan.query_sigmas * ratio, gains=gains, history=history)

    def _check_same_end(self, base: Tensor) -> None:
        """Solvers with two calls a step leave one out in a step to 0, and phi speaks of a fixed number of calls."""
        calls = baselines.plan(self.base, base, self._order).rows
        if calls != self.rows:
            needed = "end at 0" if float(self.sigmas[-1]) == 0 else "end above 0"
            raise ValueError(
                f"sigmas ends at {float(base[-1]):g}, where {self.base} makes {calls} network calls, this solver "
                f"{self.rows}: give sigmas that {needed}, as those it was made for"
            )

    def settings(self) -> dict[str, Any]:
        """What the file keeps beside the tensors; JSON values only."""
        return {
            "base": self.base,
            "order": self._order or 0,
            "shift_factors": self.shift_factors,
            "sigmas": self.sigmas.tolist(),
            "schedule": self.schedule,
            **self.phi_settings,
        }

    def tensors(self) -> dict[str, Tensor]:
        """What the file keeps as tensors."""
        return {name: value.detach() for name, value in self.phi.state_dict().items()}

    @staticmethod
    def shapes(settings: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        """The shapes that a file with these settings must have, by tensor name; ValueError for wrong settings."""
        check_settings(settings, _SETTINGS)
        check_sizes(settings, SETTINGS, LARGEST_SIZE)
        if len(settings["sigmas"]) > MOST_STEPS + 1:
            raise ValueError(f"setting 'sigmas' has {len(settings['sigmas'])} values, allowed are {MOST_STEPS + 1}")
        rows = baselines.plan(settings["base"], _schedule(settings), settings["order"] or None).rows
        outputs = len(settings["sigmas"]) - 1 + 2 * rows * int(settings["shift_factors"])
        return Phi.shapes(outputs, {name: settings[name] for name in SETTINGS})

    @classmethod
    def from_file(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> "Indis":
        """The solver of a file, without gradients; ValueError where settings and tensors make none."""
        solver = cls(
            _schedule(settings),
            base=settings["base"],
            order=settings["order"] or None,
            shift_factors=settings["shift_factors"],
            schedule=settings["schedule"],
            phi={name: settings[name] for name in SETTINGS},
        )
        solver.phi.load_state_dict(tensors)
        solver.requires_grad_(False)
        solver.plan()
        return solver


def _schedule(settings: dict[str, Any]) -> Tensor:
    return torch.tensor(settings["sigmas"], dtype=torch.float64)


def _unit(noise: Tensor | None, sigmas: Tensor) -> Tensor | None:
    """Noise of unit variance on the CPU: the same schedule whatever the device."""
    return None if noise is None else noise.detach().cpu().float() / float(sigmas[0])
