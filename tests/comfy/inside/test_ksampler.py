"""The node that samples with a file by itself, and the loader's outputs for KSampler's fields."""

import pytest
import tiny_models
import torch
from sampling_tools import advanced, call, custom, difference, in_file, latent, model, random_solver, save, sigmas_of

ROUNDING = 2e-6
FAMILIES = ("flux", "sd3", "sd15", "wan")


def sampled(tiny, family, solver_name="", **options):
    inputs = {
        "seed": 3,
        "steps": 0,
        "cfg": 1.0,
        "positive": tiny_models.conditioning(family),
        "negative": tiny_models.conditioning(family, seed=2),
        "latent_image": latent(family),
        "denoise": 1.0,
    }
    return call("DyWeightKSampler", model=tiny, solver_name=solver_name, **{**inputs, **options})["samples"]


@pytest.fixture
def file(pack, user_files):
    def write(tiny, name="mine", steps=5, **made_for):
        solver = random_solver(pack, sigmas_of(tiny, steps))
        save(pack, user_files / f"{name}.safetensors", solver, **made_for)
        return f"{name}.safetensors"

    return write


@pytest.mark.parametrize("family", FAMILIES)
def test_it_gives_what_apply_and_ksampler_give_bit_for_bit(file, family):
    tiny = model(family)
    name = file(tiny)
    applied = call("DyWeightApply", model=tiny, solver=call("DyWeightLoadSolver", solver_name=name))
    assert torch.equal(sampled(tiny, family, name, cfg=2.0), advanced(applied, family, 5, cfg=2.0))


@pytest.mark.parametrize("denoise", [0.01, 0.1, 0.2, 0.5, 0.8])
def test_any_denoise_runs_the_last_of_the_learned_steps(file, denoise):
    tiny = model("sd3")
    name, image = file(tiny), latent("sd3", image=True)
    solver = call("DyWeightLoadSolver", solver_name=name)
    sigmas = call("DyWeightScheduler", model=tiny, solver=solver, denoise=denoise)
    assert len(sigmas) == max(1, round(5 * denoise)) + 1
    expected = custom(tiny, "sd3", call("DyWeightSampler", solver=solver), sigmas, latent_image=image)
    assert difference(sampled(tiny, "sd3", name, latent_image=image, denoise=denoise), expected) < ROUNDING


def test_without_denoise_the_latent_comes_back(file):
    tiny, image = model("sd3"), latent("sd3", image=True)
    assert torch.equal(sampled(tiny, "sd3", file(tiny), latent_image=image, denoise=0.0), image["samples"])


def test_a_linked_solver_goes_before_the_name_in_the_list(pack, file):
    tiny = model("sd3")
    linked = in_file(pack, random_solver(pack, sigmas_of(tiny, 4), seed=9), "linked")
    expected = advanced(call("DyWeightApply", model=tiny, solver=linked), "sd3", 4)
    assert torch.equal(sampled(tiny, "sd3", file(tiny), solver=linked), expected)


def test_a_file_of_another_family_is_refused_before_it_samples(file):
    name = file(model("sd3"), model_family="HunyuanVideo")
    with pytest.raises(ValueError, match="Choose another file: mine is for HunyuanVideo, this model is SD3"):
        sampled(model("sd3"), "sd3", name)


def test_the_page_is_told_steps_and_cfg_of_each_file(node_classes, file):
    name = file(model("sd3"), cfg=4.5)
    file(model("sd3"), name="silent", steps=3)
    options = node_classes["DyWeightKSampler"].INPUT_TYPES()["required"]["solver_name"][1]
    assert options["solvers"][name] == {"steps": (5,), "cfg": 4.5}
    assert options["solvers"]["silent.safetensors"] == {"steps": (3,), "cfg": None}
    assert options["solvers"]["preset: sd15"] == {"steps": (4, 6, 8, 10), "cfg": 7.5}


def outputs(name):
    import nodes

    return nodes.NODE_CLASS_MAPPINGS["DyWeightLoadSolver"].execute(solver_name=name).args


def test_the_loader_gives_the_fields_of_ksampler_and_what_the_file_is_for(file):
    errors = {"endpoint_error_before": 0.0052, "endpoint_error_after": 0.0013, "teacher": "ipndm:100"}
    errors |= {"handcrafted": "ipndm:3", "endpoint_error_handcrafted": 0.0039}
    name = file(model("sd3"), cfg=4.5, model="my model", shape=[16, 8, 8], **errors)
    _, steps, cfg, info = outputs(name)
    assert (steps, cfg) == (5, 4.5)
    assert info.splitlines() == [
        "For my model, 5 steps, cfg 4.5, latent 16 x 8 x 8.",
        "At 5 steps its error is 33 % of that of the handcrafted ipndm:3 and 25 % of that of the solver "
        "without the learned numbers. It is 0.0013, against ipndm with 100 steps.",
    ]


def test_a_file_that_does_not_name_its_cfg_blocks_what_asks_for_it(file):
    _, steps, cfg, info = outputs(file(model("sd3"), model={"not": "a text"}, shape="none", cfg="high"))
    assert steps == 5 and cfg.message == "Set cfg by hand: mine does not say with which it was made."
    assert info == "For {'not': 'a text'}, 5 steps."


def test_the_newest_of_the_users_files_is_offered_first(node_classes, file, user_files):
    import os

    for age, name in enumerate(("b", "c", "a")):
        os.utime(user_files / file(model("sd3"), name=name), (1e9 - age, 1e9 - age))
    options = node_classes["DyWeightLoadSolver"].INPUT_TYPES()["required"]["solver_name"][1]["options"]
    assert [name[0] for name in options[:3]] == ["b", "c", "a"]
    assert options[3].startswith("preset: ")


def test_one_of_several_numbers_of_steps_is_taken_and_any_other_refused(pack):
    tiny = model("sd15")
    preset = call("DyWeightLoadSolver", solver_name="preset: sd15")
    for steps in (4, 8):
        applied = call("DyWeightApply", model=tiny, solver=preset)
        assert torch.equal(sampled(tiny, "sd15", "preset: sd15", steps=steps), advanced(applied, "sd15", steps))
    assert torch.equal(sampled(tiny, "sd15", "preset: sd15"), sampled(tiny, "sd15", "preset: sd15", steps=8))
    with pytest.raises(ValueError, match="Set steps to 4, 6, 8 or 10: sd15 is not for 11 steps"):
        sampled(tiny, "sd15", "preset: sd15", steps=11)
