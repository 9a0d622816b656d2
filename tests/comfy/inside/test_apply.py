"""A model that carries its solver, and what the log says where the solver was made for something else."""

import pytest
import tiny_models
import torch
from sampling_tools import (
    advanced,
    call,
    custom,
    difference,
    in_file,
    latent,
    model,
    random_solver,
    sigmas_of,
    textbook,
    untrained,
)

ROUNDING = 2e-6
FAMILIES = ("flux", "sd3", "sd15", "wan")
WHAT = {
    "model_family": ("model family is SD3, not HunyuanVideo", "HunyuanVideo"),
    "prediction_type": ("prediction type is flow, not eps", "eps"),
    "cfg": ("cfg is 2, not 7.5", 7.5),
    "shape": ("latent shape is 16x8x8, not 16x64x64", [16, 64, 64]),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_that_came_in_stays_as_it_was(pack, user_files, family):
    tiny = model(family)
    sampling, options = tiny.get_model_object("model_sampling"), dict(tiny.model_options)
    keys, sigmas = set(tiny.model.state_dict()), sigmas_of(tiny, 11)
    applied = call("DyWeightApply", model=tiny, solver=random_solver(pack, sigmas))
    learned = advanced(applied, family, 11)
    assert tiny.get_model_object("model_sampling") is sampling
    assert tiny.model_options.keys() == options.keys()
    assert set(tiny.model.state_dict()) == set(applied.model.state_dict()) == keys
    assert not set(applied.get_model_object("model_sampling").state_dict()) - set(sampling.state_dict())
    plain = advanced(tiny, family, 11, scheduler="simple")
    assert difference(plain, custom(tiny, family, untrained(pack, sigmas), sigmas)) < ROUNDING
    assert difference(plain, learned) > 100 * ROUNDING


def test_models_with_different_solvers_each_keep_theirs(pack):
    tiny = model("sd3")
    solvers = [random_solver(pack, sigmas_of(tiny, steps), seed=steps) for steps in (4, 6)]
    applied = [call("DyWeightApply", model=tiny, solver=solver) for solver in solvers]
    expected = [custom(tiny, "sd3", textbook(s), s.sigmas.float()) for s in solvers]
    for i in (0, 1, 1, 0, 1):
        assert difference(advanced(applied[i], "sd3", solvers[i].steps), expected[i]) < ROUNDING


def test_a_clone_keeps_the_solver_and_a_second_apply_replaces_it(pack):
    tiny = model("sd3")
    first, second = (random_solver(pack, sigmas_of(tiny, 4), seed=seed) for seed in (1, 2))
    applied = call("DyWeightApply", model=tiny, solver=first)
    replaced = call("DyWeightApply", model=applied, solver=second)
    ends = [custom(tiny, "sd3", textbook(solver), solver.sigmas.float()) for solver in (first, second)]
    assert difference(advanced(applied.clone().clone(), "sd3", 4), ends[0]) < ROUNDING
    assert difference(advanced(replaced, "sd3", 4), ends[1]) < ROUNDING
    assert difference(advanced(applied, "sd3", 4), ends[0]) < ROUNDING


def test_the_sampler_node_goes_before_the_solver_of_the_model(pack):
    tiny = model("sd3")
    on_model, given = (random_solver(pack, sigmas_of(tiny, 4), seed=seed) for seed in (1, 2))
    applied = call("DyWeightApply", model=tiny, solver=on_model)
    end = custom(applied, "sd3", call("DyWeightSampler", solver=given), given.sigmas.float())
    assert difference(end, custom(tiny, "sd3", textbook(given), given.sigmas.float())) < ROUNDING


@pytest.mark.parametrize(
    ("family", "node", "values"),
    [
        ("sd3", "ModelSamplingSD3", {"shift": 5.0}),
        ("flux", "ModelSamplingFlux", None),
        ("wan", "ModelSamplingSD3", None),
    ],
)
def test_a_model_sampling_node_after_apply_keeps_the_solver(pack, family, node, values, caplog):
    """That node replaces the model sampling, so the scheduler knows no solver; the sampler does."""
    tiny = model(family)
    flux = {"max_shift": 2.0, "base_shift": 0.5, "width": 1024, "height": 1024}
    values = values or ({"shift": 3.0} if node == "ModelSamplingSD3" else flux)
    solver = random_solver(pack, sigmas_of(tiny, 8), spread=0.01)
    before = call("DyWeightApply", model=call(node, model=tiny, **values), solver=solver)
    own = advanced(before, family, 8)
    assert difference(own, custom(tiny, family, textbook(solver), solver.sigmas.float())) < ROUNDING
    assert "the sigmas differ" not in caplog.text
    after = call(node, model=call("DyWeightApply", model=tiny, solver=solver), **values)
    end = advanced(after, family, 8)
    assert "the sigmas differ" in caplog.text
    shifted = sigmas_of(after, 8)
    assert difference(end, custom(after, family, textbook(solver), shifted)) < ROUNDING


@pytest.mark.parametrize("name", WHAT)
def test_what_the_solver_was_not_made_for_is_named_with_both_values_once(pack, caplog, name):
    tiny = model("sd3")
    solver = random_solver(pack, sigmas_of(tiny, 4))
    said, value = WHAT[name]
    as_here = {"model_family": "SD3", "prediction_type": "flow", "cfg": 2.0, "shape": [16, 8, 8], "shift": 9.0}
    solver = in_file(pack, solver, f"{name}-differs", {**as_here, name: value})
    applied = call("DyWeightApply", model=tiny, solver=solver)
    for _ in range(2):
        advanced(applied, "sd3", 4, cfg=2.0)
    lines = [record.getMessage() for record in caplog.records if record.name == "DyWeight"]
    assert lines == [f"the solver {name}-differs was made for something else: {said}"]


def test_the_shift_is_named_where_the_sigmas_are_not_the_solvers_own(pack, caplog):
    tiny = model("sd3")
    solver = random_solver(pack, sigmas_of(tiny, 4), spread=0.01)
    solver = in_file(pack, solver, "shift-differs", {"shift": 3.0})
    shifted = call("ModelSamplingSD3", model=tiny, shift=6.0)
    custom(shifted, "sd3", call("DyWeightSampler", solver=solver), sigmas_of(shifted, 4))
    assert "shift is 6, not 3" in caplog.text


def test_the_guidance_that_the_network_is_told_is_named(pack, caplog):
    tiny = model("flux")
    solver = random_solver(pack, sigmas_of(tiny, 4))
    solver = in_file(pack, solver, "guidance-differs", {"guidance": 3.5})
    applied = call("DyWeightApply", model=tiny, solver=solver)
    for guidance in (3.5, 2.0):
        positive = [[text, {**extra, "guidance": guidance}] for text, extra in tiny_models.conditioning("flux")]
        advanced(applied, "flux", 4, positive=positive)
        assert ("guidance is 2, not 3.5" in caplog.text) == (guidance == 2.0)


def test_the_scheduler_node_names_a_model_that_the_solver_is_not_for(pack, caplog):
    solver = random_solver(pack, sigmas_of(model("sd15"), 4))
    solver = in_file(pack, solver, "for-sd15", {"model_family": "SD15", "prediction_type": "eps"})
    call("DyWeightScheduler", model=model("sd3"), solver=solver, denoise=1.0)
    assert "model family is SD3, not SD15" in caplog.text
    assert "prediction type is flow, not eps" in caplog.text


def test_a_preset_on_its_model_is_only_told_its_latent_shape(pack, caplog):
    tiny = model("sd15")
    preset = call("DyWeightLoadSolver", solver_name="preset: sd15-4-steps")
    end = advanced(call("DyWeightApply", model=tiny, solver=preset), "sd15", 4, cfg=7.5, latent_image=latent("sd15"))
    assert torch.isfinite(end).all()
    lines = [record.getMessage() for record in caplog.records if record.name == "DyWeight"]
    said = "latent shape is 4x8x8, not 4x64x64"
    assert lines == [f"the solver sd15 was made for something else: {said}"]
