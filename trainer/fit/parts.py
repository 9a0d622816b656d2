"""Parts of a block of pairs, for processes that share one network call."""

from typing import Any

import torch

from ..pairs.targets import Block, Draw
from ..run.network import Network

SAME = 0.02
"""Relative difference that the rounding of a network may make between whole batches and parts."""


def part(block: Block, rows: slice) -> Block:
    """Some pairs of a block; what in the condition is as long as the block is cut along its first axis."""
    pairs = len(block.noise)
    if rows == slice(0, pairs):
        return block
    return Block(block.first + rows.start, block.noise[rows], _cut(block.cond, rows, pairs), block.target[rows])


def can_be_split(network: Network, drawn: Draw) -> bool:
    """Whether the network answers the parts of a block as it answers the whole: only a call shows what a condition is.

    Costs two network calls of the block.
    """
    pairs = len(drawn.noise)
    if pairs == 1:
        return False
    sigma = network.checkpoint.schedule(2)[:2].to(drawn.noise).mean().expand(pairs)
    x = drawn.noise * (sigma[0] / network.checkpoint.schedule(2)[0].to(drawn.noise))
    halves = (slice(0, pairs // 2), slice(pairs // 2, pairs))
    with torch.inference_mode():
        whole = network.bound(drawn.cond, drawn.first)(x, sigma)
        try:
            parts = [network.bound(_cut(drawn.cond, h, pairs), drawn.first + h.start)(x[h], sigma[h]) for h in halves]
        except Exception:  # whatever a user's network raises at a condition it does not know
            return False
    return float((torch.cat(parts) - whole).norm()) <= SAME * float(whole.norm())


def _cut(cond: Any, rows: slice, pairs: int) -> Any:
    if isinstance(cond, torch.Tensor):
        return cond[rows] if cond.ndim and len(cond) == pairs else cond
    if isinstance(cond, dict):
        return {name: _cut(value, rows, pairs) for name, value in cond.items()}
    if isinstance(cond, (list, tuple)):
        return type(cond)(_cut(value, rows, pairs) for value in cond)
    return cond
