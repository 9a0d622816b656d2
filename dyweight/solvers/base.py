"""What a learned solver is: numbers that make a plan, how a file holds them, and what a picture shows."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from ..plan import Plan
from ..schedules import checked
from .settings import MAXIMUM_STEPS, check_same_steps, check_settings

S = TypeVar("S", bound="Solver")
Slope = Literal["state", "query"]
"""What x - denoised is divided by: the noise level of the state, or the one the network was asked at."""
LOWER_TIME_SCALE = 0.9
"""Asking the network a little below the noise level of the state opens a valley of its own, often the deeper one."""


class Row(NamedTuple):
    """Numbers in a picture, one for each row of the table."""

    label: str
    values: Tensor
    """[rows]"""
    usual: Tensor
    """[rows] their untrained values; a picture tints what differs."""
    used: Sequence[bool]
    """[rows] False where the solver has no such number."""
    digits: int = 3


Panel = tuple[str, list[Row]]
"""A heading, and the rows below it."""


class Solver(nn.Module, ABC):
    """A solver whose numbers are learned for one schedule.

    A family sets `family` and `kinds`, makes the table for a schedule in `_table`, gives the shapes of its tensors in
    `_shapes`, and overrides whatever differs.
    """

    family: ClassVar[str]
    """Its name in a file."""
    kinds: ClassVar[Mapping[str, type]] = {}
    """Its settings in a file, attributes of the same name, and their types; sigmas and schedule are added to them."""
    optional: ClassVar[Mapping[str, type]] = {}
    """Those that a file may leave out; the attribute is None then."""
    most_steps: ClassVar[int] = MAXIMUM_STEPS
    reads_samples: ClassVar[bool] = False
    """Whether `plan` reads noise and condition, to give each sample its own table."""

    order: int
    """The order of the method, as its constructor takes it."""
    slope: Slope = "state"
    analytic_first_step: bool = False
    guided: tuple[int, ...] = ()
    """The rows of its table that ask for the unconditional prediction too."""
    guided_at: float | None = None
    """The scale of classifier-free guidance (cfg) for which its table learned guidance; None without guided rows."""
    sigmas: Tensor
    """[steps + 1] float64, the schedule that the numbers belong to."""
    schedule: dict[str, Any]
    """The recipe that made sigmas, kept in the file. Its `boundary`, where it has one, is the noise level below which
    another network runs."""

    def __init__(self, sigmas: Tensor, schedule: dict[str, Any] | None = None) -> None:
        """Raises ValueError for sigmas that are not a schedule, or have too many steps for a file."""
        super().__init__()
        self.register_buffer("sigmas", checked(sigmas).detach().clone())
        self.schedule = dict(schedule or {})
        if self.steps > self.most_steps:
            raise ValueError(
                f"sigmas has {self.steps} steps: a solver of the family {self.family} has {self.most_steps} at most"
            )

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    @property
    def handover(self) -> int:
        """The step at which another network takes over, below the boundary of the recipe; 0 where none does."""
        boundary = self.schedule.get("boundary")
        if not isinstance(boundary, int | float) or isinstance(boundary, bool):
            return 0
        return int((self.sigmas[:-1] >= boundary).sum()) % self.steps

    def reach(self, step: int) -> int:
        """How many slopes a step may use at most: those before a handover belong to another network."""
        return step + 1 - (self.handover if step >= self.handover else 0)

    @property
    def rows(self) -> int:
        """Rows of its table: slopes of one sample, including the analytic one."""
        return self.steps

    @property
    def network_calls(self) -> int:
        """Number of function evaluations (NFE) of one sample."""
        return self.rows - int(self.analytic_first_step)

    @property
    def evaluations(self) -> int:
        """Network evaluations of one sample: a guided row costs two. As `Plan.evaluations`."""
        return self.network_calls + len(self.guided)

    def plan(self, sigmas: Tensor | None = None, noise: Tensor | None = None, condition: Tensor | None = None) -> Plan:
        """The table of this solver on its own schedule, or on another with the same number of steps.

        sigmas: [steps + 1] or None. noise: [B, *shape] at the first sigma, condition: [B, width] as
        `dyweight.conditions` makes it: read by solvers with a table for each sample; other solvers have one for all.
        Gradients flow to the numbers. Raises ValueError for sigmas or numbers that do not make a table.
        """
        return self._table(self._base(sigmas))

    @abstractmethod
    def _table(self, base: Tensor) -> Plan:
        """The table on a schedule [steps + 1]."""

    def _base(self, sigmas: Tensor | None) -> Tensor:
        base = self.sigmas.cpu() if sigmas is None else checked(sigmas)
        check_same_steps(base, self.steps)
        return base

    @property
    def reads_noise(self) -> bool:
        """Whether the noise of a sample changes its table."""
        return False

    def divisors(self, plan: Plan) -> Tensor:
        """[*batch, rows] by which the residuals of one of its tables are divided to give slopes."""
        return plan.sigmas[..., :-1] if self.slope == "state" else plan.query_sigmas

    def numbers(self) -> list[nn.Parameter]:
        """What a fit moves; `plan` is differentiable in each."""
        return list(self.parameters())

    def lower_time(self, factor: float | Tensor) -> None:
        """Ask the network at `factor` times the previous noise level; does nothing in a solver without such numbers.

        factor: one for all rows, or [rows].
        """

    def set_start(self) -> None:
        """Set the numbers of an untrained solver to those that a fit begins with."""
        self.lower_time(LOWER_TIME_SCALE)

    def set_table(self: S, plan: Plan) -> S:
        """Set the numbers that give this plan; ValueError where none do, as in most families."""
        raise ValueError(f"a solver of the family {self.family} can't be set to a table")

    def guiding(self: S, rows: Sequence[int]) -> S:
        """This solver with only these of its guided rows; with none of them it leaves guidance to `denoise`."""
        return self

    def tie_guidance(self: S, other: S | None = None) -> S:
        """Guide as slopes move, or as another solver with more guided rows does; nothing to do without guided rows."""
        return self

    def settings(self) -> dict[str, Any]:
        """What the file keeps besides the tensors; JSON values only."""
        own = {name: getattr(self, name) for name in self.kinds}
        own |= {name: getattr(self, name) for name in self.optional if getattr(self, name) is not None}
        return {**own, "sigmas": self.sigmas.tolist(), "schedule": self.schedule}

    def tensors(self) -> dict[str, Tensor]:
        """What the file keeps as tensors: the numbers themselves, without gradients."""
        return {name: value.detach() for name, value in self.named_parameters()}

    @classmethod
    def shapes(cls, settings: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        """The shapes that a file with these settings must have, by tensor name; ValueError for wrong settings."""
        check_settings(settings, {**cls.kinds, "sigmas": list, "schedule": dict}, cls.most_steps, cls.optional)
        return cls._shapes(settings, len(settings["sigmas"]) - 1)

    @classmethod
    @abstractmethod
    def _shapes(cls, settings: dict[str, Any], steps: int) -> dict[str, tuple[int, ...]]:
        """`shapes`, for settings of the right types."""

    @classmethod
    def from_file(cls: type[S], settings: dict[str, Any], tensors: dict[str, Tensor]) -> S:
        """The solver of a file, without gradients; ValueError where settings and tensors do not make one."""
        solver = cls._made(settings).requires_grad_(False)
        for name, value in solver.tensors().items():
            value.copy_(tensors[name])
        solver.plan()
        return solver

    @classmethod
    def _made(cls: type[S], settings: dict[str, Any]) -> S:
        """A solver with these settings and any numbers."""
        return cls(**{**settings, "sigmas": torch.tensor(settings["sigmas"], dtype=torch.float64)})

    def pictured(self) -> Plan:
        """The table that a picture of the solver shows."""
        with torch.no_grad():
            return self.plan()

    def panels(self, plan: Plan) -> list[Panel]:
        """What a picture shows of one of its tables besides the curves of its noise levels; by default the calls."""
        return [self._calls(plan, "network calls", self.sigmas[:-1])]

    def asked(self) -> list[bool]:
        """[rows] whether a row asks the network."""
        return [row >= int(self.analytic_first_step) for row in range(self.rows)]

    def _calls(self, plan: Plan, heading: str, usual: Tensor) -> Panel:
        """Where the network is asked, and by how much that differs between the samples."""
        queries = plan.query_sigmas.reshape(-1, self.rows)
        mean, asked = queries.mean(0), self.asked()
        rows = [Row("sigma" if len(queries) == 1 else "mean sigma", mean, usual, asked)]
        if len(queries) > 1:
            spread = 100 * queries.std(0) / mean
            rows.append(Row("spread in %", spread, spread, asked, digits=1))
        return f"{heading}: {TINTS}", rows


TINTS = "red above, blue below the untrained"
MOST_WEIGHT_ROWS = 10


def weight_rows(weights: Tensor, usual: Tensor) -> list[Row]:
    """Rows of weights [steps, order], newest slope first, with the untrained ones; the newest MOST_WEIGHT_ROWS."""
    steps, order = weights.shape
    return [
        Row(
            "newest slope" if i == 0 else f"{i} before",
            weights[:, i].detach(),
            usual[:, i].detach(),
            [step >= i for step in range(steps)],
        )
        for i in range(min(steps, order, MOST_WEIGHT_ROWS))
    ]
