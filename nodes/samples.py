"""What a solver with a table for each sample reads of the samples at hand."""

from typing import Any

import torch
from torch import Tensor

from ..dyweight import Solver, conditions
from .wrapped import Hidden


def read_samples(solver: Solver, around: Hidden, x: Tensor) -> dict[str, Tensor | None]:
    """noise [B, *shape] of unit variance and condition [B, width], each None where it is not known or not read.

    Noise is not known where the latent comes from an earlier sampler.
    """
    if not solver.reads_samples:
        return {"noise": None, "condition": None}
    noise, guider = around.noise, around.guider
    if noise is not None:
        known = noise.shape == x.shape and bool(noise.any())
        noise = _as_drawn(noise, solver, guider) if known else None
    return {"noise": noise, "condition": _condition(guider, len(x))}


def _as_drawn(noise: Tensor, solver: Solver, guider: Any) -> Tensor:
    """The noise as the trainer draws it: ComfyUI scales that of an eps model a little above the first sigma."""
    sampling = getattr(getattr(guider, "inner_model", None), "model_sampling", None)
    if sampling is None or not hasattr(sampling, "noise_scaling"):
        return noise
    first = solver.sigmas[0].to(noise.dtype).to(noise.device)
    scaled: Tensor = sampling.noise_scaling(first, noise, torch.zeros_like(noise), True)
    return scaled / first


def _condition(guider: Any, batch: int) -> Tensor | None:
    """[batch, width] of the first positive conditioning; fewer rows are repeated, as ComfyUI does."""
    positive = (getattr(guider, "conds", None) or {}).get("positive") or []
    cross_attention = positive[0].get("cross_attn") if positive else None
    if cross_attention is None:
        return None
    rows = conditions.of_text(cross_attention, positive[0].get("pooled_output"))
    return rows.repeat(-(-batch // len(rows)), 1)[:batch]
