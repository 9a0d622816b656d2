"""DyWeight against the paper's algorithm 2, its initialisations and its ablations."""

from collections import deque

import pytest
import torch
from torch import Tensor

from dyweight import DyWeight, Plan, baselines, sample
from dyweight.sampling import run, start, update

ADAMS = {1: [1.0], 2: [1.5, -0.5], 3: [23 / 12, -16 / 12, 5 / 12], 4: [55 / 24, -59 / 24, 37 / 24, -9 / 24]}

each_slope = pytest.mark.parametrize("slope", ["state", "query"])
each_first_step = pytest.mark.parametrize("analytic", [False, True])
each_ablation = pytest.mark.parametrize(
    "ablation", [{}, {"time_shifting": False}, {"time_scaling": False}, {"time_shifting": False, "time_scaling": False}]
)


def trained(sigmas: Tensor, order: int = 3, slope: str = "state", analytic: bool = False, **options) -> DyWeight:
    """Random weights whose rows sum to a little less than 1, as learned ones do: no time reaches 0 too early."""
    solver = DyWeight(sigmas, order, slope, analytic, **options)
    with torch.no_grad():
        used = torch.ones(solver.steps, order, dtype=torch.float64).tril()
        solver.weights += 0.1 * used * torch.randn_like(solver.weights)
        solver.weights *= (0.9 + 0.09 * torch.rand(solver.steps, 1)) / solver.weights.sum(1, keepdim=True)
        if solver.time_scaling:
            solver.time_scale[int(analytic) :] += 0.1 * torch.randn(solver.steps - int(analytic), dtype=torch.float64)
    return solver


def algorithm_2(denoise, x, solver):
    """The paper's sampling loop, with its time calibration; the buffer holds the newest slopes first."""
    base, weights, scale = solver.sigmas.tolist(), solver.weights.tolist(), solver.time_scale.tolist()
    t, buffer = base[0], deque(maxlen=len(weights[0]))
    for n in range(len(base) - 1):
        if n == 0 and solver.analytic_first_step:
            buffer.appendleft(x / (1 + t**2) ** 0.5)
        else:
            asked = scale[n] * t if solver.time_scaling else t
            buffer.appendleft((x - denoise(x, asked)) / (t if solver.slope == "state" else asked))
        h = base[n + 1] - t
        available = weights[n][: len(buffer)]
        x = x + h * sum(w * g for w, g in zip(available, buffer, strict=True))
        t = t + h * sum(available) if solver.time_shifting else base[n + 1]
    return x, t


@each_slope
@each_first_step
@each_ablation
@pytest.mark.parametrize("order", [1, 2, 3, 6])
def test_it_is_algorithm_2(order, slope, analytic, ablation, sigmas, noise, denoise, assert_same):
    solver = trained(sigmas, order, slope, analytic, **ablation)
    plan = solver.plan().detach()
    expected, time = algorithm_2(denoise, noise, solver)
    assert_same(sample(denoise, noise, plan), expected)
    assert plan.sigmas[-1].item() == pytest.approx(time, rel=1e-12, abs=1e-12)
    assert plan.analytic_first_step == analytic and plan.history == order
    assert plan.network_calls == solver.network_calls == 6 - int(analytic)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_untrained_it_is_ipndm(order, sigmas, noise, denoise, assert_same):
    slopes, x = [], noise
    for s, t in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        slopes.insert(0, (x - denoise(x, s)) / s)
        x = x + (t - s) * sum(w * g for w, g in zip(ADAMS[min(len(slopes), order)], slopes, strict=False))
    plan = DyWeight(sigmas, order).plan().detach()
    assert_same(sample(denoise, noise, plan), x)
    assert_same(plan.gains, baselines.plan("ipndm", sigmas, order).gains)
    assert_same(plan.query_sigmas, sigmas[:-1])
    assert_same(plan.sigmas, sigmas)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_with_the_weights_of_the_real_spacing_it_is_ipndm_v(order, sigmas, assert_same):
    plan = DyWeight(sigmas, order, initial="adams-bashforth-variable").plan().detach()
    assert_same(plan.gains, baselines.plan("ipndm_v", sigmas, order).gains)


@pytest.mark.parametrize(
    ("initial", "last_rows"),
    [
        ("adams-bashforth", [ADAMS[4] + [0], [1901 / 720, -2774 / 720, 2616 / 720, -1274 / 720, 251 / 720]]),
        ("euler", [[1, 0, 0, 0, 0], [1, 0, 0, 0, 0]]),
        ("uniform", [[1 / 4] * 4 + [0], [1 / 5] * 5]),
    ],
)
def test_initial_weights(initial, last_rows, sigmas, assert_same):
    solver = DyWeight(sigmas, order=5, initial=initial)
    assert_same(solver.weights.detach()[3:5], torch.tensor(last_rows, dtype=torch.float64))
    assert solver.weights[0].tolist() == [1, 0, 0, 0, 0]
    assert torch.equal(solver.time_scale, torch.ones(6, dtype=torch.float64))


