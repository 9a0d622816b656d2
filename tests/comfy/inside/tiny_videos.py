"""Tiny networks of the families of videos."""

from tiny_sizes import COSMOS, HUNYUAN, KANDINSKY, MASK, POOLED, PREDICT_2, TOKENS, WIDTH, Tiny

_WAN = {"dim": 64, "ffn_dim": 64, "num_heads": 2, "num_layers": 1, "text_dim": WIDTH, "freq_dim": 64}
_HUNYUAN_15 = {**HUNYUAN, "patch_size": [1, 1, 1], "vec_in_dim": None, "vision_in_dim": 12, "meanflow_sum": True}
_LTX = {
    "num_layers": 1,
    "cross_attention_dim": 64,
    "num_attention_heads": 2,
    "attention_head_dim": 32,
    "caption_channels": WIDTH,
}
_COGVIDEO = {
    "num_attention_heads": 1,
    "attention_head_dim": 64,
    "num_layers": 1,
    "text_embed_dim": WIDTH,
    "time_embed_dim": 32,
    "use_rotary_positional_embeddings": True,
}
_FIRST_FRAME = {"concat_latent_image": (1, 16, 2, 8, 8), "concat_mask": (1, 1, 2, 8, 8)}
_COSMOS_1 = {
    **COSMOS,
    "block_config": "FA-CA-MLP",
    "block_x_format": "THWBD",
    "affline_emb_norm": True,
    "pos_emb_learnable": False,
    "extra_per_block_abs_pos_emb": True,
    "extra_per_block_abs_pos_emb_type": "learnable",
}

VIDEOS = {
    "SVD_img2vid": Tiny(
        {"image_size": 32, "in_channels": 8, "out_channels": 4, "num_res_blocks": [1], "channel_mult": [1]}
        | {"transformer_depth": [1], "transformer_depth_output": [1, 1], "transformer_depth_middle": 1}
        | {"use_spatial_transformer": True, "use_checkpoint": False, "legacy": False, "context_dim": WIDTH}
        | {"model_channels": 64, "adm_in_channels": 768, "num_classes": "sequential", "use_temporal_attention": True}
        | {"use_temporal_resblock": True, "extra_ff_mix_layer": True, "use_spatial_context": True}
        | {"merge_strategy": "learned_with_images", "merge_factor": 0.0, "video_kernel_size": [3, 1, 1]},
        extra={"concat_latent_image": (1, 4, 8, 8)},
    ),
    "CosmosT2V": Tiny(_COSMOS_1, frames=9),
    "CosmosI2V": Tiny({**_COSMOS_1, "in_channels": 17}, frames=9),
    "CosmosI2VPredict2": Tiny({**PREDICT_2, "in_channels": 17}, frames=5),
    "GenmoMochi": Tiny(
        {"depth": 1, "patch_size": 2, "num_heads": 2, "hidden_size_x": 64, "hidden_size_y": 32, "in_channels": 12}
        | {"mlp_ratio_x": 192.0, "mlp_ratio_y": 2.0, "learn_sigma": False, "qk_norm": True, "qkv_bias": False}
        | {"out_bias": True, "attn_drop": 0.0, "patch_embed_bias": True, "posenc_preserve_area": True}
        | {"timestep_mlp_bias": True, "timestep_scale": 1000.0, "use_t5": True, "t5_feat_dim": WIDTH}
        | {"t5_token_length": TOKENS},
        extra=MASK,
        frames=7,
    ),
    "LTXV": Tiny(_LTX, extra=MASK, frames=9),
    "LTXAV": Tiny(
        {**_LTX, "audio_cross_attention_dim": 32, "audio_attention_head_dim": 16, "audio_num_attention_heads": 2}
        | {"connector_attention_head_dim": 12, "connector_num_attention_heads": 2, "connector_num_layers": 1},
        width=2 * WIDTH,
        frames=9,
    ),
    "MiniMaxH3": Tiny(
        {"hidden_size": 64, "num_layers": 1, "token_refiner_num_layers": 1, "num_attention_heads": 2}
        | {"attention_head_dim": 32, "ffn_hidden_size": 64, "text_dim": WIDTH, "timestep_input_dim": 32}
        | {"time_embed_hidden_size": 32, "time_embed_dim": 32, "rope_inv_freq_len": 5},
        frames=5,
    ),
    "HunyuanVideo": Tiny({**HUNYUAN, "guidance_embed": True}, pooled=POOLED, frames=5),
    "HunyuanVideoI2V": Tiny({**HUNYUAN, "guidance_embed": True, "in_channels": 33}, pooled=POOLED, frames=5),
    "HunyuanVideoSkyreelsI2V": Tiny({**HUNYUAN, "in_channels": 32}, pooled=POOLED, frames=5),
    "HunyuanVideo15": Tiny({**_HUNYUAN_15, "in_channels": 65, "out_channels": 32}, frames=5),
    "Kandinsky5": Tiny(KANDINSKY, pooled=POOLED, frames=5),
    "CogVideoX_T2V": Tiny(_COGVIDEO, frames=5),
    "CogVideoX_I2V": Tiny({**_COGVIDEO, "in_channels": 32}, extra={"concat_latent_image": (1, 16, 2, 8, 8)}, frames=5),
    "CogVideoX_Inpaint": Tiny(
        {**_COGVIDEO, "in_channels": 48}, extra={"concat_latent_image": (1, 32, 2, 8, 8)}, frames=5
    ),
    "WAN21_T2V": Tiny({**_WAN, "model_type": "t2v"}, frames=5),
    "WAN22_T2V": Tiny({**_WAN, "model_type": "t2v", "in_dim": 48, "out_dim": 48}, frames=5),
    "WAN21_I2V": Tiny(
        {**_WAN, "model_type": "i2v", "in_dim": 36},
        extra=_FIRST_FRAME,
        frames=5,
    ),
    "WAN21_FunControl2V": Tiny(
        {**_WAN, "model_type": "i2v", "in_dim": 48}, extra={"concat_latent_image": (1, 32, 2, 8, 8)}, frames=5
    ),
    "WAN21_Camera": Tiny(
        {**_WAN, "model_type": "camera", "in_dim": 32}, extra={"concat_latent_image": (1, 16, 2, 8, 8)}, frames=5
    ),
    "WAN22_Camera": Tiny(
        {**_WAN, "model_type": "camera_2.2", "in_dim": 36}, extra={"concat_latent_image": (1, 16, 2, 8, 8)}, frames=5
    ),
    "WAN21_Vace": Tiny({**_WAN, "model_type": "vace", "vace_layers": 1, "vace_in_dim": 96}, frames=5),
    "WAN21_HuMo": Tiny({**_WAN, "model_type": "humo"}, frames=5),
    "WAN22_S2V": Tiny({**_WAN, "model_type": "s2v", "audio_dim": 16}, frames=5),
    "WAN22_Animate": Tiny({**_WAN, "model_type": "animate", "in_dim": 36}, extra=_FIRST_FRAME, frames=5),
    "WAN_Animate2": Tiny({**_WAN, "model_type": "animate2", "in_dim": 36}, extra=_FIRST_FRAME, frames=5),
    "WAN21_SCAIL2": Tiny({**_WAN, "model_type": "scail2", "in_dim": 20}, frames=5),
    "WAN22_WanDancer": Tiny({**_WAN, "model_type": "wandancer", "in_dim": 36}, extra=_FIRST_FRAME, frames=5),
    "WAN21_SCAIL": Tiny({**_WAN, "model_type": "scail", "in_dim": 20}, frames=5),
}
