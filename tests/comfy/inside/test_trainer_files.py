"""What the trainer loads through ComfyUI beside a diffusion model: LoRAs, VAE, text encoders; and its dtype."""

import os

import pytest
import tiny_models
import torch
from safetensors.torch import save_file

PROMPTS = ("a fox", "two hares", "a fox in the snow")


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """(file of a tiny SD3, file of conditions for it)."""
    folder = tmp_path_factory.mktemp("sd3")
    save_file(tiny_models.state_dict("sd3"), folder / "sd3.safetensors")
    rows = [tiny_models.conditioning("sd3", seed)[0] for seed in (1, 3)]
    tensors = {"cross_attn": torch.cat([cross for cross, _ in rows])}
    tensors["pooled"] = torch.cat([extra["pooled_output"] for _, extra in rows])
    save_file(tensors, folder / "conditions.safetensors")
    return folder / "sd3.safetensors", folder / "conditions.safetensors"


def checkpoint(trainer, model, cache=None, **options):
    from trainer.checkpoints.comfy.options import ComfyOptions

    given = {"width": 64, "cfg": 1.0} | ({} if "prompts" in options else {"conditioning": model[1]})
    return trainer.ComfyCheckpoint(model[0], ComfyOptions(**{**given, **options}), cache)


def answer(made, prompts=(0, 1)):
    noise, _ = made.draw(torch.Generator().manual_seed(0), len(prompts))
    sigma = made.schedule(4)[1].float().expand(len(prompts))
    with torch.inference_mode():
        return made.denoise(noise, sigma, torch.tensor(prompts))


def lora(path, layer="joint_blocks.0.x_block.attn.proj", seed=0):
    """A LoRA of rank 2 for a layer of 128 x 128."""
    path.parent.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    up, down = (torch.randn(shape, generator=generator) * 0.2 for shape in ((128, 2), (2, 128)))
    save_file({f"diffusion_model.{layer}.lora_{name}.weight": w for name, w in (("up", up), ("down", down))}, path)
    return path


def test_a_lora_changes_answers_and_fingerprint_by_content_and_strength(trainer, model, tmp_path):
    plain = checkpoint(trainer, model)
    first, other = lora(tmp_path / "a" / "l.safetensors", seed=0), lora(tmp_path / "b" / "l.safetensors", seed=1)
    made = [
        plain,
        *(checkpoint(trainer, model, lora=(name,)) for name in (f"{first}:1", f"{first}:0.5", f"{other}:1")),
        checkpoint(trainer, model, lora=(f"{first}:1", f"{other}:1")),
    ]
    assert len({one.fingerprint for one in made}) == 5
    changes = [float((answer(one) - answer(plain)).norm()) for one in made]
    assert changes[0] == 0 and min(changes[1:]) > 0 and len(set(changes)) == 5
    assert changes[2] < changes[1]
    assert checkpoint(trainer, model, lora=(f"{first}:0",)).made_for["lora"] == [f"{first}:0"]


def test_a_lora_for_another_model_is_refused(trainer, model, tmp_path):
    from trainer.run.errors import CheckpointError

    path = lora(tmp_path / "l.safetensors", layer="double_blocks.0.img_attn.proj")
    with pytest.raises(CheckpointError, match=r"--lora .*l\.safetensors: nothing in it fits .* SD3"):
        checkpoint(trainer, model, lora=(f"{path}:1",))


def test_the_text_part_of_a_lora_is_left_to_the_text_encoders(trainer, model, tmp_path):
    """It alone leaves the network as it is, and is no error."""
    weights = {f"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_{end}.weight": torch.ones(4, 4) for end in ("up",)}
    save_file(weights, tmp_path / "text.safetensors")
    made = checkpoint(trainer, model, lora=(str(tmp_path / "text.safetensors"),))
    assert torch.equal(answer(made), answer(checkpoint(trainer, model)))
    assert [one.path for one in made._loaded.text_loras] == [tmp_path / "text.safetensors"]


@pytest.mark.parametrize(
    ("dtype", "kept", "error"),
    [("fp32", torch.float32, 0), ("bf16", torch.bfloat16, 0.02), ("fp8_e4m3fn", torch.float8_e4m3fn, 0.3)],
)
def test_weights_are_kept_in_the_dtype_and_answers_stay_near(trainer, model, dtype, kept, error):
    made, plain = checkpoint(trainer, model, dtype=dtype), answer(checkpoint(trainer, model))
    layer = made._loaded.patcher.model.diffusion_model.get_submodule("joint_blocks.0.x_block.attn.proj")
    assert layer.weight.dtype == kept
    difference = float((answer(made) - plain).norm() / plain.norm())
    assert (difference == 0) if error == 0 else (0 < difference < error)
    assert made.made_for["dtype"] == dtype


def tiny_vae(path, channels):
    """ComfyUI's smallest VAE with random weights."""
    from comfy.taesd.taesd import TAESD

    generator = torch.Generator().manual_seed(0)
    weights = TAESD(latent_channels=channels).state_dict()
    save_file({name: 0.1 * torch.randn(w.shape, generator=generator) for name, w in weights.items()}, path)
    return str(path)


