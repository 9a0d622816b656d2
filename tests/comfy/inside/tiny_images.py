"""Tiny networks of the families of images."""

import torch
from tiny_sizes import HUNYUAN, KANDINSKY, MASK, POOLED, PREDICT_2, ROPE, TOKENS, WIDTH, Tiny

_FLUX = {
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "context_in_dim": WIDTH,
    "mlp_ratio": 4.0,
    "theta": 10000,
    "qkv_bias": True,
    "txt_ids_dims": [],
    **ROPE,
}
_CHROMA = {**_FLUX, "vec_in_dim": None, "out_dim": 32, "hidden_dim": 32, "n_layers": 1, "in_dim": 64}
_UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [1],
    "transformer_depth_output": [1, 1],
    "transformer_depth_middle": 1,
    "use_spatial_transformer": True,
    "use_checkpoint": False,
    "legacy": False,
    "context_dim": WIDTH,
}
_LUMINA = {
    "patch_size": 2,
    "in_channels": 16,
    "dim": 48,
    "cap_feat_dim": WIDTH,
    "n_layers": 1,
    "n_refiner_layers": 1,
    "qk_norm": True,
    "n_heads": 2,
    "n_kv_heads": 1,
    "axes_dims": [8, 8, 8],
    "axes_lens": [300, 512, 512],
    "multiple_of": 16,
    "ffn_dim_multiplier": 1.0,
}
_Z_IMAGE = {
    **_LUMINA,
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "rope_theta": 256.0,
    "dim": 256,  # ComfyUI has this width of its time embedding in the class
    "n_kv_heads": 2,
    "axes_dims": [32, 48, 48],
}
_OMNIGEN = {
    "axes_dim_rope": (8, 8, 8),
    "axes_lens": (300, 512, 512),
    "hidden_size": 48,
    "num_attention_heads": 2,
    "num_kv_heads": 1,
    "multiple_of": 16,
    "num_layers": 1,
    "num_refiner_layers": 1,
    "timestep_scale": 1000.0,
}
_QWEN = {"num_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": WIDTH}
_HUNYUAN_IMAGE = {**HUNYUAN, "patch_size": [1, 1], "vec_in_dim": None, "axes_dim": [8, 8]}

