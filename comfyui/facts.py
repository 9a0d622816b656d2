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


def pixels_per_latent(model: Any) -> int | None:
    """Pixels across for each position of the latent of a BaseModel; None where ComfyUI, as up to 0.8, does not say."""
    ratio = getattr(getattr(model, "latent_format", None), "spacial_downscale_ratio", None)
    return int(ratio) if isinstance(ratio, int | float) else None