@pytest.mark.parametrize("initial", ["adams-bashforth", "adams-bashforth-variable", "euler", "uniform"])
def test_every_initialisation_keeps_the_schedule(initial, sigmas, assert_same):
    """Its rows sum to 1, so no time is shifted."""
    assert_same(DyWeight(sigmas, initial=initial).plan().sigmas.detach(), sigmas)


def test_shapes_and_dtypes(sigmas):
    solver = DyWeight(sigmas, order=2)
    assert (solver.steps, solver.order) == (6, 2)
    assert solver.weights.shape == (6, 2) and solver.time_scale.shape == (6,) and solver.sigmas.shape == (7,)
    assert {v.dtype for v in (solver.weights, solver.time_scale, solver.sigmas)} == {torch.float64}
    assert {name for name, _ in solver.named_parameters()} == {"weights", "time_scale"}


@each_slope
@each_first_step
@each_ablation
def test_set_table_is_the_inverse_of_plan(slope, analytic, ablation, assert_same):
    sigmas = torch.tensor([5.0, 3.0, 1.8, 0.9, 0.3], dtype=torch.float64)
    solver = trained(sigmas, 3, slope, analytic, **ablation)
    found = DyWeight(sigmas, 3, slope, analytic, **ablation).set_table(solver.plan())
    assert_same(found.weights.detach(), solver.weights.detach(), 1e-10)
    assert_same(found.time_scale.detach(), solver.time_scale.detach(), 1e-10)
    assert_same(found.plan().gains.detach(), solver.plan().gains.detach(), 1e-10)


@each_slope
@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("ipndm", 2), ("ipndm_v", 3), ("dpmpp_2m", 6), ("unipc", 6)])
def test_set_table_takes_any_solver_of_its_history(name, order, slope, sigmas, noise, denoise, assert_same):
    plan = baselines.plan(name, sigmas)
    solver = DyWeight(sigmas, max(order, plan.history), slope).set_table(plan)
    assert_same(sample(denoise, noise, solver.plan().detach()), sample(denoise, noise, plan), 1e-10)


def test_set_table_refuses_other_shapes(sigmas):
    solver = DyWeight(sigmas, order=2)
    for plan in (
        baselines.plan("ipndm", sigmas[:-1], 2),
        baselines.plan("ipndm", sigmas, 3),
        baselines.plan("ipndm", torch.stack([sigmas, sigmas]), 2),
    ):
        with pytest.raises(ValueError, match="takes 6 rows of history 2 at most, and no batch"):
            solver.set_table(plan)


def test_set_table_refuses_a_time_that_meets_the_schedule():
    """Row 0 goes from 4 to 1, which is where row 1 should end: no weight makes a step of length 0 do anything."""
    sigmas = torch.tensor([4.0, 2.0, 1.0, 0.0])
    plan = baselines.plan("euler", sigmas)
    plan.gains[0, 0] = -3 / 4
    solver = DyWeight(sigmas)
    with pytest.raises(ValueError, match="meets the base schedule"):
        solver.set_table(plan)
    assert torch.equal(solver.weights, DyWeight(sigmas).weights)


@pytest.mark.parametrize(
    ("options", "scale", "analytic", "complaint"),
    [
        ({}, 1.0, True, "analytic"),
        ({"analytic_first_step": True}, 1.0, False, "analytic"),
        ({"time_scaling": False}, 1.1, False, "scal"),
    ],
)
def test_set_table_refuses_what_its_settings_rule_out(options, scale, analytic, complaint):
    """It makes the plan or says that it can't, never another plan without a word."""
    sigmas = torch.tensor([4.0, 2.0, 1.0, 0.0])
    plan = Plan(sigmas, scale * sigmas[:-1], baselines.plan("euler", sigmas).gains, analytic)
    with pytest.raises(ValueError, match=complaint):
        DyWeight(sigmas, **options).set_table(plan)


@each_slope
@each_first_step
def test_a_plan_on_other_sigmas_is_that_of_a_solver_made_there(slope, analytic, sigmas, assert_same):
    solver, elsewhere = trained(sigmas, 3, slope, analytic), sigmas**1.1 * 0.7
    moved = DyWeight(elsewhere, 3, slope, analytic)
    moved.weights.data, moved.time_scale.data = solver.weights.data, solver.time_scale.data
    for name in ("sigmas", "query_sigmas", "gains"):
        assert_same(getattr(solver.plan(elsewhere), name).detach(), getattr(moved.plan(), name).detach())


@pytest.mark.parametrize("points", [2, 6, 8])
def test_sigmas_of_another_length_name_both_step_counts(points, sigmas):
    other = torch.linspace(1, 0, points)
    with pytest.raises(ValueError, match=rf"sigmas has {points - 1} steps, this solver is for 6: give 7 sigmas"):
        DyWeight(sigmas).plan(other)


