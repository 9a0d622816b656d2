"""Checks that the solver families share: choices, and the settings of a file."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

MAXIMUM_STEPS = 1000
"""Most steps of a solver: a table has steps^2 numbers, and a small file must not ask for too many."""


def check_same_steps(sigmas: Tensor, steps: int) -> None:
    """ValueError where a schedule has another number of steps than the solver."""
    if len(sigmas) != steps + 1:
        raise ValueError(
            f"sigmas has {len(sigmas) - 1} steps, this solver is for {steps}: "
            f"give {steps + 1} sigmas, or take a solver that was made for {len(sigmas) - 1} steps"
        )


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """ValueError for a value that is not one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}: give one of {', '.join(choices)}")


def check_settings(
    settings: dict[str, Any], kinds: Mapping[str, type], most_steps: int, optional: Mapping[str, type] | None = None
) -> None:
    """ValueError unless the settings are exactly these, of these types, with a schedule of valid length; `optional`
    ones may be missing."""
    given = {name: kind for name, kind in (optional or {}).items() if name in settings}
    kinds = {**kinds, **given}
    for name, kind in kinds.items():
        if name not in settings:
            raise ValueError(f"setting {name!r} is missing")
        if type(settings[name]) is not kind:
            raise ValueError(f"setting {name!r} must be {kind.__name__}, not {type(settings[name]).__name__}")
    unknown = sorted(set(settings) - set(kinds))
    if unknown:
        raise ValueError(f"setting {unknown[0]!r} is unknown")
    sigmas = settings["sigmas"]
    if not 2 <= len(sigmas) <= most_steps + 1:
        raise ValueError(f"setting 'sigmas' has {len(sigmas)} values: give 2 to {most_steps + 1}")
    if any(type(sigma) not in (int, float) or abs(sigma) > 1e300 for sigma in sigmas):
        raise ValueError("setting 'sigmas' has a value that is not a float64 number")


def check_sizes(settings: dict[str, Any], names: Iterable[str], largest: int) -> None:
    """ValueError for a whole number, or a list of them, that is not between 0 and the largest."""
    for name in names:
        values = settings[name] if isinstance(settings[name], list) else [settings[name]]
        if not all(type(value) is int and 0 <= value <= largest for value in values):
            raise ValueError(f"setting {name!r} is {settings[name]!r}: give whole numbers from 0 to {largest}")


def check_learned_guidance(value: Mapping[str, Any], rows: range) -> None:
    """ValueError unless it is {"cfg": a scale other than 1, "guided": some of these rows, in order}."""
    if set(value) != {"cfg", "guided"}:
        raise ValueError(f"learned_guidance has {sorted(value)}: give 'cfg' and 'guided'")
    cfg, guided = value["cfg"], value["guided"]
    if type(cfg) not in (int, float) or not math.isfinite(cfg) or cfg == 1:
        raise ValueError(f"learned_guidance: cfg is {cfg!r}: give a scale other than 1")
    known = isinstance(guided, list) and all(type(row) is int and row in rows for row in guided)
    if not known or not guided or guided != sorted(set(guided)):
        raise ValueError(
            f"learned_guidance: guided is {guided!r}: give some of the rows {rows.start} to {rows.stop - 1} in order"
        )
