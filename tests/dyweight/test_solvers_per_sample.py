"""Solvers with a table for each sample: INDIS, and DyWeight corrected by phi."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dyweight import (
    DyWeight,
    Indis,
    InstanceDyWeight,
    SolverFile,
    SolverFileError,
    baselines,
    load_solver,
    sample,
    save_solver,
)
from dyweight import schedules as known_schedules

SHAPE, WIDTH = (2, 3, 3), 4
SCHEDULES = {
    "flow": known_schedules.flow(5),
    "polynomial": known_schedules.polynomial(5),
    "to zero": torch.cat([known_schedules.polynomial(4), torch.zeros(1, dtype=torch.float64)]),
}
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES)
each_family = pytest.mark.parametrize("family", ["indis", "instance-dyweight"])


def learned(sigmas):
    """Rows that sum to a little less than 1, as learned ones do."""
    solver = DyWeight(sigmas, 2, "query").requires_grad_(False)
    random = torch.Generator().manual_seed(3)
    noise = torch.randn(solver.weights.shape, generator=random, dtype=torch.float64)
    solver.weights += 0.03 * noise * torch.ones(solver.steps, 2).tril()
    solver.weights *= 0.97 / solver.weights.sum(1, keepdim=True)
    solver.time_scale *= 0.95
    return solver


def untrained(family, schedule="flow", **options):
    sigmas = SCHEDULES[schedule]
    if family == "indis":
        return Indis(sigmas, SHAPE, WIDTH, **options)
    return InstanceDyWeight(learned(sigmas), SHAPE, WIDTH, **options)


def speaking(family, schedule="flow", **options):
    """A solver whose phi says something, as after a fit."""
    solver = untrained(family, schedule, **options)
    torch.manual_seed(1)
    torch.nn.init.normal_(solver.phi.leave.weight, std=0.5)
    torch.nn.init.normal_(solver.phi.leave.bias, std=0.5)
    return solver.requires_grad_(False)


def inputs(solver, batch=4):
    torch.manual_seed(2)
    return torch.randn(batch, *SHAPE).double() * solver.sigmas[0], torch.randn(batch, WIDTH)


def same_plan(found, expected, rows=slice(None), tolerance=1e-12):
    for name in ("sigmas", "query_sigmas", "gains"):
        one, other = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(*torch.broadcast_tensors(one[rows], other), rtol=tolerance, atol=tolerance)


@each_schedule
@pytest.mark.parametrize("base", baselines.NAMES)
def test_untrained_indis_is_its_base_solver(base, schedule):
    solver = Indis(SCHEDULES[schedule], SHAPE, WIDTH, base)
    noise, condition = inputs(solver)
    expected = baselines.plan(base, SCHEDULES[schedule])
    same_plan(solver.plan().detach(), expected)
    same_plan(solver.plan(noise=noise, condition=condition).detach(), expected)
    assert solver.network_calls == expected.network_calls and solver.steps == 5


@pytest.mark.parametrize("base", ["heun", "dpm_solver_2"])
@pytest.mark.parametrize(("made_for", "given"), [("to zero", "polynomial"), ("polynomial", "to zero")])
def test_a_schedule_with_another_number_of_network_calls_is_an_error(base, made_for, given):
    """A step to 0 takes one call, any other two."""
    solver = Indis(SCHEDULES[made_for], SHAPE, WIDTH, base)
    needed = "end at 0" if made_for == "to zero" else "end above 0"
    with pytest.raises(ValueError, match=rf"{base} makes (9|10) network calls.*{needed}"):
        solver.plan(SCHEDULES[given], *inputs(solver))


@each_schedule
def test_untrained_corrections_leave_the_dyweight(schedule):
    solver = untrained("instance-dyweight", schedule)
    noise, condition = inputs(solver)
    same_plan(solver.plan(noise=noise, condition=condition).detach(), learned(SCHEDULES[schedule]).plan())


@each_schedule
def test_indis_is_the_papers_formulas(schedule):
    """Timesteps by cumulative softmax, and gamma * eps(x, tau + shift) in the base solver's loop."""
    solver = speaking("indis", schedule, base="ipndm", order=2)
    noise, condition = inputs(solver, 1)
    said = solver.phi((noise / solver.sigmas[0]).float(), condition)[0].double()
    logits, shifts, scales = (4 * torch.tanh(said[:5] / 4), said[5:10], said[10:])
    base = solver.sigmas
    share = torch.softmax((base[:-1] - base[1:]).log() + logits, 0)
    tau = [float(base[0] - share[:n].sum() * (base[0] - base[-1])) for n in range(6)]

    def denoise(x, sigma):
        return torch.sin(3 * x) / (1 + sigma)

    x, slopes = noise, []
    for n in range(5):
        asked = tau[n] * float(1 + 0.3 * torch.tanh(shifts[n] / 2))
        gamma = float(1 + 0.3 * torch.tanh(scales[n] / 2))
        slopes.append(gamma * (x - denoise(x, asked)) / asked)
        mean = slopes[-1] if n == 0 else 1.5 * slopes[-1] - 0.5 * slopes[-2]
        x = x + (tau[n + 1] - tau[n]) * mean
    plan = solver.plan(noise=noise, condition=condition)
    found = sample(lambda x, sigma: denoise(x, sigma.reshape(-1, 1, 1, 1)), noise, plan)
    torch.testing.assert_close(found, x, rtol=1e-9, atol=1e-9)


