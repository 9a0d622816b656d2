"""Nodes and tiny models that the tests put beside the pack in a ComfyUI server.

Text encoders, VAEs and checkpoints are stand-ins, so that a workflow with the official file names runs to its end. The
stand-in for FLUX.1-dev has learned to draw coloured shapes, the others have random weights.
"""

import importlib.util
import time
import zlib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import comfy.sd
import folder_paths
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from . import previews as previews  # holds samplers where a test asks for it


def _beside(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).resolve().parents[1] / "inside" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tiny_models, trained_flux = _beside("tiny_models"), _beside("trained_flux")

TRAINED = Path(__file__).resolve().parents[3] / "tools" / "models" / "tiny-flux.safetensors"
OFFICIAL = {
    "diffusion_models/flux1-dev.safetensors": "flux",
    "checkpoints/flux1-dev-fp8.safetensors": "flux",
    "checkpoints/v1-5-pruned-emaonly-fp16.safetensors": "sd15",
}
VAES = {"ae.safetensors": 16}
TEXT_ENCODERS = ("clip_l.safetensors", "t5xxl_fp16.safetensors")
_FAMILY_OF = {"flux": "flux", "sd3": "sd3", "stable_diffusion": "sd15", "wan": "wan"}


def make_models() -> None:
    """Write tiny-<family>.safetensors, and what workflows name, into the models folder."""
    models = Path(folder_paths.models_dir)
    for folder in ("diffusion_models", "checkpoints", "vae", "text_encoders"):
        (models / folder).mkdir(parents=True, exist_ok=True)
    for family in tiny_models.LATENT:
        save_file(tiny_models.state_dict(family), models / "diffusion_models" / f"tiny-{family}.safetensors")
    for name, family in OFFICIAL.items():
        file = TRAINED if family == "flux" else models / "diffusion_models" / f"tiny-{family}.safetensors"
        (models / name).symlink_to(file)
    for name, channels in VAES.items():
        save_file({"stand_in": torch.zeros(channels)}, models / "vae" / name)
    for name in TEXT_ENCODERS:
        save_file({"stand_in": torch.zeros(1)}, models / "text_encoders" / name)


class StandInTextEncoder:
    """For FLUX the condition that has most words of the text; else seeded noise for each text."""

    def __init__(self, family: str) -> None:
        self.family = family

    def tokenize(self, text: str, **options: Any) -> str:
        return text

    def encode_from_tokens_scheduled(self, tokens: str, **options: Any) -> list[list[Any]]:
        if self.family == "flux":
            return learned_condition(set(tokens.split()))
        return tiny_models.conditioning(self.family, seed=zlib.crc32(tokens.encode()))


def learned_condition(words: set[str]) -> list[list[Any]]:
    """CONDITIONING of the trained model's prompt that shares most words."""
    with safe_open(TRAINED.with_name("tiny-flux-conditions.safetensors"), "pt") as file:
        prompts = [set(prompt.replace(",", "").split()) for prompt in file.metadata()["prompts"].split("; ")]
        best = max(range(len(prompts)), key=lambda i: len(words & prompts[i]))
        context, pooled = (file.get_tensor(name)[best : best + 1] for name in ("cross_attn", "pooled"))
    return [[context, {"pooled_output": pooled}]]


