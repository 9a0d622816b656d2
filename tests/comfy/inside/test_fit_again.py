"""Fit Solver is run again: the same fit is found or goes on, and any other begins anew."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_models
import torch
import trained_flux
from PIL import Image
from sampling_tools import answer_with, call, latent, model, random_solver, said, sigmas_of


@pytest.fixture
def run(pack, user_files, tmp_path, monkeypatch):
    """The module that runs fits; what is kept of them lies in a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return importlib.import_module(f"{pack.__name__}.nodes.fit_run")


def smooth(of):
    answer_with(of, lambda x, sigma: torch.tanh(1.3 * x) / (1 + sigma.reshape(-1, 1, 1, 1)))
    return of


def one_step(of, **changed):
    """The file of a small fit."""
    given = {"positive": [tiny_models.conditioning("sd3")], "negative": tiny_models.conditioning("sd3", seed=2)}
    given |= {"latent_image": latent("sd3"), "cfg": 2.0, "steps": "1", **changed}
    positive = given.pop("positive")
    return call("DyWeightFit", **trained_flux.fit_inputs(model=of, **given), positive=positive)


def rescaled(multiplier):
    def change(tiny, positive):
        return call("RescaleCFG", model=tiny, multiplier=multiplier), positive

    return change


def after_guidance(share):
    def change(tiny, positive):
        tiny = tiny.clone()
        tiny.set_model_sampler_post_cfg_function(lambda given: share * given["denoised"])
        return tiny, positive

    return change


def with_more(times):
    """A condition that holds an object without a digest, as a ControlNet is."""

    def change(tiny, positive):
        (cross, extra), *_ = positive
        return tiny, [[times * cross, {**extra, "held": SimpleNamespace(call=print)}]]

    return change


OTHER = {
    "plain": lambda tiny, positive: (tiny, positive),
    "RescaleCFG 0.7": rescaled(0.7),
    "RescaleCFG 0.3": rescaled(0.3),
    "a function after guidance, 0.9": after_guidance(0.9),
    "a function after guidance, 0.8": after_guidance(0.8),
    "a condition without a digest, 1": with_more(1.0),
    "a condition without a digest, 0.5": with_more(0.5),
}


def fit_of(run, guider, positive, folder):
    """The trainer's fit of what is connected, before it has run."""
    checkpoint = run.CanvasCheckpoint("tiny", guider, positive, latent("sd3"), "simple")
    options = run.DistillOptions(ckpt="tiny", steps=(1,), out=Path("x.safetensors"), effort="draft")
    return run.UnbrokenFit(checkpoint, options, folder, (), lambda calls: None)


def guiders(run):
    """By name: a guider of its own, and the prompts."""
    positive, negative, third = (tiny_models.conditioning("sd3", seed=seed) for seed in (1, 2, 3))
    for name, change in OTHER.items():
        tiny, changed = change(model("sd3"), positive)
        yield name, run.guider_of(tiny, negative, 2.0), [changed]
    for scales in ((2.0, 3.0), (9.0, 9.0)):
        dual = call("DualCFGGuider", model=model("sd3"), cond1=positive, cond2=third, negative=negative,
                    cfg_conds=scales[0], cfg_cond2_negative=scales[1], style="regular")  # fmt: skip
        yield f"two scales, {scales}", dual, []


def test_whatever_changes_what_is_sampled_is_another_fit_and_the_same_is_the_same(run, tmp_path):
    """It neither goes on where another was broken off, nor takes its file."""
    folders, settings = {}, {}
    for _ in range(2):
        for name, guider, positive in guiders(run):
            fit = fit_of(run, guider, positive, tmp_path)
            assert folders.setdefault(name, fit.folder) == fit.folder, name
            assert settings.setdefault(name, str(fit.settings())) == str(fit.settings()), name
    for told in (folders, settings):
        assert len(set(told.values())) == len(told), sorted((str(value), name) for name, value in told.items())


def test_with_a_function_that_changes_guidance_its_own_file_is_found_and_no_other(run):
    changed, _ = rescaled(0.7)(smooth(model("sd3")), None)
    first = one_step(changed)
    assert one_step(changed, name="again").path == first.path
    assert one_step(smooth(model("sd3")), name="plain").path.stem == "plain"


