"""A coefficient file gives in the FluxPipeline of diffusers what it gives in ComfyUI's nodes, with the same weights."""

import importlib
import sys
from pathlib import Path

import pytest
import sampling_tools as tools
import torch
from safetensors.torch import load_file

WITHOUT = "diffusers is not installed, so a file in it is NOT COMPARED with ComfyUI: pip install diffusers transformers"
diffusers = pytest.importorskip("diffusers", reason=WITHOUT)

ROUNDING = 1e-5
"""float32 in two implementations of the same network, after a handful of calls."""
MODELS = Path(__file__).parents[3] / "tools" / "models"
STEPS, GUIDANCE = 3, 3.5
RENAMED = {
    "double_blocks.": "transformer_blocks.",
    "single_blocks.": "single_transformer_blocks.",
    "time_in.": "time_text_embed.timestep_embedder.",
    "guidance_in.": "time_text_embed.guidance_embedder.",
    "vector_in.": "time_text_embed.text_embedder.",
    "in_layer.": "linear_1.",
    "out_layer.": "linear_2.",
    "txt_in.": "context_embedder.",
    "img_in.": "x_embedder.",
    "img_mod.lin.": "norm1.linear.",
    "txt_mod.lin.": "norm1_context.linear.",
    "modulation.lin.": "norm.linear.",
    "img_mlp.0.": "ff.net.0.proj.",
    "img_mlp.2.": "ff.net.2.",
    "txt_mlp.0.": "ff_context.net.0.proj.",
    "txt_mlp.2.": "ff_context.net.2.",
    "img_attn.proj.": "attn.to_out.0.",
    "txt_attn.proj.": "attn.to_add_out.",
    "img_attn.norm.query_norm.": "attn.norm_q.",
    "img_attn.norm.key_norm.": "attn.norm_k.",
    "txt_attn.norm.query_norm.": "attn.norm_added_q.",
    "txt_attn.norm.key_norm.": "attn.norm_added_k.",
    "norm.query_norm.": "attn.norm_q.",
    "norm.key_norm.": "attn.norm_k.",
    "linear2.": "proj_out.",
    "final_layer.linear.": "proj_out.",
    "final_layer.adaLN_modulation.1.": "norm_out.linear.",
}
SPLIT = {
    "img_attn.qkv.": ("attn.to_q.", "attn.to_k.", "attn.to_v."),
    "txt_attn.qkv.": ("attn.add_q_proj.", "attn.add_k_proj.", "attn.add_v_proj."),
    "linear1.": ("attn.to_q.", "attn.to_k.", "attn.to_v.", "proj_mlp."),
}


def converted(weights, hidden):
    """The weights of ComfyUI's Flux under the names of diffusers."""
    found = {}
    for name, value in weights.items():
        old = next((part for part in SPLIT if part in name), None)
        parts = {name: value}
        if old is not None:
            ends = [hidden * (i + 1) for i in range(3)]
            parts = {
                name.replace(old, new): part for new, part in zip(SPLIT[old], value.tensor_split(ends), strict=False)
            }
        elif "final_layer.adaLN" in name:  # here the shift comes first, there the scale
            parts = {name: torch.cat(value.chunk(2)[::-1])}
        for part, tensor in parts.items():
            for before, after in RENAMED.items():
                part = part.replace(before, after)
            found[part] = tensor.contiguous()
    return found


@pytest.fixture(scope="module")
def pipe():
    """FluxPipeline with the weights of the small trained FLUX."""
    network = diffusers.FluxTransformer2DModel(
        num_layers=1,
        num_single_layers=2,
        num_attention_heads=1,
        joint_attention_dim=64,
        pooled_projection_dim=32,
        guidance_embeds=True,
    )
    network.load_state_dict(converted(load_file(MODELS / "tiny-flux.safetensors"), 128))
    parts = dict.fromkeys(("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    return diffusers.FluxPipeline(transformer=network.eval(), scheduler=scheduler, **parts)


@pytest.fixture(scope="module")
def model(knows_flux):
    import comfy.sd

    return comfy.sd.load_diffusion_model(str(MODELS / "tiny-flux.safetensors"))


@pytest.fixture(params=["made up", pytest.param("fitted", marks=pytest.mark.slow)])
def file(request, pack, beside_comfyui, model, tmp_path):
    """A coefficient file for the model in ComfyUI."""
    path = tmp_path / "tiny-flux-3.safetensors"
    if request.param == "made up":
        solver = tools.random_solver(pack, tools.sigmas_of(model, STEPS))
        tools.save(pack, path, solver, model_family="Flux", prediction_type="flow", guidance=GUIDANCE)
    else:
        from trainer.distill import main

        given = {"ckpt": "tiny-flux.safetensors", "conditioning": "tiny-flux-conditions.safetensors"}
        named = [part for name, value in given.items() for part in (f"--{name}", str(MODELS / value))]
        counts = ["--width", "64", "--steps", str(STEPS), "--effort", "draft", "--cache", str(tmp_path)]
        assert main([*named, *counts, "--comfyui", sys.path[0], "--out", str(path)]) == 0
    return path


def test_the_pipeline_ends_where_the_nodes_end(pack, model, pipe, file):
    conditions = load_file(MODELS / "tiny-flux-conditions.safetensors")
    text, pooled = conditions["cross_attn"][5:6], conditions["pooled"][5:6]
    solver = pack.dyweight.SolverFile.read(file)
    noise = tools.call("RandomNoise", noise_seed=3)
    empty = {"samples": torch.zeros(1, 16, 8, 8)}
    in_nodes = tools.call(
        "SamplerCustomAdvanced",
        noise=noise,
        guider=tools.call(
            "BasicGuider", model=model, conditioning=[[text, {"pooled_output": pooled, "guidance": GUIDANCE}]]
        ),
        sampler=tools.call("DyWeightSampler", solver=solver),
        sigmas=tools.call("DyWeightScheduler", model=model, solver=solver, denoise=1.0),
        latent_image=empty,
    )["samples"]

    def in_diffusers(scheduler):
        pipe.scheduler = scheduler
        packed = pipe._pack_latents(noise.generate_noise(empty), 1, 16, 8, 8)
        said = {"prompt_embeds": text, "pooled_prompt_embeds": pooled, "guidance_scale": GUIDANCE}
        size = {"height": 64, "width": 64, "num_inference_steps": STEPS, "output_type": "latent"}
        return pipe._unpack_latents(pipe(latents=packed, **said, **size).images, 64, 64, 8)

    end = model.model.process_latent_in(in_nodes)
    euler = pipe.scheduler
    scheduler = importlib.import_module(f"{pack.__name__}.dyweight.diffusers").DyWeightScheduler
    apart = tools.difference(in_diffusers(scheduler.from_file(file, euler.config)), end)
    print(f"FluxPipeline from the nodes: {apart:.1e}")
    assert apart < ROUNDING
    assert tools.difference(in_diffusers(euler), end) > 0.01
    pipe.scheduler = euler
