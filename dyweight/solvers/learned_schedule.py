"""LD3 (Tong et al. 2024, arXiv 2405.15506): a learned schedule over a handcrafted solver."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..plan import Plan
from ..schedules import stretched
from .base import Panel, Row
from .handcrafted import OverHandcrafted, rows_of


class LearnedSchedule(OverHandcrafted):
    """The base solver on a learned schedule, the same for all samples.

    With the base schedule b and logits o, one for each step:

        f[n] proportional to (b[n] - b[n+1]) exp(o[n]);  tau[n+1] = tau[n] - f[n] (b[0] - b[N]);  tau[0] = b[0]
        q = s tau                                        the noise levels that the network is asked at
        the base solver on tau, with eps(x, q) = (x - denoise(x, q)) / q instead of eps(x, tau)

    The cumulative softmax is LD3's, here with the base schedule where the logits are 0, so that an untrained
    LearnedSchedule is its base solver. s is LD3's second sequence, the decoupled times: the network may be asked
    at other times than the solver's. It is a scale, which fits schedules of any range.
    """

    family = "learned-schedule"
    kinds: ClassVar[Mapping[str, type]] = {"base": str, "order": int, "time_scaling": bool}

    logits: nn.Parameter
    """[steps] float64: log of how much longer a step is than in the base schedule, relative to the others."""
    log_time_scale: nn.Parameter
    """[rows] float64: log of s, for each network call."""

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
        Raises ValueError for invalid settings.
        """
        super().__init__(sigmas, base, order, schedule)
        self.time_scaling = bool(time_scaling)
        self.logits = nn.Parameter(torch.zeros(self.steps, dtype=torch.float64))
        scale = torch.zeros(self.rows, dtype=torch.float64)
        self.log_time_scale = nn.Parameter(scale, requires_grad=self.time_scaling)

    @property
    def time_scale(self) -> Tensor:
        """[rows] float64, as `DyWeight.time_scale`."""
        return self.log_time_scale.detach().exp() if self.time_scaling else torch.ones_like(self.log_time_scale)

    def _table(self, base: Tensor) -> Plan:
        plan = self._untrained(stretched(base, self.logits.to("cpu")))
        scale = self.log_time_scale.to("cpu").exp() if self.time_scaling else torch.ones(self.rows)
        return replace(plan, query_sigmas=plan.query_sigmas * scale, gains=plan.gains / scale)

    def numbers(self) -> list[nn.Parameter]:
        return [self.logits, self.log_time_scale] if self.time_scaling else [self.logits]

    @torch.no_grad()
    def lower_time(self, factor: float | Tensor) -> None:
        if self.time_scaling:
            self.log_time_scale.add_(torch.as_tensor(factor, dtype=torch.float64).log())

    @classmethod
    def _shapes(cls, settings: dict[str, Any], steps: int) -> dict[str, tuple[int, ...]]:
        return {"logits": (steps,), "log_time_scale": (rows_of(settings),)}

    def panels(self, plan: Plan) -> list[Panel]:
        (heading, calls), *_ = super().panels(plan)
        return [(heading, [*calls, Row("time scale", self.time_scale, torch.ones(self.rows), self.asked())])]
