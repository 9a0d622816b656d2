"""Restores a latent outside its mask after a run with learned weights."""

from typing import Any

import torch
from torch import Tensor

from ..dyweight import Plan
from ..dyweight import sample as run_plan
from . import messages, notes
from .wrapped import Hidden

SAME_END = 1.01
"""A last sigma up to this many times the model's smallest is the end: the unmasked part has no noise left there."""


def restore_unmasked(
    end: Tensor, start: Tensor, plan: Plan, hidden: Hidden, extra_args: dict[str, Any], sigmas: Tensor
) -> Tensor:
    """The endpoint with the unmasked part as given: learned weights, unlike Euler's, do not end on it by themselves.

    On its way to a known latent Euler goes straight; the endpoint moves by its unmasked share of what this plan misses.
    """
    mask, latent_image = extra_args.get("denoise_mask"), hidden.latent_image
    if mask is None:
        return end
    if latent_image is None:
        notes.warn(messages.MASK_HIDDEN)
        return end
    guider = hidden.guider
    changes_mask = extra_args.get("model_options", {}).get("denoise_mask_function")
    if changes_mask is not None:
        last = plan.sigmas[..., -2].to(start.dtype).to(start.device).expand(len(start))
        mask = changes_mask(last, mask, extra_options={"model": guider, "sigmas": sigmas})
    wanted = torch.lerp(latent_image, start, noise_left(guider, sigmas) / float(sigmas[0]))
    reached = run_plan(lambda x, sigma: latent_image, start, plan.without_guidance())
    return torch.where(mask == 0, wanted, end + (1.0 - mask) * (wanted - reached))


def noise_left(guider: Any, sigmas: Tensor) -> float:
    """The last sigma, 0 where it is the end of the model's own range: some schedules end there, and not at 0."""
    sigma_min = float(guider.inner_model.model_sampling.sigma_min)
    return float(sigmas[-1]) if float(sigmas[-1]) > SAME_END * sigma_min else 0.0