class StandInVae:
    """A picture from the first channels of the latent, and the way back."""

    def __init__(self, sd: dict[str, Tensor], **options: Any) -> None:
        self.channels, self.patcher = len(sd["stand_in"]), SimpleNamespace()

    def throw_exception_if_invalid(self) -> None:
        pass

    def decode(self, latent: Tensor, **options: Any) -> Tensor:
        if self.channels < 12:
            return picture(latent)
        pixels = torch.nn.functional.pixel_shuffle(latent[:, :12] / 3, 2) + 0.5  # as the trained model has them
        return pixels.clamp(0, 1).movedim(1, -1).repeat_interleave(16, 1).repeat_interleave(16, 2)

    def encode(self, pixels: Tensor) -> Tensor:
        small = pixels[:, 4::8, 4::8, :3].movedim(-1, 1) * 4 - 2
        return small.repeat(1, -(-self.channels // 3), 1, 1)[:, : self.channels]


def picture(latent: Tensor) -> Tensor:
    """[B, C, (T,) H, W] -> [B (T), 8 H, 8 W, 3] in 0..1."""
    frames = latent.movedim(1, -1).flatten(0, -4)
    colours = (frames[..., :3] / 4 + 0.5).clamp(0, 1)
    return colours.repeat_interleave(8, 1).repeat_interleave(8, 2)


def load_clip(ckpt_paths: list[str], clip_type: Any = comfy.sd.CLIPType.STABLE_DIFFUSION, **options: Any) -> Any:
    return StandInTextEncoder(_FAMILY_OF[clip_type.name.lower()])


def load_checkpoint(ckpt_path: str, **options: Any) -> tuple[Any, ...]:
    family = OFFICIAL[f"checkpoints/{Path(ckpt_path).name}"]
    model = comfy.sd.load_diffusion_model(ckpt_path)
    vae = StandInVae({"stand_in": torch.zeros(tiny_models.LATENT[family][0])})
    return model, StandInTextEncoder(family), vae, None


class TestInputs:
    """Seeded positive and negative condition and the empty latent of a family."""

    RETURN_TYPES = ("CONDITIONING", "CONDITIONING", "LATENT")
    FUNCTION, CATEGORY = "make", "testing"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (ComfyUI's name)
        return {"required": {"family": (sorted(tiny_models.LATENT),)}}

    def make(self, family: str) -> tuple[Any, ...]:
        conditions = (tiny_models.conditioning(family, seed) for seed in (1, 2))
        return (*conditions, {"samples": torch.zeros(1, *tiny_models.LATENT[family])})


class TestPicture:
    """LATENT -> IMAGE without a VAE."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION, CATEGORY = "show", "testing"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {"required": {"samples": ("LATENT",)}}

    def show(self, samples: dict[str, Tensor]) -> tuple[Tensor]:
        return (picture(samples["samples"]),)


class TestSlowModel:
    """A model whose every call takes some seconds longer."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION, CATEGORY = "slow", "testing"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {"required": {"model": ("MODEL",), "seconds": ("FLOAT", {"default": 0.5})}}

    def slow(self, model: Any, seconds: float) -> tuple[Any]:
        def wrapper(apply: Any, call: dict[str, Any]) -> Tensor:
            output = apply(call["input"], call["timestep"], **call["c"])
            time.sleep(seconds)  # after it, so that an interrupt comes out of the sampler's callback
            return output

        clone = model.clone()
        clone.set_model_unet_function_wrapper(wrapper)
        return (clone,)


class TestTrainedFlux:
    """The trained tiny FLUX with all its prompts, as a list, and the first alone, and a VAE."""

    RETURN_TYPES = ("MODEL", "CONDITIONING", "VAE", "LATENT", "CONDITIONING")
    OUTPUT_IS_LIST = (False, True, False, False, False)
    FUNCTION, CATEGORY = "make", "testing"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {"required": {}}

    def make(self) -> tuple[Any, ...]:
        latent, prompts = {"samples": torch.zeros(1, 16, 8, 8)}, trained_flux.prompts()
        return trained_flux.model(), prompts, TrainedFluxVae(), latent, prompts[0]


class TrainedFluxVae:
    """The pictures that the trained tiny FLUX has learned, larger."""

    def decode(self, latent: Tensor, **options: Any) -> Tensor:
        pictures = torch.nn.functional.pixel_shuffle(latent[:, :12] / 1.5, 2) / 2 + 0.5
        return pictures.clamp(0, 1).repeat_interleave(8, 2).repeat_interleave(8, 3).movedim(1, -1)


make_models()
comfy.sd.load_clip, comfy.sd.VAE, comfy.sd.load_checkpoint_guess_config = load_clip, StandInVae, load_checkpoint
NODE_CLASS_MAPPINGS = {node.__name__: node for node in (TestInputs, TestPicture, TestSlowModel, TestTrainedFlux)}
