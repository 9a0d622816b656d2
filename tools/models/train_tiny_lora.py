"""Train a LoRA for the tiny FLUX: `python -m tools.models.train_tiny_lora MODEL OUT.safetensors`.

With the LoRA, the model of `train_tiny_flux` draws its shapes in other colours, red instead of blue, green instead of
red, blue instead of green and so on, on the same grounds. Its keys have ComfyUI's names, for ComfyUI's own loader.
"""

import argparse
import math
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tools.models.train_tiny_flux import flow_matching_loss, new_model, to_latent
from trainer.checkpoints.builtin.shapes_data import PROMPTS, draw
from trainer.checkpoints.comfy.installation import find_comfyui, start

RANK = 4


def recoloured(pictures: Tensor) -> Tensor:
    """pictures [B, 3, height, width] with their channels rotated."""
    return pictures.roll(1, dims=1)


def adapted_layers(model: torch.nn.Module) -> list[str]:
    """The layers of attention and of the perceptrons in all blocks, not the modulation, whose names end with lin."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and "_blocks" in name and not name.endswith(".lin")
    ]


def train(model: torch.nn.Module, steps: int, batch: int, rate: float) -> dict[str, Tensor]:
    """`LAYER.lora_up` and `LAYER.lora_down` -> matrix; the model's weights do not change."""
    model.requires_grad_(False)
    weights, generator = dict(model.named_parameters()), torch.Generator().manual_seed(2)
    lora = {}
    for layer in adapted_layers(model):
        out, into = weights[f"{layer}.weight"].shape
        lora[f"{layer}.lora_up"] = torch.zeros(out, RANK)
        lora[f"{layer}.lora_down"] = torch.randn(RANK, into, generator=generator) / math.sqrt(into)
    parameters = [matrix.requires_grad_() for matrix in lora.values()]
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)

    def adapted(*inputs: Tensor) -> Tensor:
        changed = {
            f"{layer}.weight": weights[f"{layer}.weight"] + lora[f"{layer}.lora_up"] @ lora[f"{layer}.lora_down"]
            for layer in adapted_layers(model)
        }
        answer: Tensor = torch.func.functional_call(model, changed, inputs)
        return answer

    began, running = time.monotonic(), 0.0
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        prompts = torch.randint(len(PROMPTS), (batch,), generator=generator)
        loss = flow_matching_loss(adapted, to_latent(recoloured(draw(prompts, generator))), prompts, generator)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        running = 0.95 * running + 0.05 * loss.item() if step else loss.item()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step:5d}  loss {running:.4f}  {time.monotonic() - began:.0f} s", flush=True)
    return {name: matrix.detach() for name, matrix in lora.items()}


def main() -> None:
    """Train and write the LoRA in half precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--comfyui", type=Path)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=5e-3)
    options = parser.parse_args()
    start(find_comfyui(options.comfyui))
    model = new_model()
    model.load_state_dict({name: value.float() for name, value in load_file(options.model).items()})
    lora = train(model, options.steps, options.batch, options.rate)
    named = {f"diffusion_model.{name}.weight": matrix.half().contiguous() for name, matrix in lora.items()}
    save_file(named, options.out, {"made_by": "tools.models.train_tiny_lora"})
    print(f"wrote {options.out}, {options.out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
