"""Handcrafted solvers as plans. Each is its textbook loop on (denoise, x, sigmas); `trace` makes the table of it."""

from collections.abc import Callable
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor

from .adams import EQUAL_STEP_WEIGHTS, adams_bashforth
from .plan import Plan
from .sampling import Denoise
from .schedules import checked
from .suggest import did_you_mean
from .tracing import TextbookLoop, trace


def plan(name: str, sigmas: Tensor, order: int | None = None) -> Plan:
    """The plan of a handcrafted solver on a schedule.

    name: one of NAMES. sigmas: [steps + 1] or [batch, steps + 1], decreasing; the last may be 0.
    order: for ipndm and ipndm_v (1 to 4, by default 4) and unipc (1 to 3, by default 3); the others have one order.
    Raises ValueError for an unknown name, an order the solver has not, or sigmas that do not decrease.
    """
    order = checked_order(name, order)
    make, _, calls_per_step = _SOLVERS[name]
    sigmas = checked(sigmas, batched=True)
    last = sigmas[..., -1] == 0
    if bool(last.any()) and not bool(last.all()):
        raise ValueError("sigmas of one batch must all end at 0 or all above it")
    return trace(make(order), sigmas, rows=calls_per_step * (sigmas.shape[-1] - 1))


def checked_order(name: str, order: int | None = None) -> int:
    """The order of a handcrafted solver, by default its highest; ValueError for an unknown name or order."""
    if name not in _SOLVERS:
        raise ValueError(f"solver {name!r} is unknown: {did_you_mean(name, NAMES)}The solvers are {', '.join(NAMES)}")
    _, orders, _ = _SOLVERS[name]
    if order is not None and (type(order) is not int or order not in orders):
        allowed = f"{orders[0]} to {orders[-1]}" if len(orders) > 1 else f"{orders[0]} only"
        raise ValueError(f"order {order!r} is not one of {name}'s: give {allowed}")
    return order or orders[-1]


