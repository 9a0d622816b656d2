"""UniPC (Zhao et al. 2023): a multistep predictor, and a corrector that reuses the next step's network call."""

from collections.abc import Callable

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]


def unipc(order: int) -> Callable[[Denoise, Tensor, Tensor], Tensor]:
    """UniPC-p in data prediction with B(h) = exp(h) - 1 ("bh2"), one network call a step.

    The first steps and a step that ends at sigma 0 are of lower order; the last state is predicted, not corrected.
    """

    def loop(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        corrected = predicted = x
        for i in range(len(sigmas) - 1):
            now = denoise(predicted, sigmas[i])
            if i > 0:
                used = min(order, i)
                corrected = _update(corrected, outputs, sigmas, i - 1, used, now)
            outputs = [now, *outputs][:order]
            used = 1 if bool((sigmas[i + 1] == 0).all()) else min(order, i + 1)
            predicted = _update(corrected, outputs, sigmas, i, used, None)
        return predicted

    return loop


def _update(x: Tensor, outputs: list[Tensor], sigmas: Tensor, i: int, order: int, arrived: Tensor | None) -> Tensor:
    """The step from sigmas[i] to sigmas[i + 1]: predictor, or corrector where `arrived`, the output there, is known.

    outputs: denoised at sigmas[i], sigmas[i - 1], ... (equations 3 and 9 with their systems R rho = b).
    """
    following = sigmas[i + 1]
    ratio = following / sigmas[i]
    if order == 1 and arrived is None:
        return ratio * x + (1 - ratio) * outputs[0]
    step = torch.log(sigmas[i] / following)
    positions = [torch.log(sigmas[i] / sigmas[i - k]) / step for k in range(1, order)]
    differences = [(outputs[k] - outputs[0]) / positions[k - 1] for k in range(1, order)]
    if arrived is not None:
        positions.append(torch.ones_like(step))
        differences.append(arrived - outputs[0])
    weights = _weights(torch.stack(positions), step)
    correction = torch.stack([w * d for w, d in zip(weights, differences, strict=True)]).sum(0)
    return ratio * x + (1 - ratio) * (outputs[0] + correction)


def _weights(positions: Tensor, step: Tensor) -> Tensor:
    """rho [points, *batch] with sum over m of positions[m]^(k-1) rho[m] = b[k], k = 1 .. points."""
    targets, phi, factorial = [], torch.expm1(-step) / -step - 1, 1
    for k in range(1, len(positions) + 1):
        factorial *= k
        targets.append(phi * factorial / torch.expm1(-step))
        phi = phi / -step - 1 / (factorial * (k + 1))
    if len(positions) == 1:
        return torch.full_like(step, 0.5).unsqueeze(0)
    powers = torch.stack([positions**k for k in range(len(positions))])
    solved: Tensor = torch.linalg.solve(
        powers.movedim((0, 1), (-2, -1)), torch.stack(targets).movedim(0, -1).unsqueeze(-1)
    )
    return solved.squeeze(-1).movedim(-1, 0)
