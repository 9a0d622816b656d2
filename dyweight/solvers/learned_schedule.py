"""LD3 (Tong et al. 2024, arXiv 2405.15506): a learned schedule over a handcrafted solver."""

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import baselines
from ..plan import Plan
from ..schedules import stretched
from .settings import check_same_steps, check_settings, checked_schedule

MOST_STEPS = 100
_SETTINGS: dict[str, type] = {"base": str, "order": int, "time_scaling": bool, "sigmas": list, "schedule": dict}


class LearnedSchedule(nn.Module):
    """The base solver on a schedule of its own, the same for all samples.

    With the base schedule b and logits o, one for each step:

        f[n] proportional to (b[n] - b[n+1]) exp(o[n]);  tau[n+1] = tau[n] - f[n] (b[0] - b[N]);  tau[0] = b[0]
        q = s tau                                        the noise levels that the network is asked at
        the base solver on tau, with eps(x, q) = (x - denoise(x, q)) / q in the place of eps(x, tau)

    The cumulative softmax is LD3's, here with the base schedule where the logits are 0, so that an untrained
    LearnedSchedule is its base solver. s is LD3's second sequence, the decoupled times: the network may be asked
    elsewhere than the solver believes to be. It is a scale, which fits schedules of any range.
    """

    family: ClassVar[str] = "learned-schedule"
    reads_samples: ClassVar[bool] = False
    """Whether `plan` reads noise and condition."""
    analytic_first_step: ClassVar[bool] = False
    slope: ClassVar[str] = "query"

    logits: nn.Parameter
    """[steps] float64: log of how much longer than in the base schedule a step is, in parts of the others."""
    log_time_scale: nn.Parameter
    """[rows] float64: log of s, for each network call."""
    sigmas: Tensor
    """[steps + 1] float64, the base schedule."""

    def __init__(
        self,
        sigmas: Tensor,
        base: str = "ipndm",
        order: int | None = None,
        *,
        time_scaling: bool = True,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        """
        sigmas: [steps + 1]. base, order: the handcrafted solver, one of `baselines.NAMES`. time_scaling: False to ask
        the network at the times of the states. schedule: the recipe that made sigmas, kept in the file.
        Raises ValueError for settings that make no solver.
        """
        super().__init__()
        self.register_buffer("sigmas", checked_schedule(sigmas).detach().clone())
        if self.steps > MOST_STEPS:
            raise ValueError(f"sigmas has {self.steps} steps: a learned schedule has {MOST_STEPS} at most")
        table = baselines.plan(base, self.sigmas, order)
        self.base, self._order, self.rows = base, order, table.rows
        self.order = table.history or table.rows
        self.time_scaling = bool(time_scaling)
        self.schedule = dict(schedule or {})
        self.provenance: dict[str, Any] = {}
        self.source = ""  # the file it was read from
        self.logits = nn.Parameter(torch.zeros(self.steps, dtype=torch.float64))
        scale = torch.zeros(self.rows, dtype=torch.float64)
        self.log_time_scale = nn.Parameter(scale, requires_grad=self.time_scaling)

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    @property
    def network_calls(self) -> int:
        """Number of function evaluations (NFE) of one sample."""
        return self.rows

    @property
    def time_scale(self) -> Tensor:
        """[rows] float64, as `DyWeight.time_scale`."""
        return self.log_time_scale.detach().exp() if self.time_scaling else torch.ones_like(self.log_time_scale)

    def plan(self, sigmas: Tensor | None = None, noise: Tensor | None = None, condition: Tensor | None = None) -> Plan:
        """The table of this solver on its own base schedule, or on another of as many steps; one for all samples.

        sigmas: [steps + 1] or None. noise, condition: what families with a table for each sample read; not used here.
        Gradients flow to the logits and the time scale.
        """
        base = self.sigmas if sigmas is None else checked_schedule(sigmas)
        check_same_steps(base, self.steps)
        plan = baselines.plan(self.base, stretched(base, self.logits.to("cpu")), self._order)
        scale = self.log_time_scale.to("cpu").exp() if self.time_scaling else torch.ones(self.rows)
        return replace(plan, query_sigmas=plan.query_sigmas * scale, gains=plan.gains / scale, history=None)

    def settings(self) -> dict[str, Any]:
        """What the file keeps beside the tensors; JSON values only."""
        return {
            "base": self.base,
            "order": self._order or 0,
            "time_scaling": self.time_scaling,
            "sigmas": self.sigmas.tolist(),
            "schedule": self.schedule,
        }

    def tensors(self) -> dict[str, Tensor]:
        """What the file keeps as tensors."""
        return {"logits": self.logits.detach(), "log_time_scale": self.log_time_scale.detach()}

    @staticmethod
    def shapes(settings: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        """The shapes that a file with these settings must have, by tensor name; ValueError for wrong settings."""
        check_settings(settings, _SETTINGS)
        steps = len(settings["sigmas"]) - 1
        if steps > MOST_STEPS:
            raise ValueError(f"setting 'sigmas' has {steps + 1} values, allowed are {MOST_STEPS + 1}")
        sigmas = torch.tensor(settings["sigmas"], dtype=torch.float64)
        rows = baselines.plan(settings["base"], sigmas, settings["order"] or None).rows
        return {"logits": (steps,), "log_time_scale": (rows,)}

    @classmethod
    def from_file(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> "LearnedSchedule":
        """The solver of a file, without gradients; ValueError where settings and tensors make none."""
        settings = {**settings, "order": settings["order"] or None}
        solver = cls(torch.tensor(settings.pop("sigmas"), dtype=torch.float64), **settings)
        solver.requires_grad_(False)
        solver.logits.copy_(tensors["logits"])
        solver.log_time_scale.copy_(tensors["log_time_scale"])
        solver.plan()
        return solver
