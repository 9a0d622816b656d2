"""A plan is a table: one row per slope, the numbers of a whole few-step sampler."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Plan:
    """The table that `sample()` runs, one row per slope:

        x[i+1] = x[i] + sum over j <= i of gains[i, j] * (x[j] - denoise(x[j], query_sigmas[j]))

    Every solver whose coefficients do not depend on x is such a table. A leading batch axis gives each sample its own
    row of numbers. Tables are float64 on the CPU whatever the device of the latent, and may carry gradients.

    Raises ValueError where shapes disagree, a value is not finite, a query sigma is not positive, or a gain stands
    above the diagonal (it would need a residual that does not exist yet).
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
    """At least how many of the newest residuals a run holds, so that another table may go on from one of its states."""

    def __post_init__(self) -> None:
        for name in ("sigmas", "query_sigmas", "gains"):
            value = torch.as_tensor(getattr(self, name), dtype=torch.float64, device="cpu")
            object.__setattr__(self, name, value)
        self._check()

    @property
    def rows(self) -> int:
        """Number of slopes, with the analytic one."""
        return self.query_sigmas.shape[-1]

    @property
    def network_calls(self) -> int:
        """Number of function evaluations (NFE) of one sample."""
        return self.rows - int(self.analytic_first_step)

    @property
    def batch(self) -> int | None:
        """Size of the leading axis, None for a table that all samples share."""
        return self.query_sigmas.shape[0] if self.query_sigmas.ndim == 2 else None

    @cached_property
    def history(self) -> int:
        """How many of the newest residuals a run holds: what the non-zero gains use, or all where the gains carry
        gradients, since a zero may then be a parameter, and `keep` at least."""
        used = torch.ones_like(self.gains) if self.gains.requires_grad else self.gains
        rows, columns = used.tril().nonzero()[:, -2:].unbind(1)
        return max(self.keep, int((rows - columns).max()) + 1 if len(rows) else 1)

    def detach(self) -> "Plan":
        """The same numbers without gradients."""
        return replace(
            self,
            sigmas=self.sigmas.detach(),
            query_sigmas=self.query_sigmas.detach(),
            gains=self.gains.detach(),
        )

    def _check(self) -> None:
        rows, batch = self.query_sigmas.shape[-1] if self.query_sigmas.ndim else 0, self.query_sigmas.shape[:-1]
        if self.query_sigmas.ndim not in (1, 2) or rows == 0:
            raise ValueError(f"query_sigmas has shape {list(self.query_sigmas.shape)}: give [rows] or [batch, rows]")
        for name, shape in (("sigmas", (*batch, rows + 1)), ("gains", (*batch, rows, rows))):
            if getattr(self, name).shape != shape:
                found = list(getattr(self, name).shape)
                raise ValueError(f"{name} has shape {found}: {rows} query sigmas need {list(shape)}")
        for name in ("sigmas", "query_sigmas", "gains"):
            if not bool(torch.isfinite(getattr(self, name)).all()):
                raise ValueError(f"{name} has a value that is not finite: {getattr(self, name).tolist()}")
        if bool((self.query_sigmas <= 0).any()):
            raise ValueError(f"query_sigmas must be above 0, got {self.query_sigmas.tolist()}")
        if bool(torch.triu(self.gains, 1).any()):
            raise ValueError("gains has a value above the diagonal: row i may use the residuals 0 to i only")
