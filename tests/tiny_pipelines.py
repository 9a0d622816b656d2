"""Pipelines of diffusers around tiny networks of its own classes, and each network asked without its pipeline."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

import dyweight
from dyweight.diffusers import DyWeightScheduler

STEPS = 4
Ask = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Tiny:
    """A pipeline, and what it is called with besides the number of steps."""

    pipe: Any
    shape: tuple[int, ...]
    """Of one latent as the pipeline hands it to its scheduler."""
    inputs: dict[str, Any]
    output: Ask
    """(x [B, *shape], sigma [B]) -> what the network says, after guidance."""


def seeded(network: nn.Module) -> nn.Module:
    """The network with weights that make its answer depend on all its inputs."""
    generator = torch.Generator().manual_seed(0)
    for _, value in sorted(network.named_parameters()):
        if value.ndim > 1:
            value.data = torch.randn(value.shape, generator=generator) * 0.7 / value[0].numel() ** 0.5
        elif not bool((value == 1).all()):  # a norm
            value.data = torch.randn(value.shape, generator=generator) * 0.1
    return network.eval().requires_grad_(False)


def text(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def flux(batch: int = 1, pipeline: str = "FluxPipeline") -> Tiny:
    network = seeded(
        diffusers.FluxTransformer2DModel(
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=24,
            pooled_projection_dim=20,
            guidance_embeds=True,
            axes_dims_rope=(4, 6, 6),
        )
    )
    parts = dict.fromkeys(("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    pipe = getattr(diffusers, pipeline)(transformer=network, scheduler=scheduler, **parts)
    said = {"prompt_embeds": text(batch, 7, 24), "pooled_prompt_embeds": text(batch, 20, seed=2)}
    places = torch.cartesian_prod(torch.zeros(1), torch.arange(4.0), torch.arange(4.0))

    def velocity(x: Tensor, sigma: Tensor) -> Tensor:
        return network(
            hidden_states=x,
            timestep=sigma,
            guidance=torch.full((len(x),), 3.5),
            encoder_hidden_states=said["prompt_embeds"].to(x.dtype),
            pooled_projections=said["pooled_prompt_embeds"].to(x.dtype),
            txt_ids=torch.zeros(7, 3),
            img_ids=places,
        ).sample

    return Tiny(pipe, (16, 64), {**said, "guidance_scale": 3.5, "height": 64, "width": 64}, velocity)


def stable_diffusion(
    batch: int = 1, pipeline: str = "StableDiffusionPipeline", predicts: str = "epsilon", cfg: float = 5.0
) -> Tiny:
    network = seeded(
        diffusers.UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
            attention_head_dim=4,
            cross_attention_dim=24,
        )
    )
    scheduler = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=predicts, steps_offset=1
    )
    parts = dict.fromkeys(("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    pipe = getattr(diffusers, pipeline)(unet=network, scheduler=scheduler, requires_safety_checker=False, **parts)
    said = {"prompt_embeds": text(batch, 7, 24), "negative_prompt_embeds": text(batch, 7, 24, seed=2)}
    log_sigmas = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt().double().log()

    def output(x: Tensor, sigma: Tensor) -> Tensor:
        time = (sigma[0].double().log() - log_sigmas).abs().argmin()
        scaled = x / (1 + sigma[0] ** 2).sqrt()
        without, with_prompt = (
            network(scaled, time, said[f"{kind}prompt_embeds"]).sample for kind in ("negative_", "")
        )
        return without + cfg * (with_prompt - without)

    size = {"height": 64, "width": 64} if pipeline == "StableDiffusionPipeline" else {}
    return Tiny(pipe, (4, 8, 8), {**said, **size, "guidance_scale": cfg}, output)


def stable_diffusion_3(batch: int = 1) -> Tiny:
    network = seeded(
        diffusers.SD3Transformer2DModel(
            sample_size=8,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=24,
            caption_projection_dim=16,
            pooled_projection_dim=20,
            pos_embed_max_size=16,
        )
    )
    parts = [f"{kind}{number}" for kind in ("text_encoder", "tokenizer") for number in ("", "_2", "_3")]
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipe = diffusers.StableDiffusion3Pipeline(
        transformer=network, scheduler=scheduler, vae=None, **dict.fromkeys(parts)
    )
    said = {
        f"{sign}{kind}prompt_embeds": text(batch, *shape, seed=seed)
        for sign, seed in (("", 1), ("negative_", 2))
        for kind, shape in (("", (7, 24)), ("pooled_", (20,)))
    }

    def velocity(x: Tensor, sigma: Tensor) -> Tensor:
        with_prompt, without = (
            network(
                hidden_states=x,
                timestep=1000 * sigma,
                encoder_hidden_states=said[f"{sign}prompt_embeds"],
                pooled_projections=said[f"{sign}pooled_prompt_embeds"],
            ).sample
            for sign in ("", "negative_")
        )
        return without + 4.0 * (with_prompt - without)

    return Tiny(pipe, (16, 8, 8), {**said, "guidance_scale": 4.0, "height": 64, "width": 64}, velocity)


def qwen_image(batch: int = 1) -> Tiny:
    network = seeded(
        diffusers.QwenImageTransformer2DModel(
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=24,
            axes_dims_rope=(4, 6, 6),
        )
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.02)
    parts = dict.fromkeys(("vae", "text_encoder", "tokenizer"))
    pipe = diffusers.QwenImagePipeline(transformer=network, scheduler=scheduler, **parts)
    said = {"prompt_embeds": text(batch, 7, 24), "prompt_embeds_mask": torch.ones(batch, 7, dtype=torch.int64)}

    def velocity(x: Tensor, sigma: Tensor) -> Tensor:
        return network(
            hidden_states=x,
            timestep=sigma,
            encoder_hidden_states=said["prompt_embeds"],
            encoder_hidden_states_mask=None,
            img_shapes=[[(1, 4, 4)]] * len(x),
        ).sample

    return Tiny(pipe, (16, 64), {**said, "height": 64, "width": 64}, velocity)


def wan(batch: int = 1) -> Tiny:
    network = seeded(
        diffusers.WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=12, text_dim=24, freq_dim=16, ffn_dim=32, num_layers=1
        )
    )
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    parts = dict.fromkeys(("vae", "text_encoder", "tokenizer"))
    pipe = diffusers.WanPipeline(transformer=network, scheduler=scheduler, **parts)
    said = {"prompt_embeds": text(batch, 7, 24), "negative_prompt_embeds": text(batch, 7, 24, seed=2)}

    def velocity(x: Tensor, sigma: Tensor) -> Tensor:
        with_prompt, without = (
            network(hidden_states=x, timestep=1000 * sigma, encoder_hidden_states=said[f"{sign}prompt_embeds"]).sample
            for sign in ("", "negative_")
        )
        return without + 5.0 * (with_prompt - without)

    size = {"height": 64, "width": 64, "num_frames": 5}
    return Tiny(pipe, (16, 2, 8, 8), {**said, **size, "guidance_scale": 5.0}, velocity)


def learned(sigmas: Tensor, spread: float = 0.1, **settings: Any) -> dyweight.DyWeight:
    """A solver with weights and time scales away from 1, as a learned one has."""
    solver, generator = dyweight.DyWeight(sigmas, **settings), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in (solver.weights, solver.time_scale):
            value += (value != 0) * spread * torch.randn(value.shape, generator=generator, dtype=torch.float64)
    return solver.requires_grad_(False)


def scheduler(solver: Any, prediction: str | None = "flow", config: Any = None) -> DyWeightScheduler:
    """Of a file that says this of its solver."""
    said: dyweight.Provenance = {"prediction_type": prediction} if prediction else {}
    return DyWeightScheduler.from_solver(dyweight.SolverFile(solver, said), config)


def noise_for(model: Tiny, batch: int = 2) -> Tensor:
    return torch.randn(batch, *model.shape, generator=torch.Generator().manual_seed(3))


def run(model: Tiny, scheduler: Any, steps: int = STEPS, **inputs: Any) -> Tensor:
    """The endpoint of a pipeline."""
    model.pipe.scheduler = scheduler
    model.pipe.set_progress_bar_config(disable=True)
    given = {**model.inputs, "num_inference_steps": steps, "output_type": "latent", "return_dict": False, **inputs}
    return model.pipe(**given)[0]


def expected(model: Tiny, plan: dyweight.Plan, x: Tensor, predicts: str = "flow", callback: Any = None) -> Tensor:
    """The endpoint of the sampling loop, with the textbook's clean x of what the network says."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        said, sigma = model.output(x, sigma), sigma.reshape(-1, *[1] * (x.ndim - 1))
        if predicts == "v":
            return x / (1 + sigma**2) - said * sigma / (1 + sigma**2).sqrt()
        return x - sigma * said

    with torch.inference_mode():
        return dyweight.sample(denoise, x, plan, callback)


def difference(one: Tensor, other: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    assert one.shape == other.shape
    return float((one.float() - other).abs().max() / other.abs().max())
