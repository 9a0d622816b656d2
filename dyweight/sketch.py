"""What a model is, told by how its network behaves: a few fixed projections of its answers to fixed noise.

Two models are compared within a tolerance, so rounding and another machine do not count, and LoRAs, merges and
finetunes do.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

NUMBERS = 16
"""Of each answer."""
SAME = 0.02
"""Largest distance at which a fit for one is a fit for the other: rounding to 16 bits is nearer, to 8 bits farther."""
OTHER = 0.3
"""Smallest distance of what is called another model: rounding to 4 bits is nearer."""


def sketch(answers: Sequence[Tensor]) -> list[float]:
    """Answers of a network, of any shape -> NUMBERS projections of each, five significant digits.

    Random signs (Johnson and Lindenstrauss 1984), seeded by the number of elements; the root mean square of the
    projections is about that of the answer.
    """
    return [float(f"{value:.5g}") for answer in answers for value in _projected(answer).tolist()]


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Relative to the longer of the two; infinite where they can't be compared."""
    if len(one) != len(other) or not one:
        return math.inf
    first, second = (torch.tensor(list(values), dtype=torch.float64) for values in (one, other))
    length = max(float(first.norm()), float(second.norm()))
    apart = float((first - second).norm())
    return apart / length if length > 0 and math.isfinite(apart) else math.inf


def nearest(several: Sequence[float], one: Sequence[float]) -> float:
    """The smallest distance of a network to one of those of a sketch, which holds two for a model of two experts."""
    length = len(one)
    if not length or len(several) % length:
        return math.inf
    return min((distance(several[i : i + length], one) for i in range(0, len(several), length)), default=math.inf)


def _projected(answer: Tensor) -> Tensor:
    flat = answer.detach().flatten().to("cpu", torch.float64)
    generator = torch.Generator().manual_seed(len(flat))
    signs = torch.randint(2, (NUMBERS, len(flat)), generator=generator, dtype=torch.int8) * 2 - 1
    return (signs.double() @ flat) / math.sqrt(len(flat))
