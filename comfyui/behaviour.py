"""How a network of ComfyUI's behaves, whatever it is asked for: its answers to fixed noise and an empty text."""

import importlib
import uuid
from typing import Any

import torch
from torch import Tensor

LEVELS = (0.9, 0.5, 0.1)
"""Noise of the whole, as a flow has it; other models are asked at the same ratio of noise to signal."""
_PATCHES = ("patches", "patches_replace")
SIDE, TOKENS = 32, 16
"""At most: so that the size of the picture and the length of the prompt do not matter."""


def answers(guider: Any, model_options: dict[str, Any], x: Tensor) -> list[Tensor] | None:
    """The noise that the network sees in the input, at each of LEVELS; None where it can't be asked without a prompt.

    guider: ComfyUI's, inside its sampling, with the model loaded. x: [B, ...] what is sampled, for the shape alone.
    """
    model, sampling = guider.inner_model, guider.inner_model.model_sampling
    samplers = importlib.import_module("comfy.samplers")
    shape = _small(tuple(x.shape[1:]), guider)
    noise = torch.randn(1, *shape, generator=torch.Generator().manual_seed(len(shape))).to(x.device)
    largest, smallest = float(sampling.sigma_max), float(sampling.sigma_min)
    told, found = _empty_text(guider), []
    # no wrappers: caches among them would remember these calls
    options = {
        "transformer_options": {
            **_patches(model_options),
            "sample_sigmas": torch.tensor([largest, 0.0], device=x.device),
        }
    }
    with torch.inference_mode():
        try:
            conds = samplers.process_conds(model, noise, {"positive": told}, x.device, None, None, 0)["positive"]
            for level in LEVELS:
                wanted = level if largest <= 1 else level / (1 - level)
                sigma = torch.tensor([min(max(wanted, smallest), largest)], device=x.device)
                at = sampling.noise_scaling(sigma, noise, torch.zeros_like(noise))
                (clean,) = samplers.calc_cond_batch(model, [conds], at, sigma, options)
                found.append((at - clean) / sigma)
        except Exception as error:
            if type(error).__name__ == "InterruptProcessingException":
                raise
            return None  # whatever a network raises that needs more than a text
    return found if all(bool(torch.isfinite(answer).all()) for answer in found) else None


def patches(model_options: dict[str, Any]) -> list[Any]:
    """What patches the network's attention and blocks: the objects."""
    found, waiting = list[Any](), [_patches(model_options)]
    while waiting:
        for value in waiting.pop().values():
            parts = value if isinstance(value, list) else [value]
            waiting += [part for part in parts if isinstance(part, dict)]
            found += [part for part in parts if not isinstance(part, dict)]
    return found


def acts_on_predictions(patcher: Any, model_options: dict[str, Any]) -> bool:
    """Whether a model carries more than its network and patches of it, as what RescaleCFG or a wrapper does.

    patcher: ComfyUI's MODEL. model_options: those of a guider around it.
    """
    waiting: list[Any] = [getattr(patcher, "wrappers", {})]
    for name, part in model_options.items():
        within = name == "transformer_options" and isinstance(part, dict)
        waiting.append({key: one for key, one in part.items() if key not in _PATCHES} if within else part)
    while waiting:
        value = waiting.pop()
        if callable(value):
            return True
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return False


def _patches(model_options: dict[str, Any]) -> dict[str, Any]:
    options = model_options.get("transformer_options", {})
    return {name: part for name, part in options.items() if name in _PATCHES}


def _small(shape: tuple[int, ...], guider: Any) -> tuple[int, ...]:
    """[channels, (frames,) height, width] of a small picture; a sound, or several streams in one, stay as they are."""
    if len(shape) < 3 or len(shape) > 4:
        return shape
    frames = (1,) if len(shape) == 4 else ()
    return (shape[0], *frames, *(min(side, SIDE) for side in shape[-2:]))


def _empty_text(guider: Any) -> list[dict[str, Any]]:
    """As ComfyUI's guiders hold it: zeros as wide as the text of the prompt at hand."""
    first = guider.conds["positive"][0]
    cross, pooled = first.get("cross_attn"), first.get("pooled_output")
    told: dict[str, Any] = {"model_conds": {}, "uuid": uuid.uuid4()}
    if cross is not None:
        told["cross_attn"] = cross.new_zeros(1, TOKENS, *cross.shape[2:])
    if pooled is not None:
        told["pooled_output"] = torch.zeros_like(pooled[:1])
    return [told]
