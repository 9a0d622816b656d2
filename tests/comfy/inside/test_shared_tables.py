"""Learned schedules and free tables give in ComfyUI what the plain loop gives on their table, and have a picture."""

import pytest
import torch
from sample_solvers import STEPS, of_plan
from sampling_tools import advanced, answer_with, call, custom, difference, latent, model, save, sigmas_of
from test_plot_samples import plotted, schedule

ROUNDING = 5e-6
KINDS = {"learned-schedule": "LearnedSchedule", "free-table": "FreeTable"}
each_kind = pytest.mark.parametrize("kind", KINDS)


def fitted(pack, kind, sigmas, seed=0, **options):
    """Every number a little off its start."""
    solver = getattr(pack.dyweight, KINDS[kind])(sigmas.double(), **options).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for value in solver.parameters():
        noise = 0.1 * torch.randn(value.shape, generator=generator, dtype=torch.float64)
        value += noise.tril() if value.ndim == 2 else noise
    return solver


@each_kind
@pytest.mark.parametrize("family", ["flux", "sd15"])
def test_a_file_samples_through_all_nodes_as_the_plain_loop_does(pack, family, kind, tmp_path):
    tiny, path = model(family), tmp_path / "one.safetensors"
    save(pack, path, fitted(pack, kind, sigmas_of(model(family), STEPS)))
    solver, empty = pack.dyweight.load_solver(path), latent(family, 2)
    sigmas = call("DyWeightScheduler", model=tiny, solver=solver, denoise=1.0)
    expected = custom(tiny, family, of_plan(pack, solver.plan()), sigmas, latent_image=empty)
    sampler = call("DyWeightSampler", solver=solver)
    assert difference(custom(tiny, family, sampler, sigmas, latent_image=empty), expected) < ROUNDING
    applied = call("DyWeightApply", model=tiny, solver=solver)
    assert difference(advanced(applied, family, STEPS, latent_image=empty), expected) < ROUNDING
    base = of_plan(pack, pack.dyweight.baselines.plan("ipndm", solver.sigmas))
    assert difference(custom(tiny, family, base, sigmas, latent_image=empty), expected) > 100 * ROUNDING


@each_kind
def test_two_samplers_in_a_row_share_one_schedule(pack, kind):
    """The first hands over at the noise level at which the second begins; the later calls are those of the whole."""
    tiny = model("flux")
    solver = fitted(pack, kind, sigmas_of(tiny, STEPS))
    applied, asked = call("DyWeightApply", model=tiny, solver=solver), []

    def look(x, sigma):
        asked.append(float(sigma[0]))
        return x * 0

    answer_with(applied, look)
    half = advanced(applied, "flux", STEPS, end_at_step=2, return_with_leftover_noise="enable")
    options = {"add_noise": "disable", "start_at_step": 2, "latent_image": {"samples": half}}
    advanced(applied, "flux", STEPS, **options)
    torch.testing.assert_close(torch.tensor(asked), solver.plan().query_sigmas.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("vp", [False, True], ids=["flow", "vp"])
@pytest.mark.parametrize("steps", [1, 2, 5, 13, 30])
@each_kind
def test_nothing_leaves_the_picture(pack, kind, steps, vp):
    plotted(fitted(pack, kind, schedule(pack, steps, vp)))


def test_a_base_solver_with_two_calls_a_step_has_a_picture(pack):
    plotted(fitted(pack, "learned-schedule", schedule(pack, 4), base="heun"))


@each_kind
def test_the_picture_shows_the_numbers(pack, kind):
    one, other = (plotted(fitted(pack, kind, schedule(pack, 4), seed=seed)) for seed in (0, 1))
    assert one.shape == other.shape and not torch.equal(one, other)
