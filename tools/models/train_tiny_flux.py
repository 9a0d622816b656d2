"""Train the tiny FLUX that tests and demos use: `python -m tools.models.train_tiny_flux OUT.safetensors`.

ComfyUI's own FLUX class with 1.3 M parameters learns flow matching on small pictures that `shapes_data.py` draws: one
round, square or triangular shape in one of six colours on a dark or bright ground, chosen by the text inputs. A picture
has 16 x 16 pixels; its 2 x 2 pixel blocks are the first 12 of the 16 latent channels, so no VAE is needed.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tools.models.small_flux import small_flux
from trainer.checkpoints.builtin.shapes_data import PROMPTS, draw
from trainer.checkpoints.comfy.gradients import differentiable
from trainer.checkpoints.comfy.installation import find_comfyui, start

TOKENS, WIDTH, POOLED = 4, 64, 32
SIZE, SHIFT = 16, 2.0
"""Of a picture in pixels, and of its training times; other sizes are shifted in proportion."""


def conditioning(prompts: Tensor) -> tuple[Tensor, Tensor]:
    """(context [B, 4, 64], pooled [B, 32]) of prompt numbers [B]: what a text encoder would say, fixed and seeded."""
    generator = torch.Generator().manual_seed(20)
    context = torch.randn(len(PROMPTS), TOKENS, WIDTH, generator=generator)
    pooled = torch.randn(len(PROMPTS), POOLED, generator=generator)
    return context[prompts], pooled[prompts]


def pictures_of(prompts: Tensor, generator: torch.Generator, size: int = SIZE) -> Tensor:
    """[B, 3, size, size] of prompt numbers [B]."""
    pictures = draw(prompts, generator)
    return pictures if size == SIZE else torch.nn.functional.interpolate(pictures, size=size, mode="bicubic")


def to_latent(pictures: Tensor) -> Tensor:
    """[B, 3, H, W] -> [B, 16, H / 2, W / 2]: 2 x 2 blocks to channels, the last four channels 0."""
    blocks = torch.nn.functional.pixel_unshuffle(pictures, 2) * 1.5
    return torch.cat([blocks, torch.zeros(len(blocks), 4, *blocks.shape[2:])], 1)


def new_model() -> torch.nn.Module:
    """ComfyUI's FLUX, small, with seeded weights."""
    torch.manual_seed(0)
    model = small_flux(128, WIDTH, POOLED)
    for name, value in model.named_parameters():
        if value.ndim > 1:
            torch.nn.init.xavier_uniform_(value)
        else:
            torch.nn.init.constant_(value, 1.0 if "norm" in name else 0.0)
    for name, value in model.named_parameters():
        if ".mod.lin" in name or "modulation.lin" in name or "adaLN" in name or name.startswith("final_layer.linear"):
            torch.nn.init.zeros_(value)
    return model


def flow_matching_loss(
    model: Callable[..., Tensor], clean: Tensor, prompts: Tensor, generator: torch.Generator
) -> Tensor:
    """A scalar, with times spread as the sampler's shift spreads them. clean: latents [B, 16, H, W] of prompts [B]."""
    noise = torch.randn(clean.shape, generator=generator)
    uniform = torch.sigmoid(torch.randn(len(clean), generator=generator))
    shift = SHIFT * 2 * clean.shape[-1] / SIZE
    t = shift * uniform / (1 + (shift - 1) * uniform)
    x = torch.lerp(clean, noise, t[:, None, None, None])
    context, pooled = conditioning(prompts)
    with differentiable():
        velocity = model(x, t, context, pooled, torch.full((len(clean),), 3.5))
    return ((velocity - (noise - clean)) ** 2).mean()


def train(
    steps: int, batch: int, rate: float, sizes: Sequence[int] = (SIZE,), begin: Path | None = None
) -> torch.nn.Module:
    """Flow matching on pictures of these sizes in turn, from the weights of a file; returns the averaged weights."""
    model, generator = new_model(), torch.Generator().manual_seed(1)
    if begin is not None:
        model.load_state_dict({name: value.float() for name, value in load_file(begin).items()})
    average = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0, betas=(0.9, 0.98))
    began, running = time.monotonic(), 0.0
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        prompts = torch.randint(len(PROMPTS), (batch,), generator=generator)
        clean = to_latent(pictures_of(prompts, generator, sizes[step % len(sizes)]))
        loss = flow_matching_loss(model, clean, prompts, generator)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        decay = min(0.999, (step + 1) / (step + 10))
        for name, value in model.named_parameters():
            average[name].lerp_(value.detach(), 1 - decay)
        running = 0.98 * running + 0.02 * loss.item() if step else loss.item()
        if step % 200 == 0 or step == steps - 1:
            print(f"step {step:5d}  loss {running:.4f}  {time.monotonic() - began:.0f} s", flush=True)
    model.load_state_dict(average)
    return model


def main() -> None:
    """Train and write the weights in half precision, 2.6 MB, and beside them the conditions of all prompts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--comfyui", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--begin", type=Path, help="weights to begin with")
    parser.add_argument("--sizes", type=int, nargs="+", default=[SIZE], help="of the pictures, multiples of 4")
    options = parser.parse_args()
    start(find_comfyui(options.comfyui))
    model = train(options.steps, options.batch, options.rate, options.sizes, options.begin)
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, options.out, {"made_by": "tools.models.train_tiny_flux"})
    write_conditions(options.out.with_name(f"{options.out.stem}-conditions.safetensors"))
    print(f"wrote {options.out}, {options.out.stat().st_size / 1e6:.1f} MB")


def write_conditions(path: Path) -> None:
    """What `--conditioning` of the trainer reads: all prompts, and zeros as the negative one."""
    context, pooled = conditioning(torch.arange(len(PROMPTS)))
    negative = {"negative_cross_attn": torch.zeros_like(context[:1]), "negative_pooled": torch.zeros_like(pooled[:1])}
    save_file({"cross_attn": context, "pooled": pooled, **negative}, path, {"prompts": "; ".join(PROMPTS)})


if __name__ == "__main__":
    main()
