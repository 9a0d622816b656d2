"""A small FLUX of ComfyUI's own class, which ComfyUI 0.9 and later detect as FLUX by its weights."""

import torch


def small_flux(hidden: int, context_width: int, pooled_width: int) -> torch.nn.Module:
    """One double and two single blocks with 66 hidden^2 uninitialised parameters. hidden: a multiple of 128.

    context_width, pooled_width: widths of the text encoders' outputs. ComfyUI must be importable.
    """
    import comfy.ldm.flux.model
    import comfy.ops

    model: torch.nn.Module = comfy.ldm.flux.model.Flux(
        image_model="flux",
        in_channels=16,
        out_channels=16,
        patch_size=2,
        vec_in_dim=pooled_width,
        context_in_dim=context_width,
        hidden_size=hidden,
        mlp_ratio=4.0,
        num_heads=hidden // 128,
        depth=1,
        depth_single_blocks=2,
        axes_dim=[16, 56, 56],
        theta=10000,
        qkv_bias=True,
        guidance_embed=True,
        txt_ids_dims=[],
        dtype=torch.float32,
        device="cpu",
        operations=comfy.ops.manual_cast,
    )
    return model
