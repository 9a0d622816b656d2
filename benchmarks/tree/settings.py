"""The dependence of the oracle's gain on the tree and on the range of sigma, one change at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .data import Tree
from .schedules import STEPS, errors
from .study import Case

CHANGES: dict[str, tuple[float, ...]] = {
    "sigma_max": (1.0, 1.5, 3.0, 5.0, 10.0, 80.0),
    "growth": (1.0, 2.0, 4.0),
    "generations": (3, 4, 6),
    "ratio": (0.3, 0.4, 0.6, 0.7),
    "angle": (30.0, 60.0, 90.0),
    "trunks": (1, 2, 4),
    "width": (0.15, 0.6, 1.0),
}
SAMPLES, LEVELS = 1024, 12


@dataclass(frozen=True)
class Setting:
    """The errors of three Euler steps on one tree."""

    changed: str
    """The difference from the default tree."""
    deviation: float
    """Standard deviation of the tree per coordinate."""
    uniform: float
    shared: float
    oracle: float
    """Mean squared errors."""
    gain: float
    """The relative reduction of the error by the oracle compared with the best shared schedule."""


def settings(seed: int) -> Iterator[Setting]:
    """The default tree, then every change."""
    yield measure("none", {}, seed)
    for name, values in CHANGES.items():
        for value in values:
            yield measure(f"{name} {value:g}", {name: value}, seed)


def measure(changed: str, options: dict[str, Any], seed: int) -> Setting:
    """The errors on the tree with these options."""
    case = Case(Tree(**options), seed, SAMPLES)
    best = case.best_of_three(LEVELS)
    uniform = float(errors(case.network, case.unseen, case.uniform(STEPS)).mean())
    oracle = float(best.own_errors.mean())
    return Setting(changed, case.tree.deviation, uniform, best.shared_error, oracle, best.gain)
