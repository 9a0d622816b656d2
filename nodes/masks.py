"""Inpainting when the network is asked at another noise level than the state has."""

import copy
from typing import Any

import torch
from torch import Tensor

from ..dyweight import Plan
from ..dyweight import sample as run_plan

SAME_END = 1.01
"""A last sigma of at most so many times the model's smallest is the end: the unmasked part has no noise left there."""


class Denoiser:
    """denoise(x [B, ...], sigma [B]) for `dyweight.sample`, with the unmasked part at the state's noise level.

    ComfyUI re-noises the unmasked part at the sigma a sampler asks at. With time scaling that is not the level of the
    rest of the latent, and a seam would show.
    """

    def __init__(self, model: Any, extra_args: dict[str, Any], plan: Plan) -> None:
        self._model, self._extra_args = model, extra_args
        states = plan.sigmas[..., :-1]
        self._state_sigmas = iter(states[..., int(plan.analytic_first_step) :].unbind(-1))
        self.last_state_sigma: Tensor | None = None
        """[B] of the latest call."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        state_sigma = next(self._state_sigmas).to(sigma.dtype).to(sigma.device).expand_as(sigma)
        self.last_state_sigma = state_sigma
        if self._extra_args.get("denoise_mask") is None or not hasattr(self._model, "latent_image"):
            return self._model(x, sigma, **self._extra_args)
        masked = copy.copy(self._model)
        masked.inner_model = _AskedAt(self._model.inner_model, sigma)
        return masked(x, state_sigma, **self._extra_args)


class _AskedAt:
    """A guider whose network is asked at one noise level, whatever sigma the mask code hands it."""

    def __init__(self, guider: Any, sigma: Tensor) -> None:
        self._guider, self._sigma = guider, sigma

    def __call__(self, x: Tensor, sigma: Tensor, *args: Any, **options: Any) -> Tensor:
        return self._guider(x, self._sigma, *args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guider, name)


def restore_unmasked(
    end: Tensor,
    start: Tensor,
    plan: Plan,
    model: Any,
    extra_args: dict[str, Any],
    sigmas: Tensor,
    last_state_sigma: Tensor | None,
) -> Tensor:
    """The endpoint with the unmasked part as it came: learned weights, unlike Euler's, do not end on it by themselves.

    On its way to a known latent Euler goes straight; the endpoint moves by its unmasked share of what this plan misses.
    """
    mask, latent_image = extra_args.get("denoise_mask"), getattr(model, "latent_image", None)
    if mask is None or latent_image is None:
        return end
    changes_mask = extra_args.get("model_options", {}).get("denoise_mask_function")
    if changes_mask is not None and last_state_sigma is not None:
        mask = changes_mask(last_state_sigma, mask, extra_options={"model": model.inner_model, "sigmas": model.sigmas})
    sigma_min = float(model.inner_model.inner_model.model_sampling.sigma_min)
    end_sigma = float(sigmas[-1]) if float(sigmas[-1]) > SAME_END * sigma_min else 0.0
    wanted = torch.lerp(latent_image, start, end_sigma / float(sigmas[0]))
    reached = run_plan(lambda x, sigma: latent_image, start, plan)
    return torch.where(mask == 0, wanted, end + (1.0 - mask) * (wanted - reached))
