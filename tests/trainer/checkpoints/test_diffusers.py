"""A folder of diffusers as the trainer's checkpoint: asked, scheduled and pictured as its pipeline does it."""

import re
import runpy
from pathlib import Path

import pytest
import torch

import dyweight
from trainer import distill
from trainer.checkpoints.load import load_checkpoint
from trainer.options.checkpoint import CheckpointOptions
from trainer.run.errors import CheckpointError

WITHOUT = "diffusers is not installed, so fitting to it is NOT TESTED: pip install diffusers transformers"
tiny = pytest.importorskip("tests.tiny_pipelines", reason=WITHOUT)
diffusers = pytest.importorskip("diffusers", reason=WITHOUT)
transformers = pytest.importorskip("transformers", reason=WITHOUT)
DyWeightScheduler = pytest.importorskip("dyweight.diffusers", reason=WITHOUT).DyWeightScheduler

ROUNDING = 4e-6
LETTERS = "abcdefghijklmnopqrstuvwxyz"
CODERS = (("down", "Encoder"), ("up", "Decoder"))
SIZE = {"width": 64, "height": 64}


def clip(width):
    """(tokenizer, text encoder) that spell."""
    pieces = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    words = {piece: number for number, piece in enumerate(pieces)}
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "hidden_size": width}
    config = transformers.CLIPTextConfig(
        vocab_size=len(words), max_position_embeddings=12, eos_token_id=len(words) - 1, pad_token_id=0, **layers
    )
    tokenizer = transformers.CLIPTokenizer(vocab=words, merges=[], model_max_length=12)
    return tokenizer, tiny.seeded(transformers.CLIPTextModel(config))


def t5(width):
    """(tokenizer, text encoder) that spell."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -1.0), *((letter, -2.0) for letter in LETTERS)]
    layers = {"num_layers": 1, "num_heads": 2, "d_kv": 8, "d_ff": 16, "d_model": width}
    encoder = transformers.T5EncoderModel(transformers.T5Config(vocab_size=len(pieces), **layers))
    return transformers.T5Tokenizer(vocab=pieces, extra_ids=0), tiny.seeded(encoder)


def vae(channels, **config):
    blocks = {f"{way}_block_types": (f"{way.title()}{kind}Block2D",) * 4 for way, kind in CODERS}
    return tiny.seeded(
        diffusers.AutoencoderKL(
            latent_channels=channels, block_out_channels=(4,) * 4, norm_num_groups=2, **blocks, **config
        )
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Pipelines with encoders and VAE, as `save_pretrained` writes them, and a file of two prompts."""
    folder = tmp_path_factory.mktemp("diffusers")
    flux, sd = tiny.flux().pipe, tiny.stable_diffusion().pipe
    flux.register_modules(**dict(zip(("tokenizer", "text_encoder"), clip(20), strict=True)))
    flux.register_modules(**dict(zip(("tokenizer_2", "text_encoder_2"), t5(24), strict=True)))
    flux.register_modules(vae=vae(16, shift_factor=0.1, scaling_factor=0.4))
    sd.register_modules(**dict(zip(("tokenizer", "text_encoder"), clip(24), strict=True)), vae=vae(4))
    flux.save_pretrained(folder / "flux")
    sd.save_pretrained(folder / "sd")
    (folder / "prompts.txt").write_text("a fox in the snow\ntwo hares\n", "utf-8")
    return folder


def loaded(folders, name, **options):
    given = {"prompts": folders / "prompts.txt", **(SIZE if name == "flux" else {}), **options}
    return load_checkpoint(f"diffusers:{folders / name}", CheckpointOptions(**given))


def pipeline(folders, name):
    pipe = diffusers.DiffusionPipeline.from_pretrained(folders / name)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def solver(checkpoint, steps=3):
    made, generator = dyweight.DyWeight(checkpoint.schedule(steps)), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in (made.weights, made.time_scale):
            value += (value != 0) * 0.05 * torch.randn(value.shape, generator=generator, dtype=torch.float64)
    return made.requires_grad_(False)