@each_schedule
@pytest.mark.parametrize("slope", ["state", "query"])
def test_corrections_are_those_of_weights_and_time_scales(schedule, slope):
    """With the times of the DyWeight, each row moves by the corrected weights."""
    base = DyWeight(SCHEDULES[schedule], 2, slope).requires_grad_(False)
    base.weights *= 0.97
    base.time_scale *= 0.9
    solver = InstanceDyWeight(base, SHAPE, WIDTH)
    torch.manual_seed(1)
    torch.nn.init.normal_(solver.phi.leave.weight)
    noise, condition = inputs(solver, 1)
    said = solver.phi((noise / solver.sigmas[0]).float(), condition)[0].double().detach()
    weights = said[:10].reshape(5, 2)
    shared, plan = base.plan(), solver.plan(noise=noise, condition=condition).detach()
    scale = 0.9 * (1 + 0.3 * torch.tanh(said[10:] / 2))
    torch.testing.assert_close(plan.query_sigmas, shared.sigmas[:-1] * scale)
    torch.testing.assert_close(plan.sigmas, shared.sigmas)
    for n in range(5):
        step = float(base.sigmas[n + 1] - shared.sigmas[n])
        for i in range(min(n + 1, 2)):
            total = float(base.weights[n, : n + 1].sum())
            weight = float(base.weights[n, i] + 0.5 * total * torch.tanh(weights[n, i] / 2))
            divisor = float(plan.sigmas[n - i] if slope == "state" else plan.query_sigmas[n - i])
            assert float(plan.gains[n, n - i]) == pytest.approx(step * weight / divisor, rel=1e-9)


@each_family
@each_schedule
def test_each_sample_has_its_own_table_whatever_stands_beside_it(family, schedule):
    solver = speaking(family, schedule)
    noise, condition = inputs(solver)
    plan = solver.plan(noise=noise, condition=condition)
    assert plan.batch == 4
    assert float(plan.query_sigmas.std(0).max()) > 1e-3 * float(solver.sigmas[0])
    for i in range(4):
        alone = solver.plan(noise=noise[i : i + 1], condition=condition[i : i + 1])
        assert alone.batch is None
        for name in ("sigmas", "query_sigmas", "gains"):
            torch.testing.assert_close(getattr(plan, name)[i], getattr(alone, name), rtol=1e-5, atol=1e-6)


@each_family
@each_schedule
@settings(deadline=None, max_examples=25)
@given(scale=st.floats(0, 1e6), seed=st.integers(0, 99))
def test_whatever_phi_says_the_table_is_sound(family, schedule, scale, seed):
    """The numbers are bounded: the schedule decreases between its ends, and no network call leaves the range."""
    solver = untrained(family, schedule).requires_grad_(False)
    torch.manual_seed(seed)
    solver.phi.leave.weight.copy_(scale * torch.randn_like(solver.phi.leave.weight))
    noise, condition = inputs(solver)
    plan = solver.plan(noise=noise, condition=condition)
    states = torch.atleast_2d(plan.sigmas)
    if family == "indis":
        assert torch.equal(states[:, 0], solver.sigmas[:1].expand(4))
        assert torch.equal(states[:, -1], solver.sigmas[-1:].expand(4))
        assert bool((states[:, 1:] < states[:, :-1]).all())
    assert bool((plan.query_sigmas <= 1.3 * solver.sigmas[0]).all() and (plan.query_sigmas > 0).all())


