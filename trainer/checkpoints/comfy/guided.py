"""One network inside ComfyUI's guider, as its samplers ask it."""

import importlib
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from .gradients import differentiable
from .latents import Latent

Texts = dict[str, list[Any]]
"""CONDITIONING by the guider's name for it: "positive" of the prompts of a batch, "negative"."""
Inside = Callable[[Any, dict[str, Any]], Any]
"""(denoise(x, sigma, **extra), extra arguments) -> result: what runs inside ComfyUI's sampling."""


class Guided:
    """A loaded model with one of ComfyUI's guiders around it."""

    def __init__(self, guider: Any, latent: Latent) -> None:
        self._guider, self._latent = guider, latent

    @classmethod
    def by_cfg(cls, patcher: Any, latent: Latent, cfg: float) -> "Guided":
        """With classifier-free guidance. patcher: ComfyUI's MODEL."""
        guider = importlib.import_module("comfy.samplers").CFGGuider(patcher)
        guider.set_cfg(cfg)
        return cls(guider, latent)

    @property
    def patcher(self) -> Any:
        """ComfyUI's MODEL."""
        return self._guider.model_patcher

    def inside(self, texts: Texts, x: Tensor, run: Inside, sigmas: Tensor | None = None) -> Any:
        """Run something with the guider as ComfyUI sets it up: model loaded, conditions prepared, hooks in place."""
        self._guider.inner_set_conds(texts)
        call = _Call(run)
        zeros = self._latent.empty(len(x))
        seen = torch.tensor([1.0, 0.0]) if sigmas is None else sigmas
        with differentiable() if torch.is_grad_enabled() else nullcontext():
            self._guider.sample(zeros, zeros, call, seen, disable_pbar=True, seed=0)
        assert call.result is not None
        found = call.result
        return tuple(one.to(x.device) for one in found) if isinstance(found, tuple) else found.to(x.device)


class _Call:
    """A sampler for ComfyUI's guider that runs a function instead of sampling."""

    def __init__(self, run: Inside) -> None:
        self._run = run
        self.result: Any = None

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        samplers = importlib.import_module("comfy.samplers")
        extra_args["denoise_mask"] = None
        self.result = self._run(samplers.KSamplerX0Inpaint(model_wrap, sigmas), extra_args)
        return noise
