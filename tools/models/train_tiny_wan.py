"""Train the two networks of a tiny Wan 2.2: `python -m tools.models.train_tiny_wan FOLDER`.

ComfyUI's own Wan class with 0.9 M parameters learns flow matching on the pictures of `train_tiny_flux`, as videos of
one frame; `high.safetensors` at the noise levels from the boundary up, `low.safetensors` at those below it.
"""

import argparse
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tools.models.train_tiny_flux import pictures_of, to_latent
from trainer.checkpoints.builtin.shapes_data import PROMPTS
from trainer.checkpoints.comfy.gradients import differentiable
from trainer.checkpoints.comfy.installation import find_comfyui, start

TOKENS, WIDTH, SHIFT = 4, 4096, 8.0
"""Tokens and width of a text condition, which ComfyUI's detection fixes, and the shift of ComfyUI's Wan."""
BOUNDARY = 0.875
HIGH, LOW, CONDITIONS = "high.safetensors", "low.safetensors", "conditions.safetensors"


def conditioning(prompts: Tensor) -> Tensor:
    """[B, 4, 4096] of prompt numbers [B]: what a text encoder would say, fixed and seeded."""
    context = torch.randn(len(PROMPTS), TOKENS, WIDTH, generator=torch.Generator().manual_seed(20))
    return context[prompts]


def new_model() -> torch.nn.Module:
    """ComfyUI's Wan, small, with seeded weights."""
    import comfy.ldm.wan.model
    import comfy.ops

    torch.manual_seed(0)
    given = {"dtype": torch.float32, "device": "cpu", "operations": comfy.ops.manual_cast}
    model: torch.nn.Module = comfy.ldm.wan.model.WanModel(
        model_type="t2v", dim=128, ffn_dim=256, num_heads=1, num_layers=2, **given
    )
    for name, value in model.named_parameters():
        if "modulation" in name:
            torch.nn.init.normal_(value, std=value.shape[-1] ** -0.5)
        elif value.ndim > 1:
            torch.nn.init.xavier_uniform_(value.flatten(1))
        else:
            torch.nn.init.constant_(value, 1.0 if "norm" in name and name.endswith("weight") else 0.0)
    torch.nn.init.zeros_(model.head.head.weight)  # type: ignore[union-attr, arg-type]
    return model


def train(low: float, high: float, steps: int, batch: int, rate: float) -> torch.nn.Module:
    """Flow matching at noise levels from low to high, spread as the sampler's shift spreads them."""
    model, generator = new_model(), torch.Generator().manual_seed(1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0, betas=(0.9, 0.98))
    warm = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    average = {name: value.detach().clone() for name, value in model.named_parameters()}
    began, running = time.monotonic(), 0.0
    for step in range(steps):
        prompts = torch.randint(len(PROMPTS), (batch,), generator=generator)
        clean = to_latent(pictures_of(prompts, generator)).unsqueeze(2)
        uniform = torch.rand(batch, generator=generator)
        first, last = (level / (SHIFT - (SHIFT - 1) * level) for level in (low, high))
        uniform = first + (last - first) * uniform
        t = SHIFT * uniform / (1 + (SHIFT - 1) * uniform)
        noise = torch.randn(clean.shape, generator=generator)
        x = torch.lerp(clean, noise, t.reshape(-1, 1, 1, 1, 1))
        with differentiable():
            velocity = model(x, t * 1000, conditioning(prompts))
        loss = ((velocity - (noise - clean)) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        warm.step()
        for name, value in model.named_parameters():
            average[name].lerp_(value.detach(), 1 - min(0.999, (step + 1) / (step + 10)))
        running = 0.98 * running + 0.02 * loss.item() if step else loss.item()
        if step % 200 == 0 or step == steps - 1:
            print(f"step {step:5d}  loss {running:.4f}  {time.monotonic() - began:.0f} s", flush=True)
    model.load_state_dict(average)
    return model


def write(folder: Path, boundary: float = BOUNDARY, steps: int = 600, batch: int = 16, rate: float = 1.5e-3) -> None:
    """Train both halves and write their weights and the conditions of all prompts."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, low, high in ((HIGH, boundary, 1.0), (LOW, 0.0, boundary)):
        model = train(low, high, steps, batch, rate)
        weights = {key: value.half().contiguous() for key, value in model.state_dict().items()}
        save_file(weights, folder / name, {"made_by": "tools.models.train_tiny_wan"})
    cross = conditioning(torch.arange(len(PROMPTS)))
    tensors = {"cross_attn": cross, "negative_cross_attn": torch.zeros_like(cross[:1])}
    save_file(tensors, folder / CONDITIONS, {"prompts": "; ".join(PROMPTS)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--comfyui", type=Path)
    parser.add_argument("--boundary", type=float, default=BOUNDARY)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    given = vars(parser.parse_args())
    start(find_comfyui(given.pop("comfyui")))
    write(**given)


if __name__ == "__main__":
    main()
