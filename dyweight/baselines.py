"""Handcrafted solvers as plans. Each is its textbook loop on (denoise, x, sigmas); `trace` makes the table of it."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from .adams import EQUAL_STEP_WEIGHTS, adams_bashforth
from .names import did_you_mean
from .plan import Plan
from .tracing import trace
from .unipc import unipc

Denoise = Callable[[Tensor, Tensor], Tensor]


def plan(name: str, sigmas: Tensor, order: int | None = None) -> Plan:
    """The plan of a handcrafted solver on a schedule.

    name: one of NAMES. sigmas: [steps + 1] or [batch, steps + 1], decreasing; the last may be 0.
    order: for ipndm and ipndm_v (1 to 4, by default 4) and unipc (1 to 3, by default 3); the others have one order.
    Raises ValueError for an unknown name, an order the solver has not, or sigmas that do not decrease.
    """
    if name not in _SOLVERS:
        raise ValueError(f"solver {name!r} is unknown: {did_you_mean(name, NAMES)}The solvers are {', '.join(NAMES)}")
    make, orders, calls_per_step = _SOLVERS[name]
    if order is not None and (type(order) is not int or order not in orders):
        allowed = f"{orders[0]} to {orders[-1]}" if len(orders) > 1 else f"{orders[0]} only"
        raise ValueError(f"order {order!r} is not one of {name}'s: give {allowed}")
    sigmas = _checked(sigmas)
    return trace(make(order or orders[-1]), sigmas, rows=calls_per_step * (sigmas.shape[-1] - 1))


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


def _ipndm(order: int, equal_steps: bool) -> Callable[[Denoise, Tensor, Tensor], Tensor]:
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
    """DPM-Solver++(3M), as its authors' code and k-diffusion have it.

    Their second difference is half a second derivative, so the measured order is 2, with a smaller error than 2M.
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


def _slope(denoise: Denoise, x: Tensor, sigma: Tensor) -> Tensor:
    return (x - denoise(x, sigma)) / sigma


def _is_zero(sigma: Tensor) -> bool:
    return bool((sigma == 0).all())


def _checked(sigmas: Tensor) -> Tensor:
    sigmas = torch.as_tensor(sigmas, dtype=torch.float64, device="cpu")
    if sigmas.ndim not in (1, 2) or sigmas.shape[-1] < 2:
        raise ValueError(f"sigmas has shape {list(sigmas.shape)}: give [steps + 1] or [batch, steps + 1]")
    if not bool(torch.isfinite(sigmas).all() and (sigmas[..., 1:] < sigmas[..., :-1]).all() and (sigmas >= 0).all()):
        raise ValueError(f"sigmas must decrease and stay at 0 or above, got {sigmas.tolist()}")
    last = sigmas[..., -1] == 0
    if bool(last.any()) and not bool(last.all()):
        raise ValueError("sigmas of one batch must all end at 0 or all above it")
    return sigmas


_SOLVERS: dict[str, tuple[Callable[[int], Callable[[Denoise, Tensor, Tensor], Tensor]], tuple[int, ...], int]] = {
    "euler": (lambda order: _euler, (1,), 1),
    "heun": (lambda order: _heun, (2,), 2),
    "dpm_solver_2": (lambda order: _dpm_solver_2, (2,), 2),
    "ipndm": (lambda order: _ipndm(order, equal_steps=True), (1, 2, 3, 4), 1),
    "ipndm_v": (lambda order: _ipndm(order, equal_steps=False), (1, 2, 3, 4), 1),
    "dpmpp_2m": (lambda order: _dpmpp_2m, (2,), 1),
    "dpmpp_3m": (lambda order: _dpmpp_3m, (3,), 1),
    "unipc": (unipc, (1, 2, 3), 1),
}
"""name -> (order -> textbook loop, orders it has with the default last, most network calls a step)"""

NAMES = tuple(_SOLVERS)
ORDERS = {name: orders for name, (_, orders, _) in _SOLVERS.items()}
"""name -> the orders it has, the default last"""
