"""Fit Solver (DyWeight): the fit is the command line's, on what is on the canvas, and can be broken off."""

import errno
import importlib
import random
import sys
from types import SimpleNamespace

import numpy
import pytest
import tiny_models
import torch
import trained_flux
from sampling_tools import answer_with, call, latent, model

FEW = {3: 750, 5: 750, 8: 1100, 12: 1600}
"""Network calls of a small draft by number of steps."""


@pytest.fixture
def run(pack, user_files, tmp_path, monkeypatch):
    """The module that runs fits; drafts are small, and what is kept of them lies in a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    module = importlib.import_module(f"{pack.__name__}.nodes.fit_run")
    budget = sys.modules[f"{pack.__name__}.trainer.fit.budget"]
    monkeypatch.setattr(budget, "DRAFT", FEW)
    return module


def fit(of, positive=None, **changed):
    """The file that the node makes of a model; of the trained tiny FLUX with all its prompts."""
    given = trained_flux.prompts() if positive is None else positive
    return call("DyWeightFit", **trained_flux.fit_inputs(model=of, **changed), positive=given)


def interrupted_at(counted, calls):
    """A clone of a model that stops ComfyUI's run at one of its calls. counted: a list that holds their number."""
    import comfy.model_management

    def wrapper(apply, options):
        counted[0] += 1
        if counted[0] == calls:
            comfy.model_management.interrupt_current_processing()
        return apply(options["input"], options["timestep"], **options["c"])

    clone = trained_flux.model()
    clone.set_model_unet_function_wrapper(wrapper)
    return clone


def test_the_trainer_comes_when_a_fit_runs_and_leaves_no_name_behind(run, pack):
    assert f"{pack.__name__}.trainer.distillation.unbroken" in sys.modules
    solver = sys.modules[f"{pack.__name__}.trainer.distillation.unbroken"].Solver
    assert solver is pack.dyweight.Solver, "one dyweight, not two"


def test_the_numbers_are_those_of_the_command_line(knows_flux, run, beside_comfyui, tmp_path):
    import trainer.fit.budget
    from trainer.distill import distill
    from trainer.options.distill import DistillOptions

    made = fit(trained_flux.model(), name="tiny-%steps%")
    assert made.path.name == "tiny-5.safetensors"
    options = {"ckpt": str(trained_flux.MODEL), "conditioning": trained_flux.CONDITIONS, "width": 64}
    before, trainer.fit.budget.DRAFT = trainer.fit.budget.DRAFT, FEW
    try:
        out = tmp_path / "own.safetensors"
        own = distill(DistillOptions(**options, steps=(5,), effort="draft", out=out, keep_targets=False)).file
    finally:
        trainer.fit.budget.DRAFT = before
    ours, theirs = made.solver.state_dict(), own.solver.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    of_files = {"model", "conditions_digest", "prompts_file", "negative", "dtype", "lora", "frames", "text_encoders"}
    differing = {name for name, value in own.provenance.items() if made.provenance.get(name) != value}
    assert differing <= of_files
    assert made.provenance["sketch"] == own.provenance["sketch"]


def test_a_fit_that_is_there_is_found_by_how_its_model_behaves(knows_flux, run, user_files):
    import comfy.sd
    from safetensors.torch import load_file

    first = fit(trained_flux.model())
    assert fit(trained_flux.model(), name="another").path == first.path
    lora = load_file(trained_flux.LORA)
    changed = comfy.sd.load_lora_for_models(trained_flux.model(), None, lora, 0.1, 0.0)[0]
    other = fit(changed)
    assert other.path != first.path
    assert fit(trained_flux.model(), seed=1).path not in (first.path, other.path)


def test_several_steps_are_one_file(knows_flux, run):
    made = fit(trained_flux.model(), steps="3, 4", name="%steps%")
    assert made.path.name == "3-4.safetensors" and made.solvers.steps == (3, 4)


@pytest.mark.parametrize(("seed", "times"), [(0, 2), pytest.param(1, 5, marks=pytest.mark.slow)])
def test_cancelled_at_random_calls_it_goes_on_and_ends_with_the_same_file(knows_flux, run, user_files, seed, times):
    """And ComfyUI samples a picture between, as before."""
    import comfy.model_management

    import nodes

    def picture():
        positive = trained_flux.prompts()[3]
        settings = (trained_flux.model(), 7, 4, 1.0, "euler", "simple", positive, positive, trained_flux.latent())
        with torch.inference_mode():
            return nodes.KSampler().sample(*settings)[0]["samples"]

    counted, before = [0], picture()
    whole = fit(interrupted_at(counted, 0)).path
    calls, content = counted[0], whole.read_bytes()
    whole.unlink()
    draw, cuts = random.Random(seed), 0
    while cuts < times:
        counted[0] = 0
        try:
            made = fit(interrupted_at(counted, draw.randrange(5, calls)))
        except comfy.model_management.InterruptProcessingException:
            cuts += 1
            assert torch.equal(picture(), before)
            continue
        break
    else:
        made = fit(interrupted_at(counted, 0))
    assert cuts and made.path.read_bytes() == content
    assert [path.name for path in user_files.glob("*.safetensors")] == ["tiny.safetensors"]


def test_with_a_full_disk_nothing_is_lost(knows_flux, run, monkeypatch, user_files):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    counted = [0]
    with monkeypatch.context() as patched:
        patched.setattr(run, "write_new", full)
        with pytest.raises(ValueError, match=r"Make room on the disk.* No space left"):
            fit(interrupted_at(counted, 0))
    first, counted[0] = counted[0], 0
    assert list(user_files.iterdir()) == []
    assert fit(interrupted_at(counted, 0)).path.is_file()
    assert counted[0] < 0.6 * first


