"""What solvers share that learn a schedule for a handcrafted solver."""

from typing import Any, ClassVar

from torch import Tensor

from .. import baselines
from ..plan import Plan
from .base import Panel, Slope, Solver


class OverHandcrafted(Solver):
    """A solver that is a handcrafted one on other times."""

    most_steps: ClassVar[int] = 100
    slope: Slope = "query"
    base: str
    """The handcrafted solver, one of `baselines.NAMES`."""

    def __init__(self, sigmas: Tensor, base: str, order: int | None, schedule: dict[str, Any] | None) -> None:
        """order: of the handcrafted solver, by default its highest."""
        super().__init__(sigmas, schedule)
        self.base, self.order = base, baselines.checked_order(base, order or None)
        self._rows = self._untrained(self.sigmas).rows

    @property
    def rows(self) -> int:
        return self._rows

    def _untrained(self, sigmas: Tensor) -> Plan:
        """The handcrafted solver on a schedule [*batch, steps + 1]."""
        return baselines.plan(self.base, sigmas, self.order)

    def _base(self, sigmas: Tensor | None) -> Tensor:
        """Solvers with two calls a step leave one out in a step to 0, and the numbers are for each call."""
        base = super()._base(sigmas)
        calls = self.rows if sigmas is None else self._untrained(base).rows
        if calls != self.rows:
            needed = "end at 0" if float(self.sigmas[-1]) == 0 else "end above 0"
            raise ValueError(
                f"sigmas ends at {float(base[-1]):g}, where {self.base} makes {calls} network calls, this solver "
                f"{self.rows}: give sigmas that {needed}, as those it was made for"
            )
        return base

    def panels(self, plan: Plan) -> list[Panel]:
        return [self._calls(plan, f"network calls of {self.base}", self._untrained(self.sigmas).query_sigmas)]


def rows_of(settings: dict[str, Any]) -> int:
    """Rows of the table that the settings of a file make; order 0 is the default."""
    return baselines.plan(settings["base"], settings["sigmas"], settings["order"] or None).rows
