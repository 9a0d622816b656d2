"""What a ComfyUI model says about itself."""

from typing import Any

_PREDICTIONS = {
    "EPS": "eps",
    "V_PREDICTION": "v",
    "V_PREDICTION_DDPM": "v-ddpm",
    "EDM": "edm",
    "X0": "x0",
    "IMG_TO_IMG": "image-to-image",
    "IMG_TO_IMG_FLOW": "image-to-image-flow",
    "CONST": "flow",
    "COSMOS_RFLOW": "cosmos-flow",
}
"""By the name of ComfyUI's class, so that a version without one of them needs no special case."""
_OF_8_PIXELS = ("SD15", "SDXL", "SDXL_Playground_2_5", "SD3", "Flux")
"""Formats of latents, for ComfyUI up to 0.8, which does not say how large a position is."""


def prediction_type(model_sampling: Any) -> str | None:
    """What the network predicts and how noise is mixed in, from ComfyUI's model-sampling classes; None for others."""
    kinds = (kind.__name__ for kind in type(model_sampling).__mro__)
    return next((_PREDICTIONS[kind] for kind in kinds if kind in _PREDICTIONS), None)


def noise_scale(model_sampling: Any) -> float:
    """The standard deviation of the noise of a flow model at sigma 1; 1 for nearly all models."""
    return float(getattr(model_sampling, "noise_scale", 1.0))


def family_of(model: Any) -> str | None:
    """ComfyUI's name for the architecture of a BaseModel, such as Flux, SD15, SDXL, WAN21_T2V."""
    config = getattr(model, "model_config", None)
    return None if config is None else type(config).__name__


def answers_for_interval(model: Any) -> str | None:
    """Why a BaseModel's network gives no velocity of an ODE: it is told the next noise level too; None where it does.

    Such a network answers for the whole step, so combining its answers over several steps is wrong in principle.
    """
    network = getattr(model, "diffusion_model", None)
    if getattr(network, "time_r_in", None) is not None:
        return "mean flow: it is told where the step ends"
    head = getattr(getattr(network, "final_layer", None), "video_out", None)
    weight, width = getattr(head, "weight", None), getattr(head, "out_features", None)
    if weight is not None and width and weight.shape[0] > width:  # ComfyUI 0.35 and newer
        return "PDD: it has an output layer for each part of the schedule"
    return None


def cfg_scale(guider: Any) -> float | None:
    """Of a GUIDER; None where it mixes more than two predictions or networks: no single number says what it does."""
    held = vars(guider) if hasattr(guider, "__dict__") else {}
    numbers = {name for name, value in held.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    scales = [name for name in numbers if "cfg" in name or "scale" in name]
    networks = [name for name in held if name.endswith("model_patcher")]
    return float(held["cfg"]) if scales == ["cfg"] and len(networks) < 2 else None


def pixels_per_latent(model: Any) -> int | None:
    """Pixels across for each position of the latent, of a BaseModel or its configuration; None if unknown."""
    form = getattr(model, "latent_format", None)
    ratio = getattr(form, "spacial_downscale_ratio", None)
    if isinstance(ratio, int | float):
        return int(ratio)
    return 8 if getattr(form, "__name__", type(form).__name__) in _OF_8_PIXELS else None