def difference(one, other):
    assert one.shape == other.shape
    return float((one - other).abs().max() / other.abs().max())


@pytest.mark.parametrize(
    ("name", "options", "inputs"),
    [
        ("flux", {"guidance": 2.0}, {**SIZE, "guidance_scale": 2.0}),
        ("flux", {"cfg": 3.0}, {**SIZE, "true_cfg_scale": 3.0, "negative_prompt": ""}),
        ("sd", {}, {"guidance_scale": 7.5}),
        ("sd", {"cfg": 3.0, "negative": "rain"}, {"guidance_scale": 3.0, "negative_prompt": "rain"}),
    ],
    ids=str,
)
def test_what_is_fitted_is_what_the_pipeline_samples(folders, name, options, inputs, tmp_path):
    checkpoint, pipe = loaded(folders, name, **options), pipeline(folders, name)
    made = solver(checkpoint)
    noise, cond = checkpoint.draw(torch.Generator().manual_seed(1), 4)
    assert set(cond.tolist()) == {0, 1}
    with torch.inference_mode():
        end = dyweight.sample(lambda x, sigma: checkpoint.denoise(x, sigma, cond), noise, made.plan())
    dyweight.save_solver(made, tmp_path / "made.safetensors", {"prediction_type": checkpoint.prediction_type})
    pipe.scheduler = DyWeightScheduler.from_file(tmp_path / "made.safetensors", pipe.scheduler.config)
    given = {"num_inference_steps": 3, "output_type": "latent", **inputs}
    if "negative_prompt" in given:
        given["negative_prompt"] = [given["negative_prompt"]] * 4
    latents = noise / pipe.scheduler.init_noise_sigma
    in_pipeline = pipe(checkpoint.captions(cond), latents=latents, **given).images
    assert difference(end, in_pipeline) < ROUNDING
    assert difference(end, pipe(checkpoint.captions(1 - cond), latents=latents, **given).images) > 1e-3


def test_each_sample_is_asked_at_its_own_level(folders):
    checkpoint = loaded(folders, "sd")
    noise, cond = checkpoint.draw(torch.Generator().manual_seed(1), 3)
    sigma = torch.tensor([9.0, 2.0, 9.0])
    together = checkpoint.denoise(noise, sigma, cond)
    for i in range(3):
        alone = checkpoint.denoise(noise[i : i + 1], sigma[i : i + 1], cond[i : i + 1])
        assert difference(together[i : i + 1], alone) < ROUNDING


def test_the_schedule_is_that_of_the_pipeline_at_its_size(folders):
    scheduler, mu = pipeline(folders, "flux").scheduler, 0.5 + 0.65 * (16 - 256) / (4096 - 256)
    scheduler.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25], mu=mu)
    assert torch.allclose(loaded(folders, "flux").schedule(4), scheduler.sigmas.double(), rtol=1e-6)
    sd = loaded(folders, "sd")
    top = float(dyweight.schedules.vp_discrete(3)[0])
    for steps in (3, 7):
        assert float(sd.schedule(steps)[0]) == pytest.approx(top, rel=1e-5)
        assert float(sd.schedule(steps)[-1]) == 0


@pytest.mark.parametrize("name", ["flux", "sd"])
def test_pictures_are_those_of_the_pipeline(folders, name):
    checkpoint, pipe = loaded(folders, name), pipeline(folders, name)
    noise, _ = checkpoint.draw(torch.Generator().manual_seed(1), 2)
    shown = checkpoint.images(noise)
    latents = noise
    if name == "flux":
        latents = pipe._unpack_latents(noise, 64, 64, 8)
    plain = latents / pipe.vae.config.scaling_factor + (pipe.vae.config.shift_factor or 0)
    with torch.no_grad():
        expected = (pipe.vae.decode(plain).sample / 2 + 0.5).clamp(0, 1).movedim(1, -1)
    assert torch.allclose(shown, expected, atol=1e-5)


