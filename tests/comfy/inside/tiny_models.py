"""Tiny models of ComfyUI's own classes with seeded random weights, in the layout of the files that people download."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

CONTEXT = {"flux": (8, 64), "sd3": (7, 48), "sd15": (7, 768), "wan": (9, 4096), "hunyuan": (6, 32)}
"""Tokens and width of the text condition."""
POOLED = {"flux": 32, "sd3": 40, "hunyuan": 768}
LATENT = {"flux": (16, 8, 8), "sd3": (16, 8, 8), "sd15": (4, 4, 4), "wan": (16, 3, 8, 8), "hunyuan": (16, 1, 8, 8)}
"""Shape of one small latent."""


def state_dict(family: str, seed: int = 0) -> dict[str, Tensor]:
    """Weights of a tiny flux, sd3, sd15, wan or (mean flow) hunyuan, keyed as in a diffusion_models file."""
    model = _BUILDERS[family]()
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, value in sorted(model.state_dict().items()):
        fan_in = value[0].numel() if value.ndim > 1 else 1
        scale = 0.7 / fan_in**0.5 if value.ndim > 1 else 0.1
        noise = torch.randn(value.shape, generator=generator) * scale
        one = value.ndim == 1 and name.endswith(
            ("norm.weight", "norm1.weight", "norm2.weight", "norm3.weight", ".scale")
        )
        weights[name] = noise + 1 if one else noise
    return weights


def conditioning(family: str, seed: int = 1) -> list[list[Any]]:
    """CONDITIONING of one seeded text."""
    generator = torch.Generator().manual_seed(seed)
    extra = {}
    if family in POOLED:
        extra["pooled_output"] = torch.randn(1, POOLED[family], generator=generator)
    return [[torch.randn(1, *CONTEXT[family], generator=generator), extra]]


def _flux() -> torch.nn.Module:
    from comfy.ldm.flux.model import Flux

    return Flux(
        image_model="flux",
        in_channels=16,
        out_channels=16,
        patch_size=2,
        vec_in_dim=POOLED["flux"],
        context_in_dim=CONTEXT["flux"][1],
        hidden_size=128,
        mlp_ratio=4.0,
        num_heads=1,
        depth=1,
        depth_single_blocks=2,
        axes_dim=[16, 56, 56],
        theta=10000,
        qkv_bias=True,
        guidance_embed=True,
        txt_ids_dims=[],
        **_common(),
    )


def _sd3() -> torch.nn.Module:
    from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT

    width = CONTEXT["sd3"][1]
    return MMDiT(
        input_size=None,
        in_channels=16,
        out_channels=16,
        patch_size=2,
        depth=2,
        adm_in_channels=POOLED["sd3"],
        context_embedder_config={"target": "torch.nn.Linear", "params": {"in_features": width, "out_features": 128}},
        num_patches=256,
        pos_embed_max_size=16,
        **_common(),
    )


def _sd15() -> torch.nn.Module:
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    return UNetModel(
        image_size=32,
        in_channels=4,
        out_channels=4,
        model_channels=320,
        num_res_blocks=[1],
        channel_mult=[1],
        transformer_depth=[1],
        transformer_depth_output=[1, 1],
        transformer_depth_middle=1,
        num_heads=8,
        use_spatial_transformer=True,
        context_dim=CONTEXT["sd15"][1],
        legacy=False,
        **_common(),
    )


def _wan() -> torch.nn.Module:
    from comfy.ldm.wan.model import WanModel

    return WanModel(model_type="t2v", dim=128, ffn_dim=256, num_heads=1, num_layers=1, **_common())


def _hunyuan() -> torch.nn.Module:
    from comfy.ldm.hunyuan_video.model import HunyuanVideo

    return HunyuanVideo(
        in_channels=16,
        out_channels=16,
        patch_size=[1, 2, 2],
        vec_in_dim=POOLED["hunyuan"],
        context_in_dim=CONTEXT["hunyuan"][1],
        hidden_size=128,
        mlp_ratio=4.0,
        num_heads=1,
        depth=1,
        depth_single_blocks=1,
        axes_dim=[16, 56, 56],
        theta=256,
        qkv_bias=True,
        guidance_embed=True,
        byt5=False,
        meanflow=True,
        use_cond_type_embedding=False,
        vision_in_dim=None,
        meanflow_sum=False,
        **_common(),
    )


def control_net_flux(model: Any, seed: int = 3) -> Any:
    """CONTROL_NET with a tiny ControlNetFlux for the tiny flux."""
    import comfy.controlnet
    from comfy.ldm.flux.controlnet import ControlNetFlux

    tiny = model.model.model_config.unet_config
    network = ControlNetFlux(**{**_common(), **{k: v for k, v in tiny.items() if k not in ("dtype", "image_model")}})
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    network.main_model_double, network.main_model_single = 1, 2
    return comfy.controlnet.ControlNet(network, load_device=torch.device("cpu"), extra_conds=["y", "guidance"])


def _common() -> dict[str, Any]:
    import comfy.ops

    return {"dtype": torch.float32, "device": "cpu", "operations": comfy.ops.disable_weight_init}


_BUILDERS: dict[str, Callable[[], torch.nn.Module]] = {
    "flux": _flux,
    "sd3": _sd3,
    "sd15": _sd15,
    "wan": _wan,
    "hunyuan": _hunyuan,
}
