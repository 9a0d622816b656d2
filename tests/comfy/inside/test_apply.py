"""A model that carries its solver, and what the log says where the solver was made for something else."""

import pytest
import tiny_models
import torch
from sampling_tools import (
    FAMILIES,
    advanced,
    call,
    custom,
    difference,
    in_file,
    latent,
    model,
    random_solver,
    said,
    select,
    sigmas_of,
    textbook,
    untrained,
    wrapping,
)

ROUNDING = 2e-6
WHAT = {
    "prediction_type": ("eps", "Choose another file: {file} is for the prediction type eps, this model has flow."),
    "cfg": (7.5, "Set cfg to 7.5: {file} was made with it, not with 2."),
    "shape": ([4, 64, 64], "Set the size to latent 4 x 64 x 64: {file} was made for it, not for latent 16 x 8 x 8."),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_that_came_in_stays_as_it_was(pack, user_files, family):
    tiny = model(family)
    sampling, options = tiny.get_model_object("model_sampling"), dict(tiny.model_options)
    keys, sigmas = set(tiny.model.state_dict()), sigmas_of(tiny, 12)
    applied = call("DyWeightApply", model=tiny, solver=random_solver(pack, sigmas))
    learned = advanced(applied, family, 12)
    assert tiny.get_model_object("model_sampling") is sampling
    assert tiny.model_options.keys() == options.keys()
    assert set(tiny.model.state_dict()) == set(applied.model.state_dict()) == keys
    assert not set(applied.get_model_object("model_sampling").state_dict()) - set(sampling.state_dict())
    plain = advanced(tiny, family, 12, scheduler="simple")
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
    assert not said(caplog)
    after = call(node, model=call("DyWeightApply", model=tiny, solver=solver), **values)
    end = advanced(after, family, 8)
    assert any("Move the ModelSampling node before Apply Solver" in line for line in said(caplog))
    shifted = sigmas_of(after, 8)
    assert difference(end, custom(after, family, textbook(solver), shifted)) < ROUNDING


@pytest.mark.parametrize("name", WHAT)
def test_what_the_solver_was_not_made_for_is_named_with_both_values_once(pack, caplog, name):
    tiny = model("sd3")
    solver = random_solver(pack, sigmas_of(tiny, 4))
    value, message = WHAT[name]
    as_here = {"model_family": "SD3", "prediction_type": "flow", "cfg": 2.0, "shape": [16, 8, 8], "shift": 9.0}
    solver = in_file(pack, solver, f"{name}-differs", {**as_here, name: value})
    applied = call("DyWeightApply", model=tiny, solver=solver)
    for _ in range(2):
        advanced(applied, "sd3", 4, cfg=2.0)
    assert said(caplog) == [f"DyWeight: {message.format(file=f'{name}-differs')}"]


def test_another_size_is_named_in_pixels(pack, caplog):
    tiny = model("sd3")
    solver = in_file(pack, random_solver(pack, sigmas_of(tiny, 4)), "wide", {"shape": [16, 64, 96]})
    advanced(call("DyWeightApply", model=tiny, solver=solver), "sd3", 4)
    assert said(caplog) == ["DyWeight: Set the size to 768 x 512 px: wide was made for it, not for 64 x 64 px."]


OTHER = "^Choose another file: for-video is for HunyuanVideo, this model is SD3.$"


def test_a_file_of_another_model_family_is_an_error_wherever_it_is_used(pack):
    tiny = model("sd3")
    solver = in_file(pack, random_solver(pack, sigmas_of(tiny, 4)), "for-video", {"model_family": "HunyuanVideo"})
    with pytest.raises(ValueError, match=OTHER) as refused:
        advanced(call("DyWeightApply", model=tiny, solver=solver), "sd3", 4)
    assert refused.type is ValueError, "ComfyUI shows the module of any other class before the sentence"
    with pytest.raises(ValueError, match=OTHER):
        call("DyWeightScheduler", model=tiny, solver=solver, denoise=1.0)


def test_a_solver_that_no_sampler_runs_is_said_and_a_wrapped_sampler_runs_it(pack, caplog):
    tiny = model("sd3")
    solver = in_file(pack, random_solver(pack, sigmas_of(tiny, 4)), "ignored")
    applied = call("DyWeightApply", model=tiny, solver=solver)
    custom(applied, "sd3", wrapping(select("dyweight")), solver.solver.sigmas.float())
    assert not said(caplog)
    advanced(applied, "sd3", 4, sampler_name="euler", scheduler="simple")
    (line,) = said(caplog)
    assert line.startswith("DyWeight: Set sampler_name to dyweight: this sampler ignores ignored")


def test_two_applies_in_a_row_are_said(pack, caplog):
    tiny = model("sd3")
    first, second = (in_file(pack, random_solver(pack, sigmas_of(tiny, 4)), name) for name in ("one", "two"))
    once = call("DyWeightApply", model=tiny, solver=first)
    advanced(call("DyWeightApply", model=once, solver=second), "sd3", 4)
    assert said(caplog) == ["DyWeight: Remove one Apply Solver: two are in a row, and only the last counts, two."]
    caplog.clear()
    advanced(once, "sd3", 4)
    assert not said(caplog)


def test_the_shift_is_named_where_the_sigmas_are_not_the_solvers_own(pack, caplog):
    tiny = model("sd3")
    solver = random_solver(pack, sigmas_of(tiny, 4), spread=0.01)
    solver = in_file(pack, solver, "shift-differs", {"shift": 3.0})
    shifted = call("ModelSamplingSD3", model=tiny, shift=6.0)
    custom(shifted, "sd3", call("DyWeightSampler", solver=solver), sigmas_of(shifted, 4))
    assert "Set shift to 3: shift-differs was made with it, not with 6." in caplog.text


def test_the_guidance_that_the_network_is_told_is_named(pack, caplog):
    tiny = model("flux")
    solver = random_solver(pack, sigmas_of(tiny, 4))
    solver = in_file(pack, solver, "guidance-differs", {"guidance": 3.5})
    applied = call("DyWeightApply", model=tiny, solver=solver)
    for guidance in (3.5, 2.0):
        positive = [[text, {**extra, "guidance": guidance}] for text, extra in tiny_models.conditioning("flux")]
        advanced(applied, "flux", 4, positive=positive)
        assert ("Set guidance to 3.5: guidance-differs was made with it, not with 2." in caplog.text) == (
            guidance == 2.0
        )


def test_a_preset_on_its_model_is_only_told_its_latent_shape(pack, caplog):
    tiny = model("sd15")
    preset = call("DyWeightLoadSolver", solver_name="preset: sd15-4-steps")
    end = advanced(call("DyWeightApply", model=tiny, solver=preset), "sd15", 4, cfg=7.5, latent_image=latent("sd15"))
    assert torch.isfinite(end).all()
    (line,) = said(caplog)
    assert "512 x 512" in line or "4 x 64 x 64" in line
