"""DyWeight (Zhao et al. 2026, arXiv 2603.11607): learned multistep weights that also shift and scale time."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor, nn

from ..adams import Initial, initial_weights
from ..plan import Plan
from .base import LOWER_TIME_SCALE, TINTS, Panel, Row, Slope, Solver, weight_rows
from .settings import check_choice, check_learned_guidance

START_ORDER = 2
"""Of Adams-Bashforth, where a fit begins; of order 3 it begins farther from where it ends."""
INTO_THE_STEP = 0.35
"""Of a step of a flow, whose levels are times: how far into it the network is asked. So the last call, on the way to 0,
begins near where it ends; from LOWER_TIME_SCALE the fit often stops in a worse valley before that."""


class DyWeight(Solver):
    """A few-step solver whose weights are free, so their sum moves the time of the next state.

    With base schedule b, weights w, time scale s (paper, equations 8 and 9, algorithm 2):

        t[0] = b[0];  h[n] = b[n+1] - t[n];  q[n] = s[n] t[n]
        g[n] = (x[n] - denoise(x[n], q[n])) / t[n]           ("state" slope; / q[n] with "query")
        x[n+1] = x[n] + h[n] * sum over i of w[n, i] g[n-i]   i < min(n + 1, order)
        t[n+1] = t[n] + h[n] * sum over i of w[n, i]          (time shifting; without it t[n+1] = b[n+1])

    With learned guidance, ours and in no paper, denoise is conditional and weights v do the guidance, of guided rows j:

        e[j] = -(cfg - 1) (conditional[j] - unconditional[j]) / t[j]      ("state" slope; / q[j] with "query")
        x[n+1] also gets h[n] * sum over i of v[n, i] e[j(i)]             j(0) > j(1) > ... the guided rows up to n

    v = w with all rows guided is guidance of constant scale cfg; v moves no time.

    Untrained, with the default initial weights, it is iPNDM.
    """

    family = "dyweight"
    kinds: ClassVar[Mapping[str, type]] = {
        "order": int,
        "slope": str,
        "analytic_first_step": bool,
        "time_shifting": bool,
        "time_scaling": bool,
    }
    optional: ClassVar[Mapping[str, type]] = {"learned_guidance": dict}

    weights: nn.Parameter
    """[steps, order] float64, newest slope first; entries without history are unused and 0. A handover to another
    network, as the recipe's boundary tells, begins the history anew."""
    time_scale: nn.Parameter
    """[steps] float64; with an analytic first step the first entry is unused and 1."""
    guidance_weights: nn.Parameter
    """[steps, order] float64, that of the newest guided row first; only with learned guidance."""
    learned_guidance: dict[str, Any] | None
    """{"cfg": the scale that it stands for, "guided": the rows that ask for the unconditional prediction too}"""

    def __init__(
        self,
        sigmas: Tensor,
        order: int = 3,
        slope: Slope = "state",
        analytic_first_step: bool = False,
        *,
        initial: Initial = "adams-bashforth",
        time_shifting: bool = True,
        time_scaling: bool = True,
        learned_guidance: dict[str, Any] | None = None,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        """
        sigmas: [steps + 1], decreasing, all above 0 except the last. order: the most slopes a step uses.
        initial: the paper's three (adams-bashforth takes the weights of equal steps, as iPNDM does), or
        adams-bashforth-variable with the weights of the real spacing (Appendix A).
        time_shifting, time_scaling: False for the paper's ablations.
        learned_guidance: {"cfg": scale, "guided": rows} for weights of the guidance, as the attribute.
        schedule: the recipe that made sigmas, kept in the file; its boundary begins the history anew.
        Raises ValueError for invalid settings.
        """
        super().__init__(sigmas, schedule)
        if isinstance(order, bool) or not isinstance(order, int) or order < 1:
            raise ValueError(f"order is {order!r}: give a whole number of 1 or more (the paper uses 3)")
        check_choice("slope", slope, get_args(Slope))
        check_choice("initial", initial, get_args(Initial))
        self.order, self.slope, self.analytic_first_step = order, slope, bool(analytic_first_step)
        self.time_shifting, self.time_scaling = bool(time_shifting), bool(time_scaling)
        reaches = [min(self.reach(n), order) for n in range(self.steps)]
        self.weights = nn.Parameter(initial_weights(self.sigmas, order, initial, reaches))
        self.time_scale = nn.Parameter(torch.ones(self.steps, dtype=torch.float64), requires_grad=self.time_scaling)
        self.learned_guidance = learned_guidance
        if learned_guidance is not None:
            check_learned_guidance(learned_guidance, range(int(self.analytic_first_step), self.steps))
            self.guided, self.guided_at = tuple(learned_guidance["guided"]), float(learned_guidance["cfg"])
            self.guidance_weights = nn.Parameter(torch.zeros_like(self.weights))
            self.tie_guidance()

    @torch.no_grad()
    def tie_guidance(self, other: "DyWeight | None" = None) -> "DyWeight":
        """Set the weights of the guidance to those of the slopes, or to those of another solver with more guided rows.

        A row that is not guided is served by the newest guided one before it; there is no guidance before the first.
        """
        for n in range(self.steps if self.guided else 0):
            self.guidance_weights[n] = 0
            at_hand = self._guided_up_to(n)
            first = max(n + 1 - min(self.reach(n), self.order), int(self.analytic_first_step))
            before = range(n, first - 1, -1) if other is None else other._guided_up_to(n)
            weights = self.weights[n] if other is None else other.guidance_weights[n]
            for row, weight in zip(before, weights.tolist(), strict=False):
                serving = [k for k, j in enumerate(at_hand) if j <= row] or [len(at_hand) - 1]
                if at_hand:
                    self.guidance_weights[n, serving[0]] += weight
        return self

    def _guided_up_to(self, step: int) -> list[int]:
        """The guided rows that a step may use, newest first."""
        first = step + 1 - self.reach(step)
        return [j for j in reversed(self.guided) if first <= j <= step][: self.order]

    def _table(self, base: Tensor) -> Plan:
        """Raises ValueError where the weights take a time to 0 or below too early."""
        weights, time_scale = self.weights.to("cpu"), self.time_scale.to("cpu")
        steps = torch.arange(self.steps)
        used = torch.tensor([min(self.reach(n), self.order) for n in range(self.steps)])[:, None]
        sums, times = weights.where(torch.arange(self.order) < used, 0).sum(1), [base[0]]
        for following, moved in zip(base[1:], sums, strict=True):
            times.append(times[-1] + (following - times[-1]) * moved if self.time_shifting else following)
        sigmas = torch.stack(times)
        states, lengths = sigmas[:-1], base[1:] - sigmas[:-1]
        learned = self.time_scaling & (steps >= int(self.analytic_first_step))
        queries = states * time_scale.where(learned, 1)
        self._check_levels(states, queries)
        divisors = states if self.slope == "state" else queries
        age = steps[:, None] - steps
        placed = weights.gather(1, age.clamp(0, self.order - 1))
        return Plan(
            sigmas=sigmas,
            query_sigmas=queries,
            gains=(placed * lengths[:, None] / divisors).where((age >= 0) & (age < used), 0),
            analytic_first_step=self.analytic_first_step,
            keep=self.order,
            guidance=self._guidance(lengths, divisors) if self.guided else None,
            guided=self.guided,
        )

    @staticmethod
    def _check_levels(states: Tensor, queries: Tensor) -> None:
        for n, (time, query) in enumerate(zip(states.tolist(), queries.tolist(), strict=True)):
            if not (time > 0 and query > 0):
                raise ValueError(
                    f"step {n} has sigma {time:g} and asks at {query:g}, both must be above 0: "
                    "the weights before it carry time too far, or its time scale is not above 0"
                )

    def _guidance(self, lengths: Tensor, divisors: Tensor) -> Tensor:
        """[steps, steps] from the length of each step and what its residual is divided by."""
        assert self.guided_at is not None
        weights, table = self.guidance_weights.to("cpu"), []
        for n, length in enumerate(lengths):
            row = [length.new_zeros(())] * self.steps
            for i, j in enumerate(self._guided_up_to(n)):
                row[j] = (1 - self.guided_at) * length * weights[n, i] / divisors[j]
            table.append(torch.stack(row))
        return torch.stack(table)

    @torch.no_grad()
    def set_table(self, plan: Plan) -> "DyWeight":
        """Set the weights and the time scale that give this plan; the inverse of `plan()`.

        plan: one shared table with the same number of rows, which reach back `order` residuals at most.
        Raises ValueError where the settings rule it out, or no finite weights give it (a shifted time that meets a
        point of the base schedule).
        """
        plan = plan.detach()
        if plan.batch is not None or plan.rows != self.steps or plan.history > self.order:
            raise ValueError(
                f"the plan has {plan.rows} rows of history {plan.history}, batch {plan.batch}: "
                f"this solver takes {self.steps} rows of history {self.order} at most, without a batch"
            )
        if plan.analytic_first_step != self.analytic_first_step:
            raise ValueError(f"analytic_first_step is {plan.analytic_first_step} in the plan but not in this solver")
        if plan.guided != self.guided:
            raise ValueError(f"the plan has the guided rows {plan.guided}, this solver {self.guided}")
        weights, time_scale = torch.zeros_like(self.weights), torch.ones_like(self.time_scale)
        guidance_weights = torch.zeros_like(self.weights)
        time, divisors = self.sigmas[0], []
        for n in range(self.steps):
            query = plan.query_sigmas[n]
            if not (n == 0 and self.analytic_first_step):
                time_scale[n] = query / time
            divisors.append(time if self.slope == "state" else query)
            step = self.sigmas[n + 1] - time
            for i in range(min(self.reach(n), self.order)):
                weights[n, i] = plan.gains[n, n - i] * divisors[n - i] / step
            guidance_weights[n] = self._guidance_weights(n, plan, step, divisors)
            time = time + step * weights[n].sum() if self.time_shifting else self.sigmas[n + 1]
        if plan.gains[self.handover :, : self.handover].any():
            raise ValueError(f"the plan uses slopes from before step {self.handover}, where another network takes over")
        if not all(bool(torch.isfinite(found).all()) for found in (weights, time_scale, guidance_weights)):
            raise ValueError("no finite weights and time scale give this plan: a shifted time meets the base schedule")
        if not self.time_scaling and not torch.allclose(time_scale, torch.ones_like(time_scale)):
            raise ValueError("the plan asks at sigmas other than those of its states, but time_scaling is off")
        self.weights.copy_(weights)
        self.time_scale.copy_(time_scale)
        getattr(self, "guidance_weights", torch.zeros_like(weights)).copy_(guidance_weights)
        return self

    def _guidance_weights(self, n: int, plan: Plan, step: Tensor, divisors: Sequence[Tensor]) -> Tensor:
        """[order], the inverse of a row of `_guidance`."""
        weights = torch.zeros(self.order, dtype=torch.float64)
        if plan.guidance is not None and self.guided_at is not None:
            for i, j in enumerate(self._guided_up_to(n)):
                weights[i] = plan.guidance[n, j] * divisors[j] / step / (1 - self.guided_at)
        return weights

    def numbers(self) -> list[nn.Parameter]:
        moved = [self.weights, self.time_scale] if self.time_scaling else [self.weights]
        return [*moved, self.guidance_weights] if self.guided else moved

    @torch.no_grad()
    def lower_time(self, factor: float | Tensor) -> None:
        if self.time_scaling:
            self.time_scale.mul_(factor)
            self.time_scale[: int(self.analytic_first_step)] = 1.0

    @torch.no_grad()
    def set_start(self) -> None:
        """A low order, asked below the noise level of the states."""
        levels = self.sigmas
        if self.order > START_ORDER:
            self.weights.zero_()
            self.weights[:, :START_ORDER] = DyWeight(levels, START_ORDER, schedule=self.schedule).weights
            self.tie_guidance()
        flow = float(levels[0]) <= 1 and float(levels[-1]) <= 0
        self.lower_time(1 - INTO_THE_STEP * (1 - levels[1:] / levels[:-1]) if flow else LOWER_TIME_SCALE)

    def guiding(self, rows: Sequence[int]) -> "DyWeight":
        """As `Solver.guiding`: the newest guided row before it serves one that is guided no more."""
        settings, tensors = self.settings(), self.tensors()
        guidance = settings.pop("learned_guidance", {})
        if rows:
            settings["learned_guidance"] = {**guidance, "guided": list(rows)}
            return DyWeight.from_file(settings, tensors).tie_guidance(self)
        tensors.pop("guidance_weights", None)
        return DyWeight.from_file(settings, tensors)

    @classmethod
    def _shapes(cls, settings: dict[str, Any], steps: int) -> dict[str, tuple[int, ...]]:
        weights = (steps, settings["order"])
        guidance = {"guidance_weights": weights} if "learned_guidance" in settings else {}
        return {"weights": weights, "time_scale": (steps,), **guidance}

    @classmethod
    def _made(cls, settings: dict[str, Any]) -> "DyWeight":
        return super()._made({**settings, "initial": "euler"})

    def panels(self, plan: Plan) -> list[Panel]:
        untrained, ones = DyWeight(self.sigmas, self.order).weights, torch.ones(self.steps)
        sums = f"sum of weights ({'1: time not shifted' if self.time_shifting else 'time shifting is off'})"
        scales = "time scale" if self.time_scaling else "time scale (off)"
        guidance = [self._guidance_panel()] if self.guided else []
        return [
            (f"weights: {TINTS}", weight_rows(self.weights, untrained)),
            (
                f"{sums}, {scales}",
                [
                    Row("sum", self.weights.detach().sum(1), ones, [True] * self.steps),
                    Row("time scale", self.time_scale.detach(), ones, self.asked()),
                ],
            ),
            *guidance,
        ]

    def _guidance_panel(self) -> Panel:
        """The weights of the guidance beside those of constant guidance."""
        constant = copy.deepcopy(self).tie_guidance().guidance_weights.detach()
        at_hand = [len(self._guided_up_to(n)) for n in range(self.steps)]
        rows = [
            Row(
                "newest guided" if i == 0 else f"{i} before",
                self.guidance_weights[:, i].detach(),
                constant[:, i],
                [count > i for count in at_hand],
            )
            for i in range(max(at_hand))
        ]
        asked = ", ".join(str(row + 1) for row in self.guided)
        return f"guidance, cfg {self.guided_at:g}: step {asked} asked without prompt too", rows
