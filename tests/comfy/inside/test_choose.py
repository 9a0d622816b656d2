"""Without DyWeightApply: the one file for the model family and the steps, else a preset, else the untrained solver."""

import logging

import pytest
import torch
from sampling_tools import (
    advanced,
    call,
    custom,
    difference,
    model,
    random_solver,
    said,
    save,
    select,
    sigmas_of,
    textbook,
    untrained,
    warned,
)

ROUNDING = 2e-6


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, "DyWeight")
    return caplog


@pytest.mark.parametrize(
    ("family", "name", "steps"), [("sd3", "SD3", 5), ("sd15", "sd-1.5", 5), ("wan", "WAN21_T2V", 4)]
)
def test_one_matching_file_is_used_and_named(pack, user_files, log, family, name, steps):
    tiny = model(family)
    solver = random_solver(pack, sigmas_of(tiny, steps))
    save(pack, user_files / "sub" / f"right-{family}.safetensors", solver, model_family=name)
    others = [
        ("other-steps", sigmas_of(tiny, steps + 1), name),
        ("other-family", sigmas_of(tiny, steps), "HunyuanVideo"),
    ]
    for title, sigmas, other in others:
        save(pack, user_files / f"{title}.safetensors", random_solver(pack, sigmas, seed=1), model_family=other)
    end = advanced(tiny, family, steps, scheduler="simple")
    assert any(f"right-{family}.safetensors" in line for line in said(log, logging.INFO))
    assert not warned(log)
    assert difference(end, custom(tiny, family, textbook(solver), sigmas_of(tiny, steps))) < ROUNDING


def test_in_sampler_custom_advanced_too(pack, user_files, log):
    tiny = model("sd3")
    solver = random_solver(pack, sigmas_of(tiny, 5))
    save(pack, user_files / "custom.safetensors", solver, model_family="SD3")
    end = custom(tiny, "sd3", select("dyweight"), sigmas_of(tiny, 5))
    assert difference(end, custom(tiny, "sd3", textbook(solver), sigmas_of(tiny, 5))) < ROUNDING
    assert any("custom.safetensors" in line for line in said(log, logging.INFO))


def test_the_scheduler_takes_the_sigmas_of_the_one_matching_file(pack, user_files, log):
    tiny = model("sd3")
    sigmas = pack.dyweight.schedules.flow(11, shift=5.0)
    save(pack, user_files / "eleven.safetensors", random_solver(pack, sigmas), model_family="SD3")
    assert torch.equal(sigmas_of(tiny, 11, "dyweight"), sigmas.float())
    assert any("eleven.safetensors" in line for line in said(log, logging.INFO))
    for other in ("sd15", "wan"):
        assert torch.equal(sigmas_of(model(other), 11, "dyweight"), sigmas_of(model(other), 11, "simple"))
    assert torch.equal(call("BasicScheduler", model=tiny, scheduler="dyweight", steps=11, denoise=1.0), sigmas.float())


def test_files_that_disagree_leave_the_scheduler_with_simple(pack, user_files, log):
    tiny = model("sd3")
    for shift in (2.0, 6.0):
        solver = random_solver(pack, pack.dyweight.schedules.flow(12, shift=shift))
        save(pack, user_files / f"shift-{shift:g}.safetensors", solver, model_family="SD3")
    assert torch.equal(sigmas_of(tiny, 12, "dyweight"), sigmas_of(tiny, 12, "simple"))
    (warning,) = warned(log)
    assert (
        warning
        == "DyWeight: Give the model its file with Apply Solver: SD3 at 12 steps gets ComfyUI's simple schedule."
    )


def test_several_matching_files_run_the_untrained_solver_and_it_is_said_once(pack, user_files, log):
    tiny = model("sd3")
    for seed, name in enumerate(("several-a", "several-b")):
        solver = random_solver(pack, sigmas_of(tiny, 5), seed=seed)
        save(pack, user_files / f"{name}.safetensors", solver, model_family="SD3")
    ends = [advanced(tiny, "sd3", 5, scheduler="simple") for _ in range(2)]
    (warning,) = warned(log)
    assert "several-a" in warning and "several-b" in warning and "Load Solver and Apply Solver" in warning
    expected = custom(tiny, "sd3", untrained(pack, sigmas_of(tiny, 5)), sigmas_of(tiny, 5))
    assert all(difference(end, expected) < ROUNDING for end in ends)


def test_copies_of_one_file_are_one(pack, user_files, log):
    tiny = model("sd3")
    solver = random_solver(pack, sigmas_of(tiny, 5))
    for name in ("a-copy", "b-copy"):
        save(pack, user_files / f"{name}.safetensors", solver, model_family="SD3")
    end = advanced(tiny, "sd3", 5, scheduler="simple")
    assert not warned(log) and any("a-copy.safetensors" in line for line in said(log, logging.INFO))
    assert difference(end, custom(tiny, "sd3", textbook(solver), sigmas_of(tiny, 5))) < ROUNDING


