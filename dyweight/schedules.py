"""Noise schedules: steps -> sigmas [steps + 1], float64 on the CPU, decreasing."""

import math

import torch
from torch import Tensor


def checked(sigmas: Tensor, batched: bool = False) -> Tensor:
    """Noise levels [steps + 1], or [batch, steps + 1] where `batched`, as float64 on the CPU.

    Raises ValueError for another shape, and unless they decrease and stay at 0 or above.
    """
    sigmas = torch.as_tensor(sigmas, dtype=torch.float64, device="cpu")
    if not 1 <= sigmas.ndim <= 1 + batched or sigmas.shape[-1] < 2:
        wanted = "[steps + 1] or [batch, steps + 1]" if batched else "[steps + 1]"
        raise ValueError(f"sigmas has shape {list(sigmas.shape)}: give {wanted} noise levels, one step or more")
    if not bool(torch.isfinite(sigmas).all() and (sigmas.diff() < 0).all() and (sigmas >= 0).all()):
        raise ValueError(f"{_advice(sigmas)}sigmas must decrease and stay at 0 or above, got {sigmas.tolist()}")
    return sigmas


def _advice(sigmas: Tensor) -> str:
    """For sigmas that do not decrease: what to do about the usual reasons."""
    steps = sigmas.diff()
    if bool((steps > 0).all()):
        return "reverse the sigmas, or take ComfyUI's euler to go from a picture to its noise: "
    return "leave out the sigma that stands twice: " if bool((steps == 0).any()) else ""


def polynomial(steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """Even in sigma^(1/rho), from sigma_max to sigma_min (Karras et al. 2022, equation 5). rho = 1: even in sigma."""
    _check_range(sigma_min, sigma_max)
    if not 0.01 <= rho <= 1000:
        raise ValueError(f"rho is {rho}: give a number from 0.01 to 1000 (EDM uses 7)")
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _exact_ends((high + _fractions(steps) * (low - high)) ** rho, sigma_max, sigma_min)


def log_snr(steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0) -> Tensor:
    """Even in the log of the signal-to-noise ratio, that is in log sigma (Lu et al. 2022, DPM-Solver)."""
    _check_range(sigma_min, sigma_max)
    low, high = math.log(sigma_min), math.log(sigma_max)
    return _exact_ends(torch.exp(high + _fractions(steps) * (low - high)), sigma_max, sigma_min)


def vp_uniform(steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, time_min: float = 1e-3) -> Tensor:
    """Even in the time of a variance-preserving process that runs from 1 to time_min.

    sigma(t) = sqrt(exp(beta_slope t^2 / 2 + beta_start t) - 1) (Karras et al. 2022, table 1), with the two betas
    solved so that the ends are sigma_max and sigma_min.
    """
    _check_range(sigma_min, sigma_max)
    if not 0 < time_min < 1:
        raise ValueError(f"time_min is {time_min}: give a time between 0 and 1")
    high, low = math.log1p(sigma_max**2), math.log1p(sigma_min**2)
    beta_slope = 2 * (low / time_min - high) / (time_min - 1)
    beta_start = high - beta_slope / 2
    time = 1 + _fractions(steps) * (time_min - 1)
    sigmas = torch.sqrt(torch.expm1(beta_slope * time**2 / 2 + beta_start * time))
    sigmas = _exact_ends(sigmas, sigma_max, sigma_min)
    if not bool((sigmas[1:] < sigmas[:-1]).all()):
        raise ValueError(
            f"no process with growing noise runs from sigma_max {sigma_max} to sigma_min {sigma_min} at time_min "
            f"{time_min}: give a smaller sigma_min or a larger time_min"
        )
    return sigmas


def vp_discrete(steps: int, beta_start: float = 0.00085, beta_end: float = 0.012, times: int = 1000) -> Tensor:
    """Even in the discrete time of a model with `times` scaled-linear betas; the defaults are those of SD 1.5 and SDXL.

    Between two of the model's times, log sigma is interpolated. Ends at the model's smallest sigma, 0.0292 for SD 1.5.
    """
    if not (0 < beta_start < beta_end < 1 and times >= 2):
        raise ValueError(f"betas from {beta_start} to {beta_end} over {times} times: need 0 < start < end < 1")
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, times, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0)
    log_sigmas = torch.log((1 - kept) / kept) / 2
    position = (1 - _fractions(steps)) * (times - 1)
    below = position.floor().long().clamp(max=times - 2)
    return torch.exp(torch.lerp(log_sigmas[below], log_sigmas[below + 1], position - below))


def flow(steps: int, shift: float = 1.0) -> Tensor:
    """Even in time from 1 to 0, then shifted: shift t / (1 + (shift - 1) t) (Esser et al. 2024, equation 23)."""
    if not (math.isfinite(shift) and shift > 0):
        raise ValueError(f"shift is {shift}: give a number above 0 (1 is no shift)")
    time = 1 - _fractions(steps)
    return shift * time / (1 + (shift - 1) * time)


def flux(steps: int, image_tokens: int = 1024) -> Tensor:
    """FLUX's schedule: a flow schedule whose shift exp(mu) grows with the number of image tokens.

    image_tokens: width / 16 * height / 16, so 1024 at 512 x 512. mu is linear in it: 0.5 at 256, 1.15 at 4096.
    """
    if image_tokens < 1:
        raise ValueError(f"image_tokens is {image_tokens}: give width / 16 * height / 16")
    mu = 0.5 + (1.15 - 0.5) * (image_tokens - 256) / (4096 - 256)
    return flow(steps, shift=math.exp(mu))


LARGEST_LOGIT = 4.0
"""Bound of the log of a step's length, so that no step vanishes."""


def stretched(base: Tensor, logits: Tensor) -> Tensor:
    """A schedule with its steps stretched and its ends kept: the cumulative softmax of LD3 (arXiv 2405.15506).

    base: [steps + 1]. logits: [*batch, steps], any numbers, softly bounded by LARGEST_LOGIT. Returns
    [*batch, steps + 1], decreasing, with gradients to the logits; the base schedule where they are 0.
    """
    bounded = LARGEST_LOGIT * torch.tanh(logits / LARGEST_LOGIT)
    fractions = torch.softmax((base[:-1] - base[1:]).log() + bounded, -1)
    left = fractions.flip(-1).cumsum(-1).flip(-1)[..., 1:]
    inner = base[-1] + (base[0] - base[-1]) * left
    ends = [end.expand(*inner.shape[:-1], 1) for end in (base[0], base[-1])]
    return torch.cat([ends[0], inner, ends[1]], -1)


def _fractions(steps: int) -> Tensor:
    """[steps + 1] even from 0 to 1."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps is {steps!r}: give a whole number of 1 or more")
    return torch.linspace(0, 1, steps + 1, dtype=torch.float64)


def _check_range(sigma_min: float, sigma_max: float) -> None:
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(f"sigma_min {sigma_min} and sigma_max {sigma_max}: need 0 < sigma_min < sigma_max")


def _exact_ends(sigmas: Tensor, first: float, last: float) -> Tensor:
    sigmas[0], sigmas[-1] = first, last
    return sigmas
