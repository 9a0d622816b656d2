"""What ComfyUI's model families need besides the diffusion model: text encoders, VAE, size and guidance."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...run.errors import CheckpointError
from .installation import all_files

ENCODER_FOLDERS, VAE_FOLDERS = ("text_encoders",), ("vae",)
_SHOWN = 12


@dataclass(frozen=True)
class Family:
    """Defaults of one family; file names are the beginnings of the official ones."""

    clip_type: str
    encoders: tuple[tuple[str, ...], ...]
    """For each encoder the beginnings of its file names, the best first."""
    vae: tuple[str, ...] = ()
    size: int = 1024
    cfg: float = 1.0
    guidance: float | None = None


_CLIP_L, _CLIP_G = ("clip_l",), ("clip_g",)
_T5 = ("t5xxl_fp16", "t5xxl_fp8", "t5xxl")
FAMILIES = {
    "SD15": Family("stable_diffusion", (_CLIP_L,), ("vae-ft-mse-840000",), size=512, cfg=7.5),
    "SDXL": Family("stable_diffusion", (_CLIP_L, _CLIP_G), ("sdxl_vae",), cfg=7.0),
    "SD3": Family("sd3", (_CLIP_L, _CLIP_G, _T5), ("sd3", "diffusion_pytorch_model"), cfg=4.5),
    "Flux": Family("flux", (_CLIP_L, _T5), ("ae.",), guidance=3.5),
    "FluxSchnell": Family("flux", (_CLIP_L, _T5), ("ae.",)),
    "Chroma": Family("chroma", (_T5,), ("ae.",), cfg=4.0),
    "Lumina2": Family("lumina2", (("gemma_2_2b",),), ("ae.",), cfg=4.0),
    "QwenImage": Family("qwen_image", (("qwen_2.5_vl_7b",),), ("qwen_image_vae",), cfg=2.5),
    "HunyuanVideo": Family(
        "hunyuan_video", (_CLIP_L, ("llava_llama3",)), ("hunyuan_video_vae",), size=512, guidance=6.0
    ),
    "WAN21_T2V": Family("wan", (("umt5_xxl",),), ("wan_2.1_vae",), size=480, cfg=6.0),
}
"""By ComfyUI's class of the family."""
OTHER = Family("", ())
"""A family that is not listed: encoders must be given."""


def family_of(name: str) -> Family:
    """The defaults of a family."""
    return FAMILIES.get(name, OTHER)


def default_encoders(name: str) -> list[Path]:
    """Text encoder files of a family. Raises CheckpointError that names what is missing."""
    family = family_of(name)
    if not family.encoders:
        raise CheckpointError(f"the text encoders of the family {name} are not known: give --clip and --clip-type")
    return [_first(beginnings, ENCODER_FOLDERS, f"text encoder of {name}", "--clip") for beginnings in family.encoders]


def default_vae(name: str) -> Path | None:
    """The VAE file of a family, None where there is none; then there are no pictures."""
    try:
        return _first(family_of(name).vae, VAE_FOLDERS, f"VAE of {name}", "--vae")
    except CheckpointError:
        return None


def _first(beginnings: Sequence[str], folders: Sequence[str], what: str, option: str) -> Path:
    known = [(listed.replace("\\", "/").rpartition("/")[2].lower(), path) for listed, path in all_files(folders)]
    for beginning in beginnings:
        for name, path in sorted(known):
            if name.startswith(beginning):
                return path
    have = ", ".join(name for name, _ in sorted(known)[:_SHOWN]) or "nothing"
    raise CheckpointError(
        f"no {what} ({' or '.join(beginnings)}...) in ComfyUI's {' or '.join(folders)}, which has {have}; "
        f"put it there or name it with {option}"
    )