@pytest.mark.parametrize(("family", "steps"), [("sd3", 1), ("sd3", 2), ("sd15", 3), ("wan", 5), ("flux", 9)])
def test_no_matching_file_runs_the_untrained_solver_and_says_once_what_to_do(pack, user_files, log, family, steps):
    tiny = model(family)
    ends = [advanced(tiny, family, steps) for _ in range(2)]
    warnings = [line for line in warned(log) if "none is for" in line]
    assert len(warnings) == 1
    assert (
        f"at {steps} steps" in warnings[0]
        and "Set steps to those of a file, or add one and change the seed" in warnings[0]
    )
    sigmas = sigmas_of(tiny, steps, "simple")
    assert torch.equal(sigmas_of(tiny, steps, "dyweight"), sigmas)
    expected = custom(tiny, family, untrained(pack, sigmas), sigmas)
    assert all(difference(end, expected) < ROUNDING for end in ends)


def test_damaged_files_are_left_out_and_named(pack, user_files, log):
    tiny = model("sd3")
    solver = random_solver(pack, sigmas_of(tiny, 5))
    save(pack, user_files / "whole.safetensors", solver, model_family="SD3")
    (user_files / "cut.safetensors").write_bytes((user_files / "whole.safetensors").read_bytes()[:-9])
    end = advanced(tiny, "sd3", 5, scheduler="simple")
    assert difference(end, custom(tiny, "sd3", textbook(solver), sigmas_of(tiny, 5))) < ROUNDING
    assert any("cut.safetensors" in line for line in warned(log))


def test_a_set_of_the_users_is_found_at_each_of_its_steps_and_at_no_other(pack, user_files, log):
    tiny = model("sd3")
    solvers = {steps: random_solver(pack, sigmas_of(tiny, steps), seed=steps) for steps in (4, 12)}
    save(pack, user_files / "both.safetensors", pack.dyweight.SolverSet(solvers.values()), model_family="SD3")
    for steps, solver in solvers.items():
        assert torch.equal(sigmas_of(tiny, steps, "dyweight"), solver.sigmas.float())
        end = advanced(tiny, "sd3", steps)
        assert difference(end, custom(tiny, "sd3", textbook(solver), solver.sigmas.float())) < ROUNDING
    assert not warned(log)
    simple = sigmas_of(tiny, 8, "simple")
    assert difference(advanced(tiny, "sd3", 8), custom(tiny, "sd3", untrained(pack, simple), simple)) < ROUNDING
    assert any("none is for SD3 at 8 steps" in line for line in warned(log))


@pytest.mark.parametrize(
    ("family", "steps"), [("sd15", 4), ("sd15", 6), ("sd15", 8), ("sd15", 10), ("flux", 3), ("flux", 5), ("flux", 7)]
)
def test_a_preset_is_chosen_where_the_user_has_no_file(pack, user_files, log, family, steps):
    tiny = model(family)
    end = advanced(tiny, family, steps)
    name = "flux1-dev" if family == "flux" else family
    assert any(f"sampling with the solver preset: {name}" in line for line in said(log, logging.INFO))
    preset = call("DyWeightLoadSolver", solver_name=f"preset: {name}").member(steps).solver
    assert torch.equal(sigmas_of(tiny, steps, "dyweight"), preset.sigmas.float())
    assert difference(end, custom(tiny, family, textbook(preset), preset.sigmas.float())) < 5 * ROUNDING


def test_a_users_file_goes_before_a_preset(pack, user_files, log):
    tiny = model("sd15")
    sigmas = call("DyWeightLoadSolver", solver_name="preset: sd15").member(4).solver.sigmas
    solver = random_solver(pack, sigmas)
    save(pack, user_files / "mine.safetensors", solver, model_family="SD15")
    end = custom(tiny, "sd15", select("dyweight"), sigmas.float())
    assert difference(end, custom(tiny, "sd15", textbook(solver), sigmas.float())) < ROUNDING


def test_a_file_for_another_prediction_type_of_the_family_is_no_match(pack, user_files, log):
    v = call("ModelSamplingDiscrete", model=model("sd15"), sampling="v_prediction", zsnr=False)
    sigmas = sigmas_of(v, 8, "simple")
    assert torch.equal(sigmas_of(v, 8, "dyweight"), sigmas)
    assert difference(advanced(v, "sd15", 8), custom(v, "sd15", untrained(pack, sigmas), sigmas)) < ROUNDING
