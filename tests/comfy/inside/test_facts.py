"""What is known of a model of ComfyUI, and named where a file was made for something else."""

import importlib

import pytest
import tiny_models
import torch
from sampling_tools import call, custom, model, random_solver, save, sigmas_of


def room(pack, name):
    return importlib.import_module(f"{pack.__name__}.{name}")


def test_every_sampling_class_of_comfyui_has_a_name(pack):
    """So that a new one in a newer ComfyUI fails here instead of going without a name."""
    import comfy.model_sampling as kinds

    answers = [
        kind
        for name, kind in vars(kinds).items()
        if isinstance(kind, type) and kind.__module__ == kinds.__name__ and hasattr(kind, "calculate_denoised")
    ]
    assert len(answers) >= 7
    mixed = [type("ModelSampling", (kinds.ModelSamplingDiscrete, kind), {}) for kind in answers]
    names = [room(pack, "comfyui.facts").prediction_type(kind.__new__(kind)) for kind in mixed]
    assert None not in names and len(set(names)) == len(answers)
    assert names[answers.index(kinds.V_PREDICTION)] == "v" and names[answers.index(kinds.CONST)] == "flow"


def test_a_class_derived_by_another_pack_is_what_it_derives_from(pack):
    import comfy.model_sampling as kinds

    class LCM(kinds.EPS):
        pass

    prediction_type = room(pack, "comfyui.facts").prediction_type
    assert prediction_type(LCM()) == "eps"
    assert prediction_type(object()) is None


def guiders(tiny):
    """(name, guider, cfg that can be named) of ComfyUI's guiders."""
    positive, negative = tiny_models.conditioning("sd3"), tiny_models.conditioning("sd3", 2)
    pair = {"positive": positive, "negative": negative}
    yield "BasicGuider", call("BasicGuider", model=tiny, conditioning=positive), 1.0
    yield "CFGGuider", call("CFGGuider", model=tiny, cfg=4.0, **pair), 4.0
    dual = {"cond1": positive, "cond2": positive, "negative": negative, "cfg_conds": 4.0, "cfg_cond2_negative": 4.0}
    yield "DualCFGGuider", call("DualCFGGuider", model=tiny, style="regular", **dual), None
    empty = {"empty_conditioning": negative, "cfg": 4.0, "neg_scale": 1.0}
    yield "PerpNegGuider", call("PerpNegGuider", model=tiny, **pair, **empty), None


@pytest.mark.parametrize("i", range(4))
def test_a_guider_with_several_scales_or_networks_names_no_cfg(pack, i):
    name, guider, cfg = list(guiders(model("sd3")))[i]
    assert room(pack, "nodes.model_facts").facts(guider, torch.zeros(1, 16, 8, 8)).cfg == cfg, name


def test_a_guider_with_two_networks_names_no_cfg(pack):
    import nodes

    tiny = model("sd3")
    try:
        found = call(
            "DualModelGuider", model=tiny, positive=tiny_models.conditioning("sd3"), cfg=4.0, model_negative=tiny
        )
    except (AssertionError, KeyError, TypeError):
        if "DualModelGuider" in nodes.NODE_CLASS_MAPPINGS:
            raise
        pytest.skip("this ComfyUI has no DualModelGuider")
    assert room(pack, "nodes.model_facts").facts(found, torch.zeros(1, 16, 8, 8)).cfg is None


def test_another_noise_scale_is_named(pack, user_files, caplog):
    tiny = model("sd3")
    solver = random_solver(pack, sigmas_of(tiny, 4))
    save(pack, user_files / "loud.safetensors", solver, noise_scale=8.0)
    loaded = call("DyWeightLoadSolver", solver_name="loud.safetensors")
    custom(tiny, "sd3", call("DyWeightSampler", solver=loaded), sigmas_of(tiny, 4))
    assert "made with the noise scale 8, this one has 1" in caplog.text


def test_the_copy_of_the_model_sampling_object_shares_nothing_with_the_models_own(pack):
    tiny = model("sd15")
    own = tiny.get_model_object("model_sampling")
    applied = call("DyWeightApply", model=tiny, solver=random_solver(pack, sigmas_of(tiny, 4)))
    copy = applied.get_model_object("model_sampling")
    before = own.sigmas.clone()
    copy.set_sigmas(copy.sigmas * 2)
    copy.log_sigmas += 1
    assert copy is not own
    assert torch.equal(own.sigmas, before)
    torch.testing.assert_close(own.log_sigmas, before.log())
    assert {b.data_ptr() for b in own.buffers()}.isdisjoint(b.data_ptr() for b in copy.buffers())