def test_cancelled_while_its_pictures_are_made_the_file_is_there_and_found(run, monkeypatch, user_files, tmp_path):
    def cancel(*_):
        raise run.Stopped

    with monkeypatch.context() as patched:
        patched.setattr(run, "comparison", cancel)
        with pytest.raises(run.Stopped):
            one_step(smooth(model("sd3")))
    assert [one.name for one in user_files.iterdir()] == ["tiny.safetensors"]
    assert one_step(smooth(model("sd3")), name="again").path.name == "tiny.safetensors"
    assert not list((tmp_path / "cache" / "dyweight" / "unfinished").iterdir())


def test_that_nothing_better_was_found_is_known_the_next_time(run, monkeypatch, user_files, pack):
    unbroken = sys.modules[f"{pack.__name__}.trainer.distillation.unbroken"]
    monkeypatch.setattr(unbroken, "is_worse", lambda *errors: True)
    counts = []
    for _ in range(2):
        tiny, counted = smooth(model("sd3")), [0]

        def counting(apply, given, counted=counted):
            counted[0] += 1
            return apply(given["input"], given["timestep"], **given["c"])

        tiny.set_model_unet_function_wrapper(counting)
        one_step(tiny)
        counts.append(counted[0])
    assert counts[1] < counts[0] / 2 and list(user_files.iterdir()) == []


def test_a_model_that_carries_a_solver_is_fitted_without_a_word_of_its_sampler(run, pack, caplog):
    tiny = smooth(model("sd3"))
    applied = call("DyWeightApply", model=tiny, solver=random_solver(pack, sigmas_of(tiny, 4)))
    one_step(applied)
    assert not any("sampler" in line for line in said(caplog))


@pytest.mark.parametrize("samples", [(1, 4, 128, 128), (1, 4, 64, 128)])
def test_an_empty_latent_of_another_model_is_resized_as_ksampler_does(beside_comfyui, samples):
    import comfy.latent_formats
    import comfy.sample

    from trainer.checkpoints.comfy.canvas import latent_on_canvas

    if "downscale_ratio_spacial" not in comfy.sample.fix_empty_latent_channels.__code__.co_varnames:
        pytest.skip("this ComfyUI leaves the size of an empty latent as it is")
    patcher = SimpleNamespace(get_model_object=lambda name: comfy.latent_formats.Flux2())
    empty = torch.zeros(samples)
    expected = comfy.sample.fix_empty_latent_channels(patcher, empty, 8, None).shape[1:]
    found = latent_on_canvas(patcher, {"samples": empty, "downscale_ratio_spacial": 8})
    assert found.shape == tuple(expected) == (128, samples[2] // 2, samples[3] // 2)


@pytest.mark.parametrize("made", [torch.zeros(8, 8, 3), RuntimeError("of another family"), Image.new("RGB", (8, 8))])
def test_a_preview_of_another_pack_can_not_end_a_fit(pack, monkeypatch, made):
    """Video Helper Suite's gives a tensor."""
    pictures = importlib.import_module(f"{pack.__name__}.nodes.fit_pictures")

    def decode(x):
        if isinstance(made, Exception):
            raise made
        return made

    previewer = SimpleNamespace(decode_latent_to_preview=decode)
    monkeypatch.setattr(pictures.latent_preview, "get_previewer", lambda *_: previewer)
    patcher = SimpleNamespace(load_device="cpu", model=SimpleNamespace(latent_format=None))
    checkpoint = SimpleNamespace(patcher=patcher, without_sound=lambda x: x)
    found = pictures.small_picture(checkpoint, torch.zeros(4, 8, 8))
    assert found is (made if isinstance(made, Image.Image) else None)


def test_what_a_vae_of_sound_gives_is_no_picture(pack):
    """The rough one stands in its place."""
    import comfy.latent_formats

    pictures = importlib.import_module(f"{pack.__name__}.nodes.fit_pictures")
    patcher = SimpleNamespace(model=SimpleNamespace(latent_format=comfy.latent_formats.SD15()))
    wave = SimpleNamespace(patcher=patcher, without_sound=lambda x: x, images=lambda x: torch.zeros(1, 5))
    assert pictures.comparison(wave, torch.zeros(1, 2, 4, 8, 8), ("teacher", "dyweight")).shape[-1] == 3