def test_a_folder_that_can_not_be_written_to_is_told_before_the_first_call(run, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "get_folder_paths", lambda kind: ["/proc/no-such-folder"])
    with pytest.raises(ValueError, match="Make room on the disk, and let this be written: /proc"):
        call("DyWeightFit", **trained_flux.fit_inputs(model=model("sd3")), positive=[tiny_models.conditioning("sd3")])


def test_where_nothing_can_be_kept_until_the_end_the_folder_is_named(run, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/no-such-folder")
    given = {"positive": [tiny_models.conditioning("sd3")], "latent_image": latent("sd3"), "steps": "1"}
    with pytest.raises(ValueError, match=r"Make room on the disk, and let this be written: .*/proc/no-such-folder"):
        fit(model("sd3"), **given)


def test_a_smaller_batch_where_memory_runs_out_and_then_an_error_with_the_size(run, monkeypatch):
    import comfy.model_management

    asked = []

    def apply(apply_model, options):
        asked.append(len(options["input"]))
        raise comfy.model_management.OOM_EXCEPTION

    tiny = model("sd3")
    tiny.set_model_unet_function_wrapper(apply)
    if comfy.model_management.OOM_EXCEPTION is Exception:
        pytest.skip("this system has no error of its own for memory that ran out")
    with pytest.raises(ValueError, match=r"out of memory with one sample of \[16, 8, 8\]"):
        fit(tiny, [tiny_models.conditioning("sd3")], latent_image=latent("sd3"))
    assert asked[-1] == 1


@pytest.mark.parametrize("cache", ["easycache", "teacache_thresh", "magcache_ratios", "spectrum"])
def test_caches_that_skip_calls_are_named(run, cache):
    tiny = model("sd3")
    tiny.model_options.setdefault("transformer_options", {})[cache] = object()
    with pytest.raises(ValueError, match=f"(?i)take {cache.split('_')[0]} off the model"):
        fit(tiny, [tiny_models.conditioning("sd3")], latent_image=latent("sd3"))


BAD = {
    "a condition of another model": ({"positive": [tiny_models.conditioning("sd15")]}, "Fit Solver: SD3: SD3 fails on"),
    "something else than a condition": ({"positive": [[1, 2]]}, "positive 1 is not CONDITIONING"),
    "a latent of another model": ({"latent_image": latent("sd15", image=True)}, "latent: connect the empty latent"),
    "a latent that is none": ({"latent_image": {"samples": None}}, "latent: connect the empty latent"),
    "guidance without a negative": ({"cfg": 0.0}, "Connect negative to Fit Solver"),
    "65 steps": ({"steps": "65"}, "Set steps of Fit Solver"),
    "a name too long for a file": ({"name": 300 * "x"}, "give a shorter one"),
    "a name outside the folder": ({"name": "../mine"}, r"name is '../mine': give one of a file inside"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_can_not_be_fitted_is_refused_with_a_reason(run, what):
    changed, reason = BAD[what]
    given = {"positive": [tiny_models.conditioning("sd3")], "latent_image": latent("sd3"), **changed}
    with pytest.raises(ValueError, match=reason):
        fit(model("sd3"), **given)


def one_step(of, family):
    """With guidance, and the prompts of the tiny models."""
    given = {"positive": [tiny_models.conditioning(family)], "latent_image": latent(family)}
    given |= {"negative": tiny_models.conditioning(family, seed=2), "cfg": 2.0, "steps": "1"}
    return fit(of, **given)


@pytest.mark.parametrize("family", ["sd3", "wan"])
def test_pictures_and_videos_are_fitted(run, family):
    """4-D and 5-D latents, of a smooth flow."""
    smooth = model(family)
    answer_with(smooth, lambda x, sigma: torch.tanh(1.3 * x) / (1 + sigma.reshape(-1, *[1] * (x.ndim - 1))))
    assert one_step(smooth, family).solvers.steps == (1,)


def test_a_network_whose_pictures_go_on_changing_with_more_steps_is_refused(run):
    """As the random weights of the tiny Wan do."""
    with pytest.raises(ValueError, match="take the undistilled model: the picture of this one goes on changing"):
        one_step(model("wan"), "wan")


def test_latents_that_are_unpacked_first_have_rough_colours_too(pack):
    """FLUX.2's 128 channels are 32 at twice the size."""
    import comfy.latent_formats

    pictures = importlib.import_module(f"{pack.__name__}.nodes.fit_pictures")
    model = SimpleNamespace(latent_format=comfy.latent_formats.Flux2())
    checkpoint = SimpleNamespace(patcher=SimpleNamespace(model=model), without_sound=lambda x: x)
    picture = pictures.rough_picture(checkpoint, torch.randn(128, 4, 4, generator=torch.Generator().manual_seed(0)))
    assert picture.size == (8, 8) and numpy.asarray(picture).std(2).max() > 0


def test_a_guider_takes_the_place_of_model_and_prompts(run):
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(model("sd3"))
    guider.set_conds(tiny_models.conditioning("sd3"), tiny_models.conditioning("sd3", seed=2))
    guider.set_cfg(2.0)
    before = dict(guider.original_conds)
    made = call("DyWeightFit", **trained_flux.fit_inputs(guider=guider, steps="3", latent_image=latent("sd3")))
    assert made.solvers.steps == (3,) and guider.original_conds == before
