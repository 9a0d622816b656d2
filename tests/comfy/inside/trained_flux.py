"""The trained tiny FLUX as a canvas has it, and as files."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(__file__).parents[3] / "tools" / "models"
MODEL = FOLDER / "tiny-flux.safetensors"
CONDITIONS = FOLDER / "tiny-flux-conditions.safetensors"
LORA = FOLDER / "tiny-flux-lora.safetensors"


def model() -> Any:
    """MODEL; ComfyUI 0.9 and newer know it."""
    import comfy.sd

    return comfy.sd.load_diffusion_model(str(MODEL))


def prompts(guidance: float = 3.5) -> list[Any]:
    """CONDITIONING of each prompt, as FluxGuidance leaves it."""
    known = load_file(CONDITIONS)
    return [
        [[cross[None], {"pooled_output": pooled[None], "guidance": guidance}]]
        for cross, pooled in zip(known["cross_attn"], known["pooled"], strict=True)
    ]


def latent(batch: int = 1) -> dict[str, Tensor]:
    return {"samples": torch.zeros(batch, 16, 8, 8)}


def fit_inputs(**changed: Any) -> dict[str, Any]:
    """What Fit Solver gets, each in a list."""
    given = {
        "latent_image": latent(),
        "steps": "5",
        "scheduler": "simple",
        "effort": "draft",
        "seed": 0,
        "name": "tiny",
    }
    return {name: [value] for name, value in {**given, **changed}.items()}
