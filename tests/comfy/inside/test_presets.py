"""The bundled presets in ComfyUI: the authors' recursion on tiny models, and a warning for any other use."""

import copy

import pytest
import torch
from sampling_tools import advanced, call, custom, difference, model, said, textbook
from tiny_models import conditioning

ROUNDING = 2e-6
SETS = {"flux1-dev": ("flux", 1.0, (3, 5, 7)), "sd15": ("sd15", 7.5, (4, 6, 8, 10))}
PRESETS = [
    (f"preset: {name}-{steps}-steps", family, cfg) for name, (family, cfg, known) in SETS.items() for steps in known
]
"""Names of before there were sets, which workflows still have."""
each_member = pytest.mark.parametrize(
    ("name", "steps"), [(name, steps) for name, (*_, known) in SETS.items() for steps in known]
)


def conditions(family, **changes):
    found = copy.copy(conditioning(family))
    return [[found[0][0], {**found[0][1], **changes}]]


@pytest.mark.parametrize(("name", "family", "cfg"), PRESETS)
def test_a_preset_gives_the_authors_loop_in_both_samplers(pack, name, family, cfg):
    tiny, solver = model(family), call("DyWeightLoadSolver", solver_name=name)
    sigmas = call("DyWeightScheduler", model=tiny, solver=solver, denoise=1.0)
    expected = custom(tiny, family, textbook(solver.solver), sigmas, cfg=cfg)
    assert (
        difference(custom(tiny, family, call("DyWeightSampler", solver=solver), sigmas, cfg=cfg), expected) < ROUNDING
    )
    applied = call("DyWeightApply", model=tiny, solver=solver)
    assert difference(advanced(applied, family, solver.solver.steps, cfg=cfg), expected) < ROUNDING


@each_member
def test_the_number_of_steps_chooses_the_authors_loop_in_both_samplers(pack, name, steps, caplog):
    (family, cfg, _), file = SETS[name], call("DyWeightLoadSolver", solver_name=f"preset: {name}")
    tiny, member = model(family), file.member(steps).solver
    sigmas = call("DyWeightScheduler", model=tiny, solver=file, denoise=1.0, steps=steps)
    assert torch.equal(sigmas, member.sigmas.float())
    expected = custom(tiny, family, textbook(member), sigmas, cfg=cfg)
    assert difference(custom(tiny, family, call("DyWeightSampler", solver=file), sigmas, cfg=cfg), expected) < ROUNDING
    applied = call("DyWeightApply", model=tiny, solver=file)
    assert difference(advanced(applied, family, steps, cfg=cfg), expected) < ROUNDING
    assert "Set steps" not in caplog.text


@each_member
def test_the_name_of_before_is_the_solver_for_its_steps(pack, node_classes, name, steps):
    loader, old = node_classes["DyWeightLoadSolver"], f"preset: {name}-{steps}-steps"
    assert loader.validate_inputs(solver_name=old) is True
    assert loader.fingerprint_inputs(old) == loader.fingerprint_inputs(f"preset: {name}")
    file, member = (
        call("DyWeightLoadSolver", solver_name=old),
        call("DyWeightLoadSolver", solver_name=f"preset: {name}").member(steps),
    )
    assert file.solver is member.solver and file.provenance == member.provenance
    assert file.provenance["source"] and file.solvers.steps == (steps,)
    sigmas = call("DyWeightScheduler", model=model(SETS[name][0]), solver=file, denoise=1.0)
    assert torch.equal(sigmas, member.solver.sigmas.float()), "a saved workflow has no value for steps"


@pytest.mark.parametrize(
    "name", ["preset: sd15-5-steps", "preset: sd15-04-steps", "preset: sd15--steps", "preset: sd-4-steps"]
)
def test_no_other_number_of_steps_is_a_name(pack, node_classes, name):
    message = node_classes["DyWeightLoadSolver"].validate_inputs(solver_name=name)
    assert isinstance(message, str) and f"no coefficient file {name!r}" in message


def test_used_as_made_nothing_but_the_size_is_warned_of(pack, caplog):
    tiny, solver = model("sd15"), call("DyWeightLoadSolver", solver_name="preset: sd15-8-steps")
    advanced(call("DyWeightApply", model=tiny, solver=solver), "sd15", 8, cfg=7.5)
    assert said(caplog) == ["DyWeight: Set the size to 512 x 512 px: sd15 was made for it, not for 32 x 32 px."]


def test_another_guidance_is_named_with_both_values(pack, caplog):
    tiny, solver = model("sd15"), call("DyWeightLoadSolver", solver_name="preset: sd15-4-steps")
    advanced(call("DyWeightApply", model=tiny, solver=solver), "sd15", 4, cfg=3.0)
    assert "Set cfg to 7.5: sd15 was made with it, not with 3." in caplog.text


def test_another_guidance_and_shift_of_flux_are_named(pack, caplog):
    tiny, solver = model("flux"), call("DyWeightLoadSolver", solver_name="preset: flux1-dev-5-steps")
    applied = call("DyWeightApply", model=tiny, solver=solver)
    advanced(applied, "flux", 5, scheduler="simple", positive=conditions("flux", guidance=2.0))
    assert "Set guidance to 3.5: flux1-dev was made with it, not with 2." in caplog.text
    assert "Set shift to 0.63: flux1-dev was made with it, not with 1.15." in caplog.text
    assert "Set scheduler to dyweight: " in caplog.text