def test_pictures_come_out_of_the_vae(trainer, model, tmp_path):
    made = checkpoint(trainer, model, vae=tiny_vae(tmp_path / "vae.safetensors", 16))
    found = made.images(answer(made).clone())
    assert found.shape == (2, 64, 64, 3) and not found.requires_grad
    assert 0 <= float(found.min()) < float(found.max()) <= 1
    assert not torch.equal(found[0], found[1])
    assert made.made_for["vae"] == "vae.safetensors"


def test_a_vae_of_another_model_is_refused(trainer, model, tmp_path):
    from trainer.run.errors import CheckpointError

    made = checkpoint(trainer, model, vae=tiny_vae(tmp_path / "sd15.safetensors", 4))
    with pytest.raises(CheckpointError, match=r"--vae .*sd15\.safetensors: not a VAE for 16 channels of SD3"):
        made.images(answer(made))
    with pytest.raises(CheckpointError, match=r"--vae missing: no such file"):
        checkpoint(trainer, model, vae="missing")


class Encoder:
    """Stands for ComfyUI's CLIP, whose smallest is too large for a test."""

    def __init__(self, mask=False, deaf=False):
        self.mask, self.deaf, self.seen = mask, deaf, []

    def tokenize(self, prompt):
        return prompt

    def encode_from_tokens_scheduled(self, prompt):
        self.seen.append(prompt)
        generator = torch.Generator().manual_seed(0 if self.deaf else len(prompt))
        extra = {"pooled_output": torch.randn(1, tiny_models.POOLED["sd3"], generator=generator)}
        if self.mask:
            extra["attention_mask"] = torch.ones(1, 7, dtype=torch.int64)
        return [[torch.randn(1, *tiny_models.CONTEXT["sd3"], generator=generator), extra]]


@pytest.fixture
def prompted(trainer, model, tmp_path, monkeypatch):
    """Makes a checkpoint whose prompts a given encoder encodes."""
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    (tmp_path / "clip.safetensors").write_bytes(b"an encoder")

    def make(encoder, **options):
        monkeypatch.setattr(trainer.Loaded, "clip", lambda loaded, files, kind: encoder)
        named = {"prompts": tmp_path / "prompts.txt", "clip": (str(tmp_path / "clip.safetensors"),)}
        return checkpoint(trainer, model, tmp_path / "cache", **{**named, "negative": "blurry", **options})

    return make


def test_prompts_are_encoded_once_and_the_encoder_is_gone_before_the_first_step(prompted, monkeypatch):
    import comfy.model_management as management

    encoder, unloaded = Encoder(), []
    monkeypatch.setattr(management, "unload_all_models", lambda: unloaded.append(len(encoder.seen)))
    first = prompted(encoder)
    assert encoder.seen == [*PROMPTS, "blurry"] and unloaded == [4]
    again = prompted(encoder)
    assert len(encoder.seen) == 4
    assert again.fingerprint == first.fingerprint
    assert torch.equal(answer(again), answer(first))
    assert first.captions(torch.tensor([2, 0])) == [PROMPTS[2], PROMPTS[0]]
    assert first.made_for["prompts"] == 3 and first.made_for["prompts_file"] == "prompts.txt"
    assert first.made_for["text_encoders"] == ["clip.safetensors"] and first.made_for["negative"] == "blurry"


def test_the_fingerprint_goes_by_the_content_of_an_encoder_not_by_its_date(prompted, tmp_path):
    before = prompted(Encoder()).fingerprint
    os.utime(tmp_path / "clip.safetensors", (1, 1))
    assert prompted(Encoder()).fingerprint == before
    (tmp_path / "clip.safetensors").write_bytes(b"another one")
    assert prompted(Encoder()).fingerprint != before
    assert prompted(Encoder(), negative="dark").fingerprint != before


def test_masks_of_the_encoders_reach_the_network_one_prompt_at_a_time(prompted):
    """ComfyUI counts the tokens of a mask over the whole batch. The cache keeps them."""
    for made in (prompted(Encoder(mask=True)), prompted(Encoder(mask=True))):
        assert made._texts([0, 1]) is None
        ((_, extra),) = made._texts([1])["positive"]
        assert torch.equal(extra["attention_mask"], torch.ones(1, 7, dtype=torch.int64))
        both, alone = answer(made, (0, 1)), answer(made, (0, 2))
        assert torch.equal(both[0], alone[0]) and not torch.equal(both[1], alone[1])


def test_a_file_that_is_no_encoder_of_the_family_is_refused(prompted):
    """ComfyUI loads any file as a text encoder, and leaves the weights that are missing as they lay in memory."""
    from trainer.run.errors import CheckpointError

    with pytest.raises(CheckpointError, match=r"clip\.safetensors: not text encoders of SD3; name them with --clip"):
        prompted(Encoder(deaf=True))


def test_a_condition_of_the_wrong_width_is_named(trainer, model, tmp_path):
    from trainer.run.errors import CheckpointError

    save_file({"cross_attn": torch.randn(2, 7, 50), "pooled": torch.randn(2, 40)}, tmp_path / "wide.safetensors")
    made = checkpoint(trainer, model, conditioning=tmp_path / "wide.safetensors")
    with pytest.raises(CheckpointError, match=r"SD3 fails on .*condition of \[1, 7, 50\].*--conditioning"):
        answer(made)
