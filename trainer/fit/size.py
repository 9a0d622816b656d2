"""What a fit holds in main memory: a law that tests hold it to, and docs/fitting.md states."""

from .probing import DIRECTIONS
from .sketch import SIZE

FLOAT, HALF = 4, 2
"""Bytes of a number, float32, and of one in the directions of maps where they are sketches."""


def kept_bytes(network_calls: int, pairs: int, rows: int, elements: int, guided: bool = False) -> int:
    """At most, of the maps and rollouts of all pairs, elements of a latent each.

    A network call adds two sketches at most, whatever the latent: the direction in which it moved the network's input,
    and what the answer did. States, answers and what sigma does are three a row; learned guidance adds two.
    """
    around = pairs * ((5 if guided else 3) * rows + 2)
    held = FLOAT if elements <= SIZE else HALF
    return min(elements, SIZE) * (FLOAT * around + held * 2 * network_calls)


def endpoint_bytes(pairs: int, elements: int) -> int:
    """Of the teacher's endpoints of all pairs, which are whole, where no cache keeps them."""
    return FLOAT * elements * pairs


def probing_bytes(pairs: int, rows: int, numbers: int, history: int, elements: int, guided: bool = False) -> int:
    """At most, while one batch of pairs is probed with whole latents.

    pairs: of the batch. numbers: of the solver; of one pair at a time each of them moves the state, and as many
    residuals as `history`.
    """
    maps = (2 if guided else 1) * rows * (2 * DIRECTIONS + 1)
    tangents = (history + 5 + (rows if guided else 0)) * numbers
    return FLOAT * elements * (tangents + pairs * (maps + (5 if guided else 3) * rows + DIRECTIONS + 8))