IMAGES = {
    "SD15": Tiny({**_UNET, "model_channels": 32}),
    "SD20": Tiny({**_UNET, "model_channels": 64, "use_linear_in_transformer": True}),
    "SDXL": Tiny(
        {
            **_UNET,
            "model_channels": 64,
            "num_classes": "sequential",
            "adm_in_channels": 1536 + POOLED,
            "use_linear_in_transformer": True,
        },
        pooled=POOLED,
    ),
    "SD3": Tiny(
        {
            "in_channels": 16,
            "out_channels": 16,
            "patch_size": 2,
            "depth": 1,
            "input_size": None,
            "adm_in_channels": POOLED,
            "context_embedder_config": {
                "target": "torch.nn.Linear",
                "params": {"in_features": WIDTH, "out_features": 64},
            },
            "num_patches": 256,
            "pos_embed_max_size": 16,
            "pos_embed_scaling_factor": None,
        },
        pooled=POOLED,
    ),
    "AuraFlow": Tiny(
        {"dim": 64, "n_layers": 2, "n_double_layers": 1, "n_heads": 2, "global_conddim": 64, "cond_seq_dim": WIDTH}
        | {"max_seq": 256}
    ),
    "PixArtAlpha": Tiny(
        {"hidden_size": 64, "depth": 1, "num_heads": 2, "caption_channels": WIDTH, "model_max_length": 12}
        | {"input_size": 64, "pe_interpolation": 1, "micro_condition": False},
        size=320,  # at less ComfyUI divides by a rounded 0
    ),
    "PixArtSigma": Tiny(
        {"hidden_size": 64, "depth": 1, "num_heads": 2, "caption_channels": WIDTH, "model_max_length": 12}
        | {"input_size": 64, "pe_interpolation": 1, "micro_condition": False},
        size=320,  # at less ComfyUI divides by a rounded 0
    ),
    "Flux": Tiny({**_FLUX, "vec_in_dim": POOLED, "guidance_embed": True}, pooled=POOLED),
    "FluxInpaint": Tiny(
        {**_FLUX, "in_channels": 96, "vec_in_dim": POOLED, "guidance_embed": True},
        pooled=POOLED,
        extra={"concat_latent_image": (1, 16, 8, 8), "concat_mask": (1, 1, 64, 64)},
    ),
    "FluxSchnell": Tiny({**_FLUX, "vec_in_dim": POOLED, "guidance_embed": False}, pooled=POOLED),
    "LongCatImage": Tiny({**_FLUX, "vec_in_dim": None, "guidance_embed": False, "txt_ids_dims": [1, 2]}),
    "Flux2": Tiny(
        {
            **_FLUX,
            "in_channels": 128,
            "out_channels": 128,
            "patch_size": 1,
            "axes_dim": [4, 4, 4, 4],
            "mlp_ratio": 3.0,
            "theta": 2000,
            "qkv_bias": False,
            "ops_bias": False,
            "global_modulation": True,
            "mlp_silu_act": True,
            "vec_in_dim": None,
            "guidance_embed": True,
            "txt_ids_dims": [3],
        }
    ),
    "Lens": Tiny(
        {"in_channels": 128, "out_channels": 32, "num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 16}
        | {"enc_hidden_dim": WIDTH, "axes_dims_rope": (4, 6, 6), "selected_layer_index": (0, 1)},
        width=2 * WIDTH,
    ),
    "Chroma": Tiny({**_CHROMA, "in_channels": 64, "out_channels": 64}),
    "ChromaRadiance": Tiny(
        {
            **_CHROMA,
            "in_channels": 3,
            "out_channels": 3,
            "patch_size": 16,
            "nerf_hidden_size": 16,
            "nerf_mlp_ratio": 2,
            "nerf_depth": 1,
            "nerf_max_freqs": 4,
            "nerf_tile_size": 512,
            "nerf_final_head_type": "conv",
            "nerf_embedder_dtype": torch.float32,
            "use_x0": False,
            "use_sequential_txt_ids": False,
        },
        size=32,
    ),
    "Lumina2": Tiny(_LUMINA),
    "ZImage": Tiny({**_Z_IMAGE, "pad_tokens_multiple": 32}),
    "ZImagePixelSpace": Tiny(
        {**_Z_IMAGE, "patch_size": 16, "in_channels": 3, "decoder_hidden_size": 32, "decoder_num_res_blocks": 1}
        | {"decoder_max_freqs": 4, "decoder_in_channels": 768},
        size=32,
    ),
    "PixelDiTT2I": Tiny(
        {"num_groups": 2, "hidden_size": 64, "pixel_hidden_size": 4, "pixel_attn_hidden_size": 64, "patch_depth": 1}
        | {"pixel_num_groups": 2, "pixel_depth": 1, "txt_embed_dim": WIDTH, "txt_max_length": 16},
        size=32,
    ),
    "HiDream": Tiny(
        {"attention_head_dim": 16, "axes_dims_rope": [4, 6, 6], "caption_channels": [WIDTH, WIDTH], "in_channels": 16}
        | {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 2, "out_channels": 16, "patch_size": 2}
        | {"llama_layers": [0, 1], "text_emb_dim": POOLED, "max_resolution": [64, 64]},
        pooled=POOLED,
        extra={"conditioning_llama3": (1, 2, TOKENS, WIDTH)},
    ),
    "HiDreamO1": Tiny(
        {
            "text_config_overrides": {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1}
            | {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 128},
            "vision_config_overrides": {"hidden_size": 32, "num_heads": 2, "depth": 1, "intermediate_size": 32},
        },
        width=1,
        extra={"text_input_ids": (1, TOKENS)},
    ),
    "HunyuanDiT": Tiny(
        {"input_size": 32, "hidden_size": 64, "depth": 2, "num_heads": 2, "text_states_dim": WIDTH}
        | {"text_states_dim_t5": WIDTH, "text_len": TOKENS, "text_len_t5": TOKENS},
        extra={"conditioning_mt5xl": (1, TOKENS, WIDTH), "attention_mask_mt5xl": (1, TOKENS), **MASK},
    ),
    "Omnigen2": Tiny({**_OMNIGEN, "text_feat_dim": WIDTH, "norm_eps": 1e-5}, extra=MASK),
    "Boogu": Tiny({**_OMNIGEN, "instruction_feat_dim": WIDTH, "num_double_stream_layers": 1}, extra=MASK),
    "QwenImage": Tiny({**_QWEN, "in_channels": 64, "axes_dims_rope": (4, 6, 6)}),
    "MageFlow": Tiny({**_QWEN, "in_channels": 128, "axes_dims_rope": (4, 6, 6)}),
    "JoyImage": Tiny(
        {"hidden_size": 32, "num_attention_heads": 2, "text_dim": WIDTH, "num_layers": 1, "rope_dim_list": [4, 6, 6]}
    ),
    "Ideogram4": Tiny(
        {"num_attention_heads": 2, "attention_head_dim": 32, "intermediate_size": 64, "adaln_dim": 16}
        | {"llm_features_dim": WIDTH, "mrope_section": [4, 6, 6], "num_layers": 1, "in_channels": 128}
    ),
    "Krea2": Tiny(
        {"features": 256, "tdim": 32, "txtdim": 32, "heads": 2, "kvheads": 1, "multiplier": 2, "layers": 1}
        | {"txtlayers": 2, "txtheads": 2, "txtkvheads": 2},
        width=64,
    ),
    "ErnieImage": Tiny(
        {"hidden_size": 32, "num_attention_heads": 2, "num_layers": 1, "ffn_hidden_size": 64, "text_in_dim": WIDTH}
        | {"rope_axes_dim": (4, 6, 6)}
    ),
    "Anima": Tiny(
        {**PREDICT_2, "crossattn_emb_channels": 1024},  # the width of its adapter, which the class has
        width=1024,
        extra={"t5xxl_ids": (5,), "t5xxl_weights": (5,)},
    ),
    "CosmosT2IPredict2": Tiny(PREDICT_2),
    "HunyuanImage21": Tiny({**_HUNYUAN_IMAGE, "in_channels": 64, "out_channels": 64}, size=128),
    "Stable_Cascade_C": Tiny(
        {"stable_cascade_stage": "c", "c_cond": 32, "c_hidden": [32, 32], "nhead": [2, 2], "blocks": [[1, 1], [1, 1]]}
        | {"c_clip_text": WIDTH, "c_clip_text_pooled": POOLED},
        pooled=POOLED,
        size=336,
    ),
    "Kandinsky5Image": Tiny({**KANDINSKY, "visual_embed_dim": 64}, pooled=POOLED),
}
