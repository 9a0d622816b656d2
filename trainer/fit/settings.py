"""What a gauss-newton fit is told."""

from dataclasses import dataclass

from .budget import Budget


@dataclass(frozen=True)
class GaussNewtonSettings:
    budget: Budget
    iterations: int | None
    """Trials at most, None for as many as the budget holds."""
    lowered: bool
    """Begin where `start_of` says, else with the solver as it is."""
    probe_step: float | None
    """None to find it from what the network answers."""
