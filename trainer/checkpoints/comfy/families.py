"""How ComfyUI's official templates sample each family of models: facts, with the template that has them."""

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Family:
    """Defaults of one family; file names are the beginnings of the official ones."""

    template: str
    """The template of ComfyUI that these are from, - where there is none and they are the class's own."""
    clip_type: str
    encoders: tuple[tuple[str, ...], ...]
    """For each encoder the beginnings of its file names, the best first."""
    vae: tuple[str, ...] = ()
    size: tuple[int, int] = (1024, 1024)
    """Width, height."""
    frames: int = 1
    steps: int = 20
    """What the template uses; a solver replaces it."""
    cfg: float = 1.0
    guidance: float | None = None
    shift: float | None = None
    """None for the model's own."""
    scheduler: str = "simple"
    one_prompt_a_call: bool = False
    """Whether ComfyUI's class reads the first text of a batch only."""


MODEL_FILE: tuple[str, ...] = ()
"""Among the encoders: the model's own file, which holds a part of them."""
PIXELS = ("pixel_space",)
"""As a VAE: none, the picture is the latent."""
_CLIP_L, _CLIP_G, _UMT5 = ("clip_l",), ("clip_g",), ("umt5_xxl",)
_T5 = ("t5xxl_fp16", "t5xxl_fp8", "t5xxl")
_QWEN_25, _QWEN_3_4B = ("qwen_2.5_vl_7b",), ("qwen_3_4b",)
_QWEN_3_VL_4B, _QWEN_3_VL_8B, _GEMMA_2 = ("qwen3vl_4b",), ("qwen3vl_8b",), ("gemma_2_2b",)
_AE, _FLUX_2_VAE, _SDXL_VAE = ("ae.",), ("flux2-vae",), ("sdxl_vae",)
_WAN_VAE, _HUNYUAN_VAE, _QWEN_VAE = ("wan_2.1_vae", "wan2_1_vae"), ("hunyuan_video_vae",), ("qwen_image_vae",)


def _wan(template: str, size: tuple[int, int], frames: int = 81, **more: Any) -> Family:
    return Family(template, "wan", (_UMT5,), _WAN_VAE, size, frames, **{"steps": 20, "cfg": 6.0, **more})


def _flux_2(template: str, encoder: str, **more: Any) -> Family:
    return Family(template, "flux2", ((encoder,),), _FLUX_2_VAE, scheduler="flux2", **more)


