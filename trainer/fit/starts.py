"""Where a fit begins."""

import copy

import torch

from dyweight import DyWeight, Solver

LOWER_TIME_SCALE = 0.9
"""Asking the network a little below the noise level of the state opens a valley of its own, often the deeper one."""
ORDER = 2
"""Of Adams-Bashforth; of order 3 the fit begins farther from where it ends."""


def start_of(solver: Solver) -> Solver:
    """A new solver of this kind where gauss-newton begins: a low order, asked below the noise level of the states."""
    start = copy.deepcopy(solver).requires_grad_(False)
    if isinstance(start, DyWeight) and start.order > ORDER:
        start.weights.zero_()
        start.weights[:, :ORDER] = DyWeight(start.sigmas, ORDER).weights
        start.tie_guidance()
    with torch.no_grad():
        start.lower_time(LOWER_TIME_SCALE)
    return start
