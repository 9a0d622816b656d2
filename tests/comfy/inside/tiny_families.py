"""A tiny network of each family that ComfyUI knows, of its own classes, with seeded weights and seeded conditions."""

from typing import Any

import torch
from tiny_images import IMAGES
from tiny_videos import VIDEOS
from torch import Tensor

TINY = {**IMAGES, **VIDEOS}
CPU = torch.device("cpu")


def patcher(
    family: str,
    seed: int = 0,
    weights: torch.dtype = torch.float32,
    computed: torch.dtype | None = None,
    device: torch.device = CPU,
    offload: torch.device = CPU,
) -> Any:
    """ComfyUI's ModelPatcher of the tiny network of a family, float32 on the CPU.

    computed: the dtype of its activations where it is another one than that of its weights. offload: where weights lie
    that are not on the device.
    """
    import comfy.model_patcher
    import comfy.supported_models

    kind = getattr(comfy.supported_models, family)
    tiny = {**kind.unet_config, **TINY[family].unet}
    config = kind(tiny)
    config.unet_config.update(TINY[family].unet)
    config.set_inference_dtype(weights, computed)
    with torch.inference_mode(False):
        model = config.get_model({}, "")
        _seed(model.diffusion_model, seed)
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=offload)


def tensors(family: str, seed: int = 1) -> dict[str, Tensor]:
    """Seeded conditions of one text by the names of a file of conditions."""
    generator, tiny = torch.Generator().manual_seed(seed), TINY[family]
    made = {"cross_attn": torch.randn(1, tiny.tokens, tiny.width, generator=generator)}
    if tiny.pooled:
        made["pooled"] = torch.randn(1, tiny.pooled, generator=generator)
    for name, shape in tiny.extra.items():
        if name.endswith("ids"):
            made[name] = torch.randint(100, shape, generator=generator)
        elif name == "attention_mask":
            made[name] = torch.ones(shape, dtype=torch.long)
        else:
            made[name] = (
                torch.rand(shape, generator=generator).round()
                if name.endswith("mask")
                else torch.randn(shape, generator=generator)
            )
    return made


def conditioning(family: str, seed: int = 1) -> list[list[Any]]:
    """CONDITIONING of one seeded text."""
    extra = tensors(family, seed)
    cross, pooled = extra.pop("cross_attn"), extra.pop("pooled", None)
    return [[cross, {**extra, "pooled_output": pooled}]]


def _seed(network: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, value in sorted(network.state_dict().items()):
        if not value.is_floating_point():
            continue
        fan_in = value[0].numel() if value.ndim > 1 else 1
        scale = 0.7 / fan_in**0.5 if value.ndim > 1 else 0.1
        noise = torch.randn(value.shape, generator=generator) * scale
        one = value.ndim == 1 and "norm" in name and name.endswith(("weight", "scale", "gamma"))
        value.copy_((noise + 1 if one else noise).to(value.dtype))