FAMILIES = {
    "SD15": Family("-", "stable_diffusion", (_CLIP_L,), ("vae-ft-mse-840000",), (512, 512), cfg=7.5),
    "SDXL": Family(
        "image_sdxl_simple", "stable_diffusion", (_CLIP_L, _CLIP_G), _SDXL_VAE, steps=25, cfg=7.0, scheduler="karras"
    ),
    "SD3": Family(
        "sd3.5_simple_example",
        "sd3",
        (_CLIP_L, _CLIP_G, _T5),
        ("sd3", "diffusion_pytorch_model"),
        cfg=4.0,
        scheduler="sgm_uniform",
    ),
    "AuraFlow": Family("-", "stable_diffusion", (("aura_t5", "pile_t5"),), _SDXL_VAE, steps=25, cfg=3.5),
    "PixArtAlpha": Family("-", "pixart", (_T5,), ("vae-ft-mse-840000",), cfg=4.5),
    "PixArtSigma": Family("-", "pixart", (_T5,), _SDXL_VAE, cfg=4.5),
    "Flux": Family("flux_dev_full_text_to_image", "flux", (_CLIP_L, _T5), _AE, guidance=3.5),
    "FluxInpaint": Family("flux_fill_inpaint_example", "flux", (_CLIP_L, _T5), _AE, guidance=30.0, scheduler="normal"),
    "FluxSchnell": Family("flux_schnell_full_text_to_image", "flux", (_CLIP_L, _T5), _AE, steps=4),
    "LongCatImage": Family("image_longcat_text_to_image", "longcat_image", (_QWEN_25,), _AE, cfg=4.0),
    "Flux2": _flux_2("image_flux2_text_to_image", "mistral_3_small", guidance=4.0),
    "Flux2 Klein 4B": _flux_2("image_flux2_klein_text_to_image", "qwen_3_4b", cfg=5.0),
    "Flux2 Klein 9B": _flux_2("image_flux2_text_to_image_9b", "qwen_3_8b", cfg=5.0),
    "Lens": Family("image_lens_t2i", "lens", (("gpt_oss_20b",),), _FLUX_2_VAE, (1440, 1440), cfg=5.0),
    "Chroma": Family(
        "image_chroma_text_to_image", "chroma", (_T5,), _AE, steps=26, cfg=3.5, shift=0.0, scheduler="beta"
    ),
    "ChromaRadiance": Family(
        "image_chroma1_radiance_text_to_image", "chroma", (_T5,), PIXELS, steps=30, cfg=3.5, shift=0.0
    ),
    "Lumina2": Family("image_netayume_lumina_t2i", "lumina2", (_GEMMA_2,), _AE, steps=30, cfg=4.0, shift=4.0),
    "ZImage": Family("image_z_image", "lumina2", (_QWEN_3_4B,), _AE, steps=25, cfg=4.0),
    "ZImagePixelSpace": Family("-", "lumina2", (_QWEN_3_4B,), PIXELS, steps=25, cfg=4.0),
    "PixelDiTT2I": Family("image_pixeldit_t2i", "pixeldit", (_GEMMA_2,), PIXELS, steps=30, cfg=4.0),
    "HiDream": Family(
        "hidream_i1_full",
        "hidream",
        (("clip_l_hidream", "clip_l"), ("clip_g_hidream", "clip_g"), _T5, ("llama_3.1_8b_instruct",)),
        _AE,
        steps=50,
        cfg=5.0,
        shift=3.0,
    ),
    "HiDreamO1": Family(
        "image_hidream_o1",
        "stable_diffusion",
        (MODEL_FILE,),
        PIXELS,
        (2048, 2048),
        steps=40,
        cfg=5.0,
        scheduler="normal",
    ),
    "HunyuanDiT": Family("-", "hunyuan_dit", (), _SDXL_VAE, steps=25, cfg=6.0),
    "Omnigen2": Family("image_omnigen2_t2i", "omnigen2", (("qwen_2.5_vl_fp16", "qwen_2.5_vl_3b"),), _AE, cfg=5.0),
    "Boogu": Family("image_boogu_image_0_1_edit", "boogu", (_QWEN_3_VL_8B,), _AE, steps=25, cfg=3.5),
    "QwenImage": Family("image_qwen_Image_2512", "qwen_image", (_QWEN_25,), _QWEN_VAE, (1328, 1328), steps=50, cfg=4.0),
    "MageFlow": Family("image_mage_flow_t2i_int8", "mage", (_QWEN_3_VL_4B,), ("mage_flow_vae",), steps=30, cfg=5.0),
    "JoyImage": Family(
        "image_joyai_image_edit",
        "joyimage",
        (("qwen3vl_8b_joyimage",),),
        _WAN_VAE,
        steps=40,
        cfg=4.0,
        scheduler="normal",
    ),
    "Ideogram4": Family("image_ideogram4_t2i", "ideogram4", (_QWEN_3_VL_8B,), _FLUX_2_VAE, scheduler="ideogram4"),
    "Krea2": Family("image_krea2_turbo_t2i", "krea2", (_QWEN_3_VL_4B,), _QWEN_VAE, steps=8),
    "ErnieImage": Family("image_ernie_image", "flux2", (("ministral-3-3b",),), _FLUX_2_VAE, cfg=4.0),
    "Anima": Family("image_anima_base_v1", "stable_diffusion", (("qwen_3_06b",),), _QWEN_VAE, steps=30, cfg=4.0),
    "CosmosT2IPredict2": Family("-", "cosmos", (("oldt5_xxl",),), _WAN_VAE, steps=35, cfg=4.0),
    "HunyuanImage21": Family(
        "-", "hunyuan_image", (_QWEN_25, ("byt5_small_glyphxl",)), ("hunyuan_image_2.1_vae",), (2048, 2048), cfg=3.5
    ),
    "Kandinsky5Image": Family("image_kandinsky5_t2i", "kandinsky5_image", (_QWEN_25, _CLIP_L), _AE, steps=50, cfg=3.5),
    "Stable_Cascade_C": Family("-", "stable_cascade", (_CLIP_G,), (), (1008, 1008), cfg=4.0),
    "GenmoMochi": Family("-", "mochi", (_T5,), ("mochi_vae",), (848, 480), 37, 30, 4.5),
    "SVD_img2vid": Family("-", "", (), (), (1024, 576), 14, cfg=2.5, scheduler="karras"),
    "CosmosT2V": Family("-", "cosmos", (("oldt5_xxl",),), ("cosmos_cv8x8x8",), (1280, 704), 121, cfg=7.0),
    "LTXV": Family(
        "ltxv_text_to_video", "ltxv", (_T5,), size=(768, 512), frames=97, steps=30, cfg=3.0, scheduler="ltxv"
    ),
    "LTXAV": Family(
        "video_ltx2_t2v",
        "ltxv",
        (("gemma_3_12b_it",), MODEL_FILE),
        size=(640, 352),
        frames=121,
        cfg=4.0,
        scheduler="ltxv",
    ),
    "MiniMaxH3": Family(
        "video_minimax_h3_r2v",
        "minimax",
        (("qwen3vl_32b_minimax_h3",),),
        ("minimax_h3_video_vae",),
        (1344, 768),
        124,
        one_prompt_a_call=True,
    ),
    "HunyuanVideo": Family(
        "hunyuan_video_text_to_video",
        "hunyuan_video",
        (_CLIP_L, ("llava_llama3",)),
        _HUNYUAN_VAE,
        (848, 480),
        73,
        guidance=6.0,
    ),
    "HunyuanVideo15": Family(
        "video_hunyuan_video_1.5_720p_t2v",
        "hunyuan_video_15",
        (_QWEN_25, ("byt5_small_glyphxl",)),
        ("hunyuanvideo15_vae",),
        (1280, 720),
        121,
        cfg=6.0,
    ),
    "Kandinsky5": Family(
        "video_kandinsky5_t2v",
        "kandinsky5",
        (_QWEN_25, _CLIP_L),
        _HUNYUAN_VAE,
        (768, 512),
        121,
        50,
        5.0,
        shift=5.0,
        scheduler="beta",
    ),
    "CogVideoX_T2V": Family("-", "cogvideox", (_T5,), ("cogvideox_vae",), (720, 480), 49, 50, 6.0),
    "WAN21_T2V": _wan("text_to_video_wan", (832, 480), 33, steps=30),
    "WAN22_T2V": Family("video_wan2_2_5B_ti2v", "wan", (_UMT5,), ("wan2.2_vae",), (1280, 704), 121, cfg=5.0),
    "WAN21_I2V": _wan("image_to_video_wan", (512, 512), 33),
    "WAN21_FunControl2V": _wan("wan2.1_fun_control", (832, 480), shift=5.0),
    "WAN21_Camera": _wan("video_wan2.1_fun_camera_v1.1_14B", (832, 480)),
    "WAN22_Camera": _wan("video_wan2_2_14B_fun_camera", (832, 480), cfg=3.5),
    "WAN21_Vace": _wan("-", (832, 480)),
    "WAN21_HuMo": _wan("-", (640, 640), 97),
    "WAN22_S2V": _wan("video_wan2_2_14B_s2v", (640, 640), 77, steps=10),
    "WAN22_Animate": _wan("-", (832, 480), 77),
    "WAN_Animate2": _wan("video_wan_animate2", (832, 480), steps=6, cfg=1.0),
    "WAN21_SCAIL": _wan("-", (832, 480), cfg=5.0, shift=5.0),
    "WAN21_SCAIL2": _wan("video_wan21_scail2_character_replacement", (512, 896), 65, steps=40, cfg=5.0, shift=5.0),
    "WAN22_WanDancer": _wan("video_wan_dancer", (480, 832), 149, steps=48, cfg=5.0, shift=5.0),
}
FAMILIES |= {
    other: replace(FAMILIES[like], template="-")
    for other, like in {
        "SD20": "SD15",
        "HunyuanVideoI2V": "HunyuanVideo",
        "HunyuanVideoSkyreelsI2V": "HunyuanVideo",
        "CosmosI2V": "CosmosT2V",
        "CosmosI2VPredict2": "CosmosT2V",
        "CogVideoX_I2V": "CogVideoX_T2V",
        "CogVideoX_Inpaint": "CogVideoX_T2V",
    }.items()
}
"""By ComfyUI's class of the family, and by `_variant` where one class has several."""
OTHER = Family("-", "", ())
"""A family that is not listed: encoders must be given."""


def family_of(model_config: Any) -> Family:
    """The defaults of a model by ComfyUI's configuration of it."""
    name = type(model_config).__name__
    return FAMILIES.get(_variant(name, model_config.unet_config), OTHER)


def _variant(name: str, network: dict[str, Any]) -> str:
    """FLUX.2 dev and Klein have one class: Klein is not told its guidance, and its two sizes have other encoders."""
    if name == "Flux2" and not network.get("guidance_embed", True):
        return f"{name} Klein {'4B' if network.get('context_in_dim', 0) <= 3 * 2560 else '9B'}"
    return name
