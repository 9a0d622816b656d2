"""A plan is a table: one row per slope, the numbers of a whole few-step sampler."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Plan:
    """The table that `sample()` runs, one row per slope:

        x[i+1] = x[i] + sum over j <= i of gains[i, j] * (x[j] - denoise(x[j], query_sigmas[j]))

    A second table learns classifier-free guidance: rows in `guided` also ask for the prediction without the condition,
    and every row adds the sum over guided j <= i of guidance[i, j] * (conditional[j] - unconditional[j]). A sampler
    with a constant scale is the case of all rows guided and guidance = -gains * (scale - 1).

    Every solver whose coefficients do not depend on x is such a table. A leading batch axis gives each sample its own
    row of numbers. Tables are always float64 on the CPU, and may carry gradients.

    Raises ValueError where shapes disagree, a value is not finite, a query sigma is not positive, a gain is above the
    diagonal (it would need a residual that does not exist yet), or guidance needs a prediction that no row asks for.
    """

    sigmas: Tensor
    """[*batch, rows + 1] the noise level of each state; the first is that of the noise."""
    query_sigmas: Tensor
    """[*batch, rows] the noise level the network is asked at."""
    gains: Tensor
    """[*batch, rows, rows] unitless, lower triangular."""
    analytic_first_step: bool = False
    """The first slope is x / sqrt(1 + sigma^2), that of unit-variance data, and costs no network call."""
    keep: int = 1
    """Minimum number of newest residuals to keep, so that another table can continue from one of its states."""
    guidance: Tensor | None = None
    """[*batch, rows, rows] unitless, lower triangular, 0 in the columns of rows that are not guided; None where
    `denoise` takes care of guidance, if there is any."""
    guided: tuple[int, ...] = ()
    """The rows that ask for the unconditional prediction too, in order; none without `guidance`."""

    def __post_init__(self) -> None:
        for name in self._tables:
            value = torch.as_tensor(getattr(self, name), dtype=torch.float64, device="cpu")
            object.__setattr__(self, name, value)
        self._check()

    @property
    def rows(self) -> int:
        """Number of slopes, including the analytic one."""
        return self.query_sigmas.shape[-1]

    @property
    def network_calls(self) -> int:
        """Number of function evaluations (NFE) of one sample."""
        return self.rows - int(self.analytic_first_step)

    @property
    def evaluations(self) -> int:
        """Network evaluations of one sample: a guided row costs two. Without `guidance` it is `network_calls`: what
        `denoise` does in a call is its own."""
        return self.network_calls + len(self.guided)

    @property
    def batch(self) -> int | None:
        """Size of the leading axis, None for a table that all samples share."""
        return self.query_sigmas.shape[0] if self.query_sigmas.ndim == 2 else None

    @cached_property
    def history(self) -> int:
        """Number of newest residuals that a run keeps: those that non-zero gains use, or all where the gains carry
        gradients, since a zero may then be a parameter; at least `keep`."""
        used = torch.ones_like(self.gains) if self.gains.requires_grad else self.gains
        rows, columns = used.tril().nonzero()[:, -2:].unbind(1)
        return max(self.keep, int((rows - columns).max()) + 1 if len(rows) else 1)

    @cached_property
    def last_use(self) -> dict[int, int]:
        """Guided row -> the last row that uses its direction; the last of all where guidance carries gradients."""
        if self.guidance is None:
            return {}
        used = torch.ones_like(self.guidance).tril() if self.guidance.requires_grad else self.guidance
        rows = used.reshape(-1, self.rows, self.rows).any(0)
        return {j: max([j, *rows[:, j].nonzero().flatten().tolist()]) for j in self.guided}

    def detach(self) -> "Plan":
        """The same numbers without gradients."""
        return replace(self, **{name: getattr(self, name).detach() for name in self._tables})

    def with_guidance_times(self, factor: float) -> "Plan":
        """The same with guidance this many times as strong: (cfg - 1) / (the table's own cfg - 1) for another cfg."""
        return self if self.guidance is None else replace(self, guidance=self.guidance * factor)

    def without_guidance(self) -> "Plan":
        """The first table alone."""
        return replace(self, guidance=None, guided=())

    @property
    def _tables(self) -> tuple[str, ...]:
        return ("sigmas", "query_sigmas", "gains", *(() if self.guidance is None else ("guidance",)))

    def _check(self) -> None:
        rows, batch = self.query_sigmas.shape[-1] if self.query_sigmas.ndim else 0, self.query_sigmas.shape[:-1]
        if self.query_sigmas.ndim not in (1, 2) or rows == 0:
            raise ValueError(f"query_sigmas has shape {list(self.query_sigmas.shape)}: give [rows] or [batch, rows]")
        square = (*batch, rows, rows)
        for name, shape in {"sigmas": (*batch, rows + 1), "gains": square, "guidance": square}.items():
            if name in self._tables and getattr(self, name).shape != shape:
                found = list(getattr(self, name).shape)
                raise ValueError(f"{name} has shape {found}: {rows} query sigmas need {list(shape)}")
        for name in self._tables:
            if not bool(torch.isfinite(getattr(self, name)).all()):
                raise ValueError(f"{name} has a value that is not finite: {getattr(self, name).tolist()}")
        if bool((self.query_sigmas <= 0).any()):
            raise ValueError(f"query_sigmas must be above 0, got {self.query_sigmas.tolist()}")
        if bool(torch.triu(self.gains, 1).any()):
            raise ValueError("gains has a value above the diagonal: row i may use the residuals 0 to i only")
        self._check_guidance(rows)

    def _check_guidance(self, rows: int) -> None:
        asked = range(int(self.analytic_first_step), rows)
        if list(self.guided) != sorted({*self.guided} & {*asked}) or bool(self.guided) != (self.guidance is not None):
            raise ValueError(
                f"guided is {self.guided}: give rows from {asked.start} to {rows - 1} in order, with guidance"
            )
        if self.guidance is not None:
            others = [j for j in range(rows) if j not in self.guided]
            if bool(torch.triu(self.guidance, 1).any()) or bool(self.guidance[..., others].any()):
                raise ValueError(
                    "guidance has a value without a prediction: row i may use the guided rows up to i only"
                )
