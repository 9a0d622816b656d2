"""What the tables of tiny networks share."""

from dataclasses import dataclass, field
from typing import Any

TOKENS, WIDTH, POOLED = 7, 24, 16
"""Of the text conditions, where a family does not need others."""


@dataclass(frozen=True)
class Tiny:
    """How to make one family tiny, and what its conditions must hold."""

    unet: dict[str, Any]
    """Arguments of the network's class; those that ComfyUI's own detection would find, but small."""
    tokens: int = TOKENS
    width: int = WIDTH
    pooled: int | None = None
    extra: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Further conditions, each with its shape: from the text encoders, or a first frame."""
    size: int = 64
    frames: int = 1


MASK = {"attention_mask": (1, TOKENS)}
ROPE = {"axes_dim": [4, 6, 6], "num_heads": 2, "hidden_size": 32, "depth": 1, "depth_single_blocks": 1}
HUNYUAN = {
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": [1, 2, 2],
    "vec_in_dim": POOLED,
    "context_in_dim": WIDTH,
    "mlp_ratio": 4.0,
    "theta": 256,
    "qkv_bias": True,
    "guidance_embed": False,
    "byt5": False,
    "meanflow": False,
    "use_cond_type_embedding": False,
    "vision_in_dim": None,
    "meanflow_sum": False,
    **ROPE,
}
KANDINSKY = {
    "in_text_dim": WIDTH,
    "in_text_dim2": POOLED,
    "time_dim": 32,
    "model_dim": 32,
    "ff_dim": 64,
    "num_text_blocks": 1,
    "num_visual_blocks": 1,
    "axes_dims": (4, 6, 6),
}
COSMOS = {
    "max_img_h": 240,
    "max_img_w": 240,
    "max_frames": 128,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "model_channels": 64,
    "num_blocks": 1,
    "num_heads": 2,
    "crossattn_emb_channels": WIDTH,
    "concat_padding_mask": True,
    "pos_emb_cls": "rope3d",
    "pos_emb_learnable": True,
    "pos_emb_interpolation": "crop",
    "use_adaln_lora": True,
    "adaln_lora_dim": 16,
    "extra_per_block_abs_pos_emb": False,
}
PREDICT_2 = {**COSMOS, "min_fps": 1, "max_fps": 30, "rope_enable_fps_modulation": False}