@each_slope
@each_first_step
def test_gradients_reach_weights_time_scale_and_sigmas(slope, analytic, denoise):
    sigmas = torch.tensor([3.0, 1.7, 0.8, 0.3], dtype=torch.float64)
    solver, noise = trained(sigmas, 2, slope, analytic), torch.randn(2, 2, dtype=torch.float64)

    def end(weights, time_scale, sigmas):
        parameters = {"weights": weights, "time_scale": time_scale}
        plan = torch.func.functional_call(Planner(solver), {f"solver.{k}": v for k, v in parameters.items()}, (sigmas,))
        return sample(denoise, noise, plan)

    inputs = (solver.weights.detach().clone(), solver.time_scale.detach().clone(), sigmas)
    assert torch.autograd.gradcheck(end, [value.requires_grad_() for value in inputs])


class Planner(torch.nn.Module):
    """plan() as a forward, for functional_call."""

    def __init__(self, solver: DyWeight) -> None:
        super().__init__()
        self.solver = solver

    def forward(self, sigmas: Tensor) -> Plan:
        return self.solver.plan(sigmas)


@each_slope
@each_first_step
def test_what_is_unused_gets_no_gradient_and_has_no_effect(slope, analytic, sigmas, noise, denoise, assert_same):
    solver = trained(sigmas, 3, slope, analytic)
    end = sample(denoise, noise, solver.plan())
    end.square().sum().backward()
    no_history = torch.ones(6, 3).tril() == 0
    assert bool((solver.weights.grad[no_history] == 0).all()) and bool((solver.weights.grad[~no_history] != 0).all())
    assert (solver.time_scale.grad == 0).tolist() == [analytic, *[False] * 5]
    with torch.no_grad():
        solver.weights[no_history] = 7.0
        if analytic:
            solver.time_scale[0] = 7.0
    assert_same(sample(denoise, noise, solver.plan().detach()), end.detach())


def test_without_time_shifting_the_states_stay_on_the_schedule(sigmas, assert_same):
    plan = trained(sigmas, time_shifting=False).plan().detach()
    assert_same(plan.sigmas, sigmas)
    assert not torch.allclose(plan.query_sigmas, sigmas[:-1])


def test_without_time_scaling_the_network_is_asked_at_the_states_time(sigmas, assert_same):
    solver = trained(sigmas, time_scaling=False)
    plan = solver.plan()
    assert_same(plan.query_sigmas.detach(), plan.sigmas.detach()[:-1])
    assert not solver.time_scale.requires_grad and solver.weights.requires_grad


@pytest.mark.parametrize("scale", [1.0, -1.0])
def test_weights_that_carry_the_time_below_0_are_refused(scale):
    solver = DyWeight(torch.tensor([1.0, 0.7, 0.4, 0.0]))
    with torch.no_grad():
        solver.weights[0, 0] = 4.0
        solver.time_scale[1] = scale
    with pytest.raises(ValueError, match="above 0"):
        solver.plan()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"order": 0}, "order is 0"),
        ({"order": -1}, "order is -1"),
        ({"order": 2.0}, "order is 2.0"),
        ({"order": True}, "order is True"),
        ({"slope": "time"}, "slope is 'time': give one of state, query"),
        (
            {"initial": "heun"},
            "initial is 'heun': give one of adams-bashforth, adams-bashforth-variable, euler, uniform",
        ),
        ({"sigmas": torch.ones(1)}, r"sigmas has shape \[1\]"),
        ({"sigmas": torch.ones(2, 3)}, r"sigmas has shape \[2, 3\]"),
        ({"sigmas": torch.tensor([1.0, 1.0, 0.0])}, "sigmas must decrease"),
        ({"sigmas": torch.tensor([1.0, -0.1])}, "0 or above"),
        ({"sigmas": torch.tensor([1.0, float("nan")])}, "sigmas must decrease"),
        ({"sigmas": torch.tensor([float("inf"), 1.0])}, "sigmas must decrease"),
    ],
)
def test_settings_that_make_no_solver(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        DyWeight(**{"sigmas": torch.tensor([1.0, 0.5, 0.0]), **settings})


def test_another_table_goes_on_from_a_state_although_its_own_gains_reach_back_further(sigmas, noise, denoise):
    """As a fit moves one weight at a time; the weights of a slope that nothing uses yet are 0."""
    begun, moved = (DyWeight(sigmas, 3, initial="euler").requires_grad_(False) for _ in range(2))
    moved.weights[3, 2] = -0.05
    asked = []
    run(denoise, start(noise, begun.plan()), begun.plan(), asked=asked)
    end = run(denoise, update(asked[3], moved.plan()), moved.plan())
    torch.testing.assert_close(end.x, sample(denoise, noise, moved.plan()))
