"""Turns a solver's textbook loop into its plan, by running the loop on symbols.

A symbol is a latent written as x[0] + sum over j of c[j] * (x[j] - denoised[j]), kept as its coefficients
[1 + rows, *batch]. Arithmetic on it is arithmetic on plain tensors, so a textbook loop runs on it unchanged, for a
batch of schedules at once and with gradients to the sigmas.
"""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor

from .plan import Plan
from .sampling import Denoise

TextbookLoop = Callable[[Denoise, Tensor, Tensor], Tensor]
"""(denoise(x, sigma), x, sigmas [steps + 1, *batch]) -> endpoint; sigmas has the steps first."""


def trace(loop: TextbookLoop, sigmas: Tensor, rows: int) -> Plan:
    """The plan of a textbook loop.

    sigmas: [*batch, steps + 1]. rows: the most network calls the loop can make. The loop must leave a perfect denoiser
    (denoise(x) = x) where it is; all solvers of this field do, and a plan can hold no other.
    """
    steps_first = rearrange(sigmas, "... n -> n ...")
    asked: list[tuple[Tensor, Tensor]] = []
    unit = torch.eye(1 + rows, dtype=torch.float64).reshape(1 + rows, 1 + rows, *[1] * (sigmas.ndim - 1))

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        asked.append((x, sigma))
        return x - unit[len(asked)]

    end = loop(denoise, unit[0].expand(1 + rows, *steps_first.shape[1:]), steps_first)
    states = torch.stack([*(x for x, _ in asked), end])
    made = len(asked)
    gains = (states[1:] - states[:-1])[:, 1 : 1 + made]
    query_sigmas = torch.stack([sigma for _, sigma in asked])
    return Plan(
        sigmas=rearrange([*query_sigmas, steps_first[-1]], "n ... -> ... n"),
        query_sigmas=rearrange(query_sigmas, "n ... -> ... n"),
        gains=torch.tril(rearrange(gains, "i j ... -> ... i j")),
    )
