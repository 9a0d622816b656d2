"""Which rows of a solver with a table for each sample run on the sigmas that arrive."""

import pytest
import torch

from dyweight import DyWeight, Indis, InstanceDyWeight, baselines, sample, schedules
from dyweight.placement import ScheduleError, place

SHAPE, WIDTH, STEPS = (2, 3, 3), 4, 6
ETA, FLOW = schedules.polynomial(STEPS, 0.03, 15.0), schedules.flow(STEPS, 3.0)
each_kind = pytest.mark.parametrize("kind", ["indis", "instance-dyweight"])
each_schedule = pytest.mark.parametrize("own", [ETA, FLOW], ids=["polynomial", "flow"])


def speaking(kind, sigmas, **options):
    """A solver whose phi says something, as after a fit."""
    if kind == "indis":
        solver = Indis(sigmas, SHAPE, WIDTH, **options)
    else:
        solver = InstanceDyWeight(DyWeight(sigmas, 2, "query").requires_grad_(False), SHAPE, WIDTH, **options)
    torch.manual_seed(1)
    torch.nn.init.normal_(solver.phi.leave.weight, std=2.0)
    return solver.requires_grad_(False)


def read(batch=4):
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(batch, *SHAPE, generator=generator)
    return {"noise": noise, "condition": torch.randn(batch, WIDTH, generator=generator)}


def only(samples, i):
    return {name: value[i : i + 1] for name, value in samples.items()}


def same(plan, other, rows=slice(None), tolerance=1e-6):
    for name in ("sigmas", "query_sigmas", "gains"):
        torch.testing.assert_close(getattr(plan, name)[rows], getattr(other, name), rtol=tolerance, atol=tolerance)


@each_kind
@each_schedule
def test_its_own_schedule_rounded_as_comfyui_rounds_it_gives_its_own_tables(kind, own):
    solver, samples = speaking(kind, own), read()
    placement = place(solver, own.float(), **samples)
    assert placement.rule == "whole"
    same(placement.plan, solver.plan(noise=samples["noise"] * own[0], condition=samples["condition"]))


@each_kind
@each_schedule
@pytest.mark.parametrize(
    "arriving",
    [
        lambda own: own * 1.2,
        lambda own: own**1.15 * own[0] ** -0.15,
        lambda own: torch.cat([own[:1], own[1:-1] * 0.7, own[-1:]]),
        lambda own: own[:4],
        lambda own: own[2:],
        lambda own: torch.cat([own[:3], torch.zeros(1)]),
    ],
    ids=["higher", "curved", "lower", "first part", "last part", "forced end"],
)
def test_a_batch_gets_the_tables_that_its_samples_get_alone(kind, own, arriving):
    """Also where the rule is chosen by how far the times of a sample would move."""
    solver, samples = speaking(kind, own), read(8)
    plan = place(solver, arriving(own), **samples).plan
    assert plan.batch == 8
    assert float(plan.query_sigmas.std(0).max()) > 1e-3
    for i in range(8):
        alone = place(solver, arriving(own), **only(samples, i)).plan
        for name in ("sigmas", "query_sigmas", "gains"):
            torch.testing.assert_close(getattr(plan, name)[i], getattr(alone, name), rtol=1e-4, atol=1e-5)


@each_kind
def test_the_noise_is_of_unit_variance_wherever_the_arriving_sigmas_begin(kind):
    """phi hears the same of a noise at 1.5 times the level."""
    solver, samples, higher = speaking(kind, ETA), read(), ETA * 1.5
    placement = place(solver, higher, **samples)
    assert placement.rule == "whole"
    expected = solver.plan(higher, noise=samples["noise"] * higher[0], condition=samples["condition"])
    same(placement.plan, expected)


@pytest.mark.parametrize("condition", [False, True])
@pytest.mark.parametrize("first", range(1, STEPS))
@each_kind
@each_schedule
def test_a_part_hands_each_sample_on_at_the_level_at_which_the_next_part_begins(kind, own, first, condition):
    """Which knows the latent, perhaps another prompt, but not the noise it came from."""
    solver, samples = speaking(kind, own), read()
    before = place(solver, own[: first + 1], **samples).plan
    known = {"condition": samples["condition"] if condition else None}
    after = place(solver, own[first:], start=float(before.sigmas[0, -1]), **known).plan
    assert before.batch == 4
    assert bool((before.sigmas[:, 1:] < before.sigmas[:, :-1]).all())
    begins = after.sigmas[..., 0]
    torch.testing.assert_close(before.sigmas[:, -1], begins.expand(4), rtol=1e-12, atol=0)
    if kind == "indis":
        torch.testing.assert_close(after.sigmas[..., -1], own[-1].expand_as(begins), rtol=1e-12, atol=1e-12)


@each_schedule
@pytest.mark.parametrize("first", range(1, STEPS))
@pytest.mark.parametrize("base", ["euler", "heun", "dpm_solver_2"])
def test_two_parts_of_a_solver_without_history_that_reads_nothing_are_the_whole(own, first, base):
    def denoise(x, sigma):
        s = sigma.reshape(-1, 1)
        return (0.25 * x + s**2) / (0.25 + s**2)

    solver = speaking("indis", own, base=base, instance=False)
    before = place(solver, own[: first + 1])
    after = place(solver, own[first:], start=float(before.plan.sigmas[-1]))
    assert (before.rule, after.rule, after.first_step) == ("part", "part", first)
    assert before.plan.network_calls + after.plan.network_calls == solver.network_calls
    x = own[0] * torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(4, 2)
    halves = sample(denoise, sample(denoise, x, before.plan), after.plan)
    torch.testing.assert_close(halves, sample(denoise, x, solver.plan()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("base", ["ipndm", "dpmpp_2m", "heun"])
@each_schedule
def test_a_part_that_is_made_to_end_at_0_ends_each_sample_on_its_prediction(own, base):
    solver, samples, seen = speaking("indis", own, base=base), read(), []
    placement = place(solver, torch.cat([own[:3], torch.zeros(1)]), **samples)
    final = sample(
        lambda x, sigma: torch.tanh(x),
        samples["noise"].double() * own[0],
        placement.plan,
        lambda call: seen.append(call),
    )
    assert placement.rule == "part"
    torch.testing.assert_close(final, seen[-1].denoised, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("base", ["euler", "heun"])
def test_an_untrained_solver_on_its_last_steps_is_its_base_solver_there(base):
    """Of one without history: with history the first rows of a part are another matter."""
    solver = Indis(ETA, SHAPE, WIDTH, base).requires_grad_(False)
    placement = place(solver, ETA[3:], **read())
    expected = baselines.plan(base, ETA[3:])
    for name in ("sigmas", "query_sigmas", "gains"):
        found = getattr(placement.plan, name)
        torch.testing.assert_close(found, getattr(expected, name).expand_as(found), rtol=1e-9, atol=1e-12)


@each_kind
def test_another_number_of_steps_is_an_error(kind):
    with pytest.raises(ScheduleError, match="5 steps, but this solver is for 6"):
        place(speaking(kind, ETA), schedules.polynomial(5, 0.02, 15.0, rho=3.0), **read())
