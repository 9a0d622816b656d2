"""Diffusion models of ComfyUI's own classes at the size that people download, with seeded random weights.

They are made where they are sampled, number by number in place: no file is read, and nothing lies in memory twice.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

FP8 = torch.float8_e4m3fn
WEIGHTS: dict[str, tuple[torch.dtype, bool]] = {
    "fp32": (torch.float32, False),
    "bf16": (torch.bfloat16, False),
    "fp16": (torch.float16, False),
    "fp8_e4m3fn": (FP8, False),
    "fp8_e4m3fn_fast": (FP8, True),
}
"""Name -> dtype of the weights, and whether ComfyUI multiplies in fp8 where the device can. The fp8 names are those of
its loader."""


@dataclass(frozen=True)
class Architecture:
    """A model's network, and what it is told."""

    family: str
    """Class in comfy.supported_models."""
    network: Mapping[str, Any]
    small: Mapping[str, Any]
    """What differs at a tenth of the width, with few blocks."""
    tokens: int
    """Of a text."""
    text_width: str
    """Key of `network` with the width of a token."""
    pooled: int
    """Width of the pooled text."""
    cfg: float
    scheduler: str
    guidance: float | None = None


ARCHITECTURES = {
    "flux1-dev": Architecture(
        "Flux",
        {
            "image_model": "flux",
            "in_channels": 16,
            "out_channels": 16,
            "patch_size": 2,
            "vec_in_dim": 768,
            "context_in_dim": 4096,
            "hidden_size": 3072,
            "mlp_ratio": 4.0,
            "num_heads": 24,
            "depth": 19,
            "depth_single_blocks": 38,
            "axes_dim": [16, 56, 56],
            "theta": 10000,
            "qkv_bias": True,
            "guidance_embed": True,
            "txt_ids_dims": [],
        },
        {"hidden_size": 256, "num_heads": 2, "depth": 1, "depth_single_blocks": 2, "context_in_dim": 64},
        256,
        "context_in_dim",
        768,
        1.0,
        "simple",
        3.5,
    ),
    "sd15": Architecture(
        "SD15",
        {
            "image_size": 32,
            "in_channels": 4,
            "out_channels": 4,
            "model_channels": 320,
            "num_res_blocks": [2, 2, 2, 2],
            "channel_mult": [1, 2, 4, 4],
            "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
            "transformer_depth_middle": 1,
            "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
            "use_spatial_transformer": True,
            "use_linear_in_transformer": False,
            "use_temporal_attention": False,
            "context_dim": 768,
            "num_heads": 8,
            "num_head_channels": -1,
            "legacy": False,
        },
        {
            "model_channels": 32,
            "context_dim": 64,
            "num_res_blocks": [1, 1],
            "channel_mult": [1, 2],
            "transformer_depth": [1, 1],
            "transformer_depth_output": [1, 1, 1, 1],
        },
        77,
        "context_dim",
        768,
        7.5,
        "normal",
    ),
    "sdxl": Architecture(
        "SDXL",
        {
            "image_size": 32,
            "in_channels": 4,
            "out_channels": 4,
            "model_channels": 320,
            "num_res_blocks": [2, 2, 2],
            "channel_mult": [1, 2, 4],
            "transformer_depth": [0, 0, 2, 2, 10, 10],
            "transformer_depth_middle": 10,
            "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
            "use_spatial_transformer": True,
            "use_linear_in_transformer": True,
            "use_temporal_attention": False,
            "context_dim": 2048,
            "num_classes": "sequential",
            "adm_in_channels": 2816,
            "num_heads": -1,
            "num_head_channels": 64,
            "legacy": False,
        },
        {
            "model_channels": 32,
            "context_dim": 64,
            "transformer_depth": [0, 0, 1, 1, 1, 1],
            "transformer_depth_middle": 1,
            "transformer_depth_output": [0, 0, 0, 1, 1, 1, 1, 1, 1],
        },
        77,
        "context_dim",
        1280,
        7.0,
        "normal",
    ),
}


def patcher(name: str, weights: str, small: bool = False, seed: int = 0) -> Any:
    """ComfyUI's MODEL of a name in `ARCHITECTURES`, on the device that ComfyUI samples on, which must be started.

    weights: a name in `WEIGHTS`. small: at a tenth of the width, with few blocks.
    """
    management = importlib.import_module("comfy.model_management")
    kind = getattr(importlib.import_module("comfy.supported_models"), ARCHITECTURES[name].family)
    (dtype, fast), device = WEIGHTS[weights], management.get_torch_device()
    config = kind(network(name, small))
    config.unet_config.update(network(name, small))  # the class has defaults of its own for some
    config.set_inference_dtype(dtype, management.unet_manual_cast(dtype, device, config.supported_inference_dtypes))
    config.optimizations["fp8"] = fast
    with torch.inference_mode(False), torch.no_grad():
        model = config.get_model({}, "", device=device)
        fill(model.diffusion_model, seed)
    made = importlib.import_module("comfy.model_patcher").ModelPatcher(model, device, management.unet_offload_device())
    made.patch_model(device)  # it lies there: else ComfyUI would ask for its size a second time
    return made


def network(name: str, small: bool = False) -> dict[str, Any]:
    """What a network's class is told."""
    architecture = ARCHITECTURES[name]
    return {**architecture.network, **(architecture.small if small else {})}


def fill(module: torch.nn.Module, seed: int) -> None:
    """Random weights in place, of a size at which no answer overflows."""
    generator: torch.Generator | None = None
    for parameter in module.parameters():
        generator = generator or torch.Generator(parameter.device).manual_seed(seed)
        if parameter.ndim == 1:
            parameter.fill_(0.0)
            continue
        made = torch.randn(parameter.shape, generator=generator, device=parameter.device)
        parameter.copy_(made.mul_(0.7 * parameter[0].numel() ** -0.5))
    for layer in module.modules():
        if "norm" in type(layer).__name__.lower():
            for name, parameter in layer.named_parameters(recurse=False):
                if name != "bias":
                    parameter.fill_(1.0)


def conditioning(name: str, texts: int, small: bool = False, seed: int = 0) -> Sequence[list[list[Any]]]:
    """CONDITIONING of this many seeded texts."""
    architecture, generator = ARCHITECTURES[name], torch.Generator().manual_seed(seed)
    width = network(name, small)[architecture.text_width]
    told = {} if architecture.guidance is None else {"guidance": architecture.guidance}

    def text() -> list[list[Any]]:
        tokens: Tensor = torch.randn(1, architecture.tokens, width, generator=generator)
        return [[tokens, {**told, "pooled_output": torch.randn(1, architecture.pooled, generator=generator)}]]

    return [text() for _ in range(texts)]