def test_a_fit_needs_no_comfyui_and_its_file_runs_in_the_pipeline(folders, tmp_path, capsys):
    out = tmp_path / "flux-3.safetensors"
    model = ["--ckpt", f"diffusers:{folders / 'flux'}", "--prompts", str(folders / "prompts.txt"), "--width", "64"]
    small = ["--pairs", "8", "--teacher", "ipndm:10", "--iterations", "3", "--cache", str(tmp_path)]
    assert distill.main([*model, "--steps", "3", *small, "--out", str(out)]) == 0, capsys.readouterr().err
    made_for = dyweight.SolverFile.read(out).provenance
    expected = {"model": "flux", "model_family": "Flux", "prediction_type": "flow", "guidance": 3.5, "cfg": 1.0}
    expected |= {"shape": [16, 8, 8], "width": 64, "height": 64, "prompts": 2, "pipeline": "FluxPipeline"}
    assert {name: made_for[name] for name in expected} == expected
    assert made_for["endpoint_error_after"] < made_for["endpoint_error_before"]
    pipe = pipeline(folders, "flux")
    pipe.scheduler = DyWeightScheduler.from_file(out, pipe.scheduler.config)
    picture = pipe("a fox", num_inference_steps=3, output_type="pt", **SIZE).images
    assert picture.shape == (1, 3, 64, 64) and bool(torch.isfinite(picture).all())


def test_the_family_is_comfyuis_where_the_pipeline_tells_it(folders):
    assert loaded(folders, "sd").model_family == "SD20"  # by the width of its text, which is not SD 1.5's
    assert loaded(folders, "flux").model_family == "Flux"


def test_a_batch_of_prompts_is_encoded_once(folders):
    checkpoint, encoded = loaded(folders, "flux"), []
    pipe = checkpoint.made._pipe
    pipe.text_encoder.register_forward_hook(lambda *call: encoded.append(1))
    noise, _ = checkpoint.draw(torch.Generator().manual_seed(1), 2)
    for sigma in (1.0, 0.7, 0.4):
        for cond in (torch.tensor([0, 1]), torch.tensor([1, 0])):
            checkpoint.denoise(noise, torch.full((2,), sigma), cond)
    assert len(encoded) == 2


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("nowhere", {}, "nowhere: give a folder with a pipeline's model_index.json"),
        ("flux", {"dtype": "fp8_e5m2"}, "--dtype fp8_e5m2 is for ComfyUI: give one of fp16, bf16, fp32"),
        ("sd", {"guidance": 3.5}, "--guidance 3.5: leave it out, StableDiffusionPipeline has no such input"),
        ("flux", {"frames": 9}, "--frames 9: leave it out, FluxPipeline has no such input"),
        ("flux", {"lora": ("a.safetensors",)}, "--lora is for checkpoints of ComfyUI, and --ckpt diffusers:"),
    ],
)
def test_what_can_not_be_used_is_named(folders, name, options, said):
    with pytest.raises(CheckpointError, match=said):
        loaded(folders, name, **options)


def test_a_damaged_folder_is_named(folders, tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline", "vae": ["diffusers", "AutoencoderKL"]}')
    with pytest.raises(CheckpointError, match=f"{tmp_path}: diffusers can't load it"):
        load_checkpoint(f"diffusers:{tmp_path}")


def test_the_lines_of_the_page_run(folders, tmp_path, monkeypatch):
    """With the small pipeline in place of FLUX.1-dev, and a preset of the pack."""
    root, loading = Path(__file__).parents[3], diffusers.FluxPipeline.from_pretrained
    (lines,) = re.findall("```python\n(.*?)```", (root / "docs" / "diffusers.md").read_text("utf-8"), re.DOTALL)
    preset = re.search(r'"(dyweight/presets/.+?)"', lines)[1]
    monkeypatch.setattr(diffusers.FluxPipeline, "from_pretrained", lambda name, **dtype: loading(folders / "flux"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.py").write_text(lines.replace(preset, str(root / preset)).replace('.to("cuda")', ""), "utf-8")
    runpy.run_path(str(tmp_path / "page.py"))
    assert (tmp_path / "fox.png").stat().st_size > 1000
