"""Checks that the solver families share: choices, and the settings that a file brings."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

MAXIMUM_STEPS = 1000
"""Of a solver: a table has steps^2 numbers, and a small file must not ask for them."""


def check_same_steps(sigmas: Tensor, steps: int) -> None:
    """ValueError where a schedule has another number of steps than the solver."""
    if len(sigmas) != steps + 1:
        raise ValueError(
            f"sigmas has {len(sigmas) - 1} steps, this solver is for {steps}: "
            f"give {steps + 1} sigmas, or take a solver that was made for {len(sigmas) - 1} steps"
        )


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """ValueError for a value that is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}: give one of {', '.join(choices)}")


def check_settings(settings: dict[str, Any], kinds: Mapping[str, type], most_steps: int) -> None:
    """ValueError unless the settings are just these, of these types, with a schedule of sound length."""
    for name, kind in kinds.items():
        if name not in settings:
            raise ValueError(f"setting {name!r} is missing")
        if type(settings[name]) is not kind:
            raise ValueError(f"setting {name!r} must be {kind.__name__}, it is {type(settings[name]).__name__}")
    unknown = sorted(set(settings) - set(kinds))
    if unknown:
        raise ValueError(f"setting {unknown[0]!r} is unknown")
    sigmas = settings["sigmas"]
    if not 2 <= len(sigmas) <= most_steps + 1:
        raise ValueError(f"setting 'sigmas' has {len(sigmas)} values, allowed are 2 to {most_steps + 1}")
    if any(type(sigma) not in (int, float) or abs(sigma) > 1e300 for sigma in sigmas):
        raise ValueError("setting 'sigmas' has a value that is not a float64 number")


def check_sizes(settings: dict[str, Any], names: Iterable[str], largest: int) -> None:
    """ValueError for a whole number, or a list of them, that is not between 0 and the largest."""
    for name in names:
        values = settings[name] if isinstance(settings[name], list) else [settings[name]]
        if not all(type(value) is int and 0 <= value <= largest for value in values):
            raise ValueError(f"setting {name!r} is {settings[name]!r}: whole numbers of 0 to {largest}")