@each_family
def test_without_shift_factors_calls_are_at_the_states(family):
    solver = speaking(family, shift_factors=False)
    noise, condition = inputs(solver)
    plan = solver.plan(noise=noise, condition=condition)
    if family == "indis":
        torch.testing.assert_close(plan.query_sigmas, plan.sigmas[:, :-1])
        rows = baselines.plan("ipndm", plan.sigmas)
        torch.testing.assert_close(plan.gains, rows.gains)
    else:
        torch.testing.assert_close(plan.query_sigmas, learned(solver.sigmas).plan().query_sigmas.expand(4, -1))


@each_family
def test_without_the_instance_and_a_condition_all_samples_share_one_table(family):
    solver = speaking(family, instance=False)
    noise, _ = inputs(solver)
    assert solver.plan(noise=noise).batch is None


@each_family
@each_schedule
def test_a_file_gives_the_same_solver(family, schedule, tmp_path):
    solver = speaking(family, schedule)
    save_solver(solver, tmp_path / "one", {"model": "test"})
    file = SolverFile.read(tmp_path / "one")
    loaded = file.solver
    assert type(loaded) is type(solver) and file.provenance == {"model": "test"}
    noise, condition = inputs(solver)
    same_plan(loaded.plan(noise=noise, condition=condition), solver.plan(noise=noise, condition=condition))
    file.write(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def with_settings(path, **changes):
    """The file with other settings and the same tensors."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    changed = json.loads(header["__metadata__"]["settings"]) | changes
    header["__metadata__"]["settings"] = json.dumps(changed)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


@each_family
@pytest.mark.parametrize(
    "changes",
    [
        {"hidden": 10**9},
        {"hidden": -1},
        {"hidden": 255},
        {"grid": [8]},
        {"grid": [3, 3, 3, 3]},
        {"grid": [3, 10**9]},
        {"grid": "3"},
        {"channels": 0},
        {"channels": 3},
        {"condition_width": 5},
        {"detail": 1},
        {"shift_factors": False},
        {"shift_factors": 1},
        {"sigmas": [1.0, 0.0]},
        {"sigmas": [1.0 - i / 1000 for i in range(1000)]},
        {"unheard_of": 1},
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(family, changes, tmp_path):
    path = tmp_path / "file"
    save_solver(speaking(family), path, {})
    with_settings(path, **changes)
    with pytest.raises(SolverFileError, match=str(path)):
        load_solver(path)


def test_an_unknown_base_in_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    save_solver(speaking("indis"), path, {})
    with_settings(path, base="os.system")
    with pytest.raises(SolverFileError, match=r"solver 'os.system' is unknown"):
        load_solver(path)


@each_family
def test_gradients_reach_phi_and_nothing_else(family):
    solver = untrained(family)
    noise, condition = inputs(solver)
    end = sample(lambda x, sigma: torch.sin(x), noise, solver.plan(noise=noise, condition=condition))
    end.square().sum().backward()
    assert float(solver.phi.leave.weight.grad.abs().max()) > 0
    assert {name.split(".")[0] for name, value in solver.named_parameters() if value.requires_grad} == {"phi"}


@each_family
def test_the_random_state_of_the_caller_stays(family):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, second, other = untrained(family), untrained(family), untrained(family, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.phi.middle[1].weight, second.phi.middle[1].weight)
    assert not torch.equal(first.phi.middle[1].weight, other.phi.middle[1].weight)


@pytest.mark.parametrize("steps", [50, 100])
def test_many_steps_of_a_base_solver_whose_gains_fade_to_nothing(steps):
    """A gain of unipc that is rounded to 0 on the base schedule may stand on a sample's own."""
    solver = Indis(known_schedules.polynomial(steps), SHAPE, WIDTH, "unipc").requires_grad_(False)
    torch.manual_seed(1)
    torch.nn.init.normal_(solver.phi.leave.bias, std=2.0)
    noise, condition = inputs(solver)
    plan = solver.plan(noise=noise, condition=condition)
    assert plan.batch == 4 and plan.rows == steps