def _euler(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """Euler in sigma, which is DDIM (Song et al. 2021; Karras et al. 2022)."""
    for sigma, following in pairwise(sigmas):
        x = x + (following - sigma) * _slope(denoise, x, sigma)
    return x


def _heun(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """Karras et al. 2022, algorithm 1: two calls a step, Euler where the step ends at 0."""
    for sigma, following in pairwise(sigmas):
        slope = _slope(denoise, x, sigma)
        if not _is_zero(following):
            slope = (slope + _slope(denoise, x + (following - sigma) * slope, following)) / 2
        x = x + (following - sigma) * slope
    return x


def _dpm_solver_2(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """DPM-Solver-2 (Lu et al. 2022): midpoint in log sigma, two calls a step, Euler where the step ends at 0."""
    for sigma, following in pairwise(sigmas):
        slope = _slope(denoise, x, sigma)
        if not _is_zero(following):
            middle = (sigma * following) ** 0.5
            slope = _slope(denoise, x + (middle - sigma) * slope, middle)
        x = x + (following - sigma) * slope
    return x


def _ipndm(order: int, equal_steps: bool) -> TextbookLoop:
    """Adams-Bashforth on the slope, lower order while the history fills (Zhang & Chen 2023).

    equal_steps: the classic weights whatever the spacing (iPNDM), or the weights of the real spacing (DyWeight,
    Appendix A).
    """

    def loop(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
        slopes: list[Tensor] = []
        for i in range(len(sigmas) - 1):
            slopes = [_slope(denoise, x, sigmas[i]), *slopes][:order]
            times = torch.stack([sigmas[i - k] for k in range(len(slopes))])
            if equal_steps:
                weights: Tensor | tuple[float, ...] = EQUAL_STEP_WEIGHTS[len(slopes)]
            else:
                weights = adams_bashforth(times, sigmas[i + 1])
            mean = torch.stack([w * slope for w, slope in zip(weights, slopes, strict=True)]).sum(0)
            x = x + (sigmas[i + 1] - sigmas[i]) * mean
        return x

    return loop


def _dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2), x as data prediction over log-SNR."""
    previous, earlier = None, sigmas[0]
    for sigma, following in pairwise(sigmas):
        denoised = denoise(x, sigma)
        if _is_zero(following):
            return denoised
        step = torch.log(sigma / following)
        mean = denoised
        if previous is not None:
            mean = denoised + (denoised - previous) / (2 * torch.log(earlier / sigma) / step)
        x = following / sigma * x - torch.expm1(-step) * mean
        previous, earlier = denoised, sigma
    return x


def _dpmpp_3m(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """DPM-Solver++(3M) as its authors' code has it (k-diffusion's takes another second step).

    Its second difference is half a second derivative, so the measured order is 2, with a smaller error than 2M.
    """
    history: list[tuple[Tensor, Tensor]] = []
    for sigma, following in pairwise(sigmas):
        denoised = denoise(x, sigma)
        if _is_zero(following):
            return denoised
        step = torch.log(sigma / following)
        phi_1 = torch.expm1(-step)
        phi_2 = phi_1 / step + 1
        x = following / sigma * x - phi_1 * denoised
        if history:
            ratio = torch.log(history[0][1] / sigma) / step
            first = (denoised - history[0][0]) / ratio
            if len(history) == 1:
                x = x - phi_1 * first / 2
            else:
                older_ratio = torch.log(history[1][1] / history[0][1]) / step
                older = (history[0][0] - history[1][0]) / older_ratio
                second = (first - older) / (ratio + older_ratio)
                x = x + phi_2 * (first + ratio * second) - (phi_2 / step - 0.5) * second
        history = [(denoised, sigma), *history][:2]
    return x


def _unipc(order: int) -> TextbookLoop:
    """UniPC-p (Zhao et al. 2023) in data prediction with B(h) = exp(h) - 1 ("bh2"), one network call a step.

    A multistep predictor, and a corrector that reuses the next step's call. The first steps and a step that ends at
    sigma 0 are of lower order; the last state is predicted, not corrected.
    """

    def loop(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        corrected = predicted = x
        for i in range(len(sigmas) - 1):
            now = denoise(predicted, sigmas[i])
            if i > 0:
                used = min(order, i)
                corrected = _unipc_step(corrected, outputs, sigmas, i - 1, used, now)
            outputs = [now, *outputs][:order]
            used = 1 if _is_zero(sigmas[i + 1]) else min(order, i + 1)
            predicted = _unipc_step(corrected, outputs, sigmas, i, used, None)
        return predicted

    return loop


def _unipc_step(x: Tensor, outputs: list[Tensor], sigmas: Tensor, i: int, order: int, arrived: Tensor | None) -> Tensor:
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
    weights = _unipc_weights(torch.stack(positions), step)
    correction = torch.stack([w * d for w, d in zip(weights, differences, strict=True)]).sum(0)
    return ratio * x + (1 - ratio) * (outputs[0] + correction)


def _unipc_weights(positions: Tensor, step: Tensor) -> Tensor:
    """rho [points, *batch] with sum over m of positions[m]^(k-1) rho[m] = b[k], k = 1 .. points."""
    targets, phi, factorial = [], torch.expm1(-step) / -step - 1, 1
    for k in range(1, len(positions) + 1):
        factorial *= k
        targets.append(phi * factorial / torch.expm1(-step))
        phi = phi / -step - 1 / (factorial * (k + 1))
    if len(positions) == 1:
        return torch.full_like(step, 0.5).unsqueeze(0)
    powers = rearrange([positions**k for k in range(len(positions))], "k m ... -> ... k m")
    solved: Tensor = torch.linalg.solve(powers, rearrange(targets, "k ... -> ... k 1"))
    return rearrange(solved, "... m 1 -> m ...")


def _slope(denoise: Denoise, x: Tensor, sigma: Tensor) -> Tensor:
    return (x - denoise(x, sigma)) / sigma


def _is_zero(sigma: Tensor) -> bool:
    return bool((sigma == 0).all())


_SOLVERS: dict[str, tuple[Callable[[int], TextbookLoop], tuple[int, ...], int]] = {
    "euler": (lambda order: _euler, (1,), 1),
    "heun": (lambda order: _heun, (2,), 2),
    "dpm_solver_2": (lambda order: _dpm_solver_2, (2,), 2),
    "ipndm": (lambda order: _ipndm(order, equal_steps=True), (1, 2, 3, 4), 1),
    "ipndm_v": (lambda order: _ipndm(order, equal_steps=False), (1, 2, 3, 4), 1),
    "dpmpp_2m": (lambda order: _dpmpp_2m, (2,), 1),
    "dpmpp_3m": (lambda order: _dpmpp_3m, (3,), 1),
    "unipc": (_unipc, (1, 2, 3), 1),
}
"""name -> (order -> textbook loop, orders it has with the default last, most network calls a step)"""

NAMES = tuple(_SOLVERS)
