"""A file with several numbers of steps: KSampler's steps and the sigmas that arrive choose the solver."""

import pytest
import torch
from sampling_tools import (
    FAMILIES,
    advanced,
    call,
    custom,
    difference,
    in_file,
    ksampler,
    latent,
    model,
    random_solver,
    sigmas_of,
    textbook,
    untrained,
    warned,
)

ROUNDING = 2e-6
STEPS = (3, 4, 6, 8)
each_family = pytest.mark.parametrize("family", FAMILIES)


def set_for(pack, tiny, steps=STEPS, **options):
    return pack.dyweight.SolverSet(random_solver(pack, sigmas_of(tiny, n), seed=n, **options) for n in steps)


def applied_to(pack, tiny, solvers, provenance=None):
    return call("DyWeightApply", model=tiny, solver=in_file(pack, solvers, "the-set", provenance))


@pytest.mark.parametrize("steps", STEPS)
@each_family
def test_the_steps_of_ksampler_choose_the_solver(pack, family, steps, caplog):
    tiny = model(family)
    solvers = set_for(pack, tiny)
    solver = solvers.member(steps)
    end = advanced(applied_to(pack, tiny, solvers), family, steps)
    assert difference(end, custom(tiny, family, textbook(solver), solver.sigmas.float())) < ROUNDING
    assert not warned(caplog)


@pytest.mark.parametrize("steps", [*STEPS, 0])
def test_the_steps_of_the_scheduler_node_choose_it_and_0_is_the_middle(pack, steps):
    tiny = model("sd3")
    solvers = set_for(pack, tiny)
    solver = solvers.member(steps or 6)
    sigmas = call("DyWeightScheduler", model=tiny, solver=solvers, denoise=1.0, steps=steps)
    end = custom(tiny, "sd3", call("DyWeightSampler", solver=solvers), sigmas)
    assert torch.equal(sigmas, solver.sigmas.float())
    assert difference(end, custom(tiny, "sd3", textbook(solver), sigmas)) < ROUNDING


@pytest.mark.parametrize(("steps", "split"), [(3, 1), (3, 2), (4, 1), (4, 3), (6, 2), (8, 4), (8, 7)])
@each_family
def test_two_parts_are_parts_of_the_solver_whose_steps_they_are(pack, family, steps, split, caplog):
    """Also where the first part has as many steps as another solver of the file."""
    tiny = model(family)
    solvers = set_for(pack, tiny)
    both, alone = (applied_to(pack, tiny, one) for one in (solvers, solvers.member(steps)))
    ends = []
    for applied in (both, alone):
        first = advanced(applied, family, steps, end_at_step=split, return_with_leftover_noise="enable")
        rest = {"start_at_step": split, "add_noise": "disable", "latent_image": {"samples": first}}
        ends.append((first, advanced(applied, family, steps, **rest)))
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))
    assert not warned(caplog)


@pytest.mark.parametrize(("steps", "denoise", "whole"), [(2, 0.5, 4), (3, 0.5, 6), (4, 0.5, 8), (3, 0.75, 4)])
@each_family
def test_image_to_image_runs_a_part_of_the_solver_for_steps_over_denoise(pack, family, steps, denoise, whole, caplog):
    tiny = model(family)
    solvers = set_for(pack, tiny)
    ends = [
        in_ksampler(applied_to(pack, tiny, one), family, steps, denoise) for one in (solvers, solvers.member(whole))
    ]
    assert torch.equal(*ends)
    assert not warned(caplog)


def in_ksampler(applied, family, steps, denoise):
    return ksampler(applied, family, steps, denoise=denoise, latent_image=latent(family, image=True))


@pytest.mark.parametrize("denoise", [0.25, 0.5, 0.75])
def test_a_part_of_the_scheduler_node_is_a_part_of_the_solver(pack, denoise):
    tiny = model("sd3")
    solvers = set_for(pack, tiny)
    sigmas = call("DyWeightScheduler", model=tiny, solver=solvers, denoise=denoise, steps=8)
    assert torch.equal(sigmas, solvers.member(8).sigmas[8 - int(8 * denoise) :].float())
    ends = [
        custom(tiny, "sd3", call("DyWeightSampler", solver=one), sigmas, latent_image=latent("sd3", image=True))
        for one in (solvers, solvers.member(8))
    ]
    assert torch.equal(*ends)


@pytest.mark.parametrize("steps", [5, 7])
@each_family
def test_between_two_solvers_a_mixed_one_runs_and_a_line_names_the_steps_of_the_file(pack, family, steps, caplog):
    tiny = model(family)
    solvers = set_for(pack, tiny, spread=0.02)
    mixed = pack.dyweight.between.between(solvers, steps)
    applied = applied_to(pack, tiny, solvers)
    ends = [advanced(applied, family, steps) for _ in range(2)]
    assert difference(ends[0], custom(tiny, family, of_plan(pack, mixed.plan()), mixed.sigmas.float())) < ROUNDING
    assert torch.equal(*ends)
    (line,) = warned(caplog)
    assert line.startswith(f"DyWeight: Set steps to 3, 4, 6 or 8 for learned steps: the-set has none for {steps}")


@pytest.mark.parametrize("steps", [2, 9, 20])
@each_family
def test_beyond_them_the_untrained_solver_runs_and_a_line_names_the_steps_of_the_file(pack, family, steps, caplog):
    tiny = model(family)
    solvers = set_for(pack, tiny)
    end = advanced(applied_to(pack, tiny, solvers), family, steps)
    sigmas = solvers.sigmas_for(steps).float()
    assert difference(end, custom(tiny, family, untrained(pack, sigmas), sigmas)) < ROUNDING
    (line,) = warned(caplog)
    assert line.startswith(f"DyWeight: Set steps to 3, 4, 6 or 8: the-set is not for {steps} steps. No learned steps")


def test_the_model_facts_are_those_of_the_file_and_of_the_member(pack, caplog):
    tiny = model("sd3")
    said = {"model_family": "SD3", "cfg": 1.0, "members": {"4": {"cfg": 3.0}}}
    applied = applied_to(pack, tiny, set_for(pack, tiny), said)
    advanced(applied, "sd3", 6)
    assert not warned(caplog)
    advanced(applied, "sd3", 4)
    assert "Set cfg to 3: the-set was made with it, not with 1." in caplog.text


def of_plan(pack, plan):
    import comfy.samplers

    @torch.no_grad()
    def loop(model, x, sigmas, extra_args=None, callback=None, disable=None):
        return pack.dyweight.sample(lambda x, sigma: model(x, sigma, **(extra_args or {})), x, plan)

    return comfy.samplers.KSAMPLER(loop)
