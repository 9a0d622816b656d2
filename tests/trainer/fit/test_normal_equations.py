"""Sums of J^T J and J^T r by finite differences, against the Jacobian that autograd gives."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import dyweight
from dyweight import DyWeight, schedules
from trainer.fit.normal_equations import NOISY_STEP, NormalEquations, choose_difference_step, normal_equations
from trainer.fit.parameters import DyWeightParameters
from trainer.losses.endpoint import EndpointLoss
from trainer.losses.features import Latent
from trainer.pairs.targets import Block, Targets
from trainer.pairs.teacher import Teacher
from trainer.run.network import Network

DEVIATION = 0.9
SETTINGS: list[dict[str, Any]] = [
    {},
    {"order": 1},
    {"order": 4},
    {"slope": "query"},
    {"analytic_first_step": True},
    {"time_shifting": False},
    {"time_scaling": False},
]


@pytest.fixture
def model(peaks: Any) -> Any:
    return peaks((3,), torch.float64)


@pytest.fixture
def blocks(model: Any) -> list[Block]:
    targets = Targets(Network(model), Teacher("ipndm", 20), 0, 4, None)
    return [targets.block("train", i) for i in range(2)]


def a_solver(model: Any, settings: dict[str, Any]) -> DyWeight:
    """Not at the usual start: every number that is used matters."""
    solver = DyWeight(model.schedule(4), **{"order": 3, **settings})
    with torch.no_grad():
        solver.weights[:, 0] -= 0.03
        if solver.time_scaling:
            solver.time_scale[int(solver.analytic_first_step) :] *= 0.93
    return solver


def autograd_problem(
    model: Any, solver: DyWeight, free: bool, blocks: list[Block]
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """A vector and the residuals as a differentiable function of it, by the textbook and not by `Parameters`.

    The vector is the used weights row by row, then the log of the used time scales; free: of a solver without time
    shifting that has the same table.
    """
    first = int(solver.analytic_first_step)
    shifting = solver.time_shifting and not (free and solver.time_scaling)
    twin = DyWeight(
        solver.sigmas,
        solver.order,
        solver.slope if shifting == solver.time_shifting else "state",
        solver.analytic_first_step,
        time_shifting=shifting,
        time_scaling=solver.time_scaling,
    ).set_table(solver.plan().detach())
    used = torch.arange(solver.order) <= torch.arange(solver.steps)[:, None]
    scales = twin.time_scale.detach()[first:].log() if solver.time_scaling else torch.zeros(0, dtype=torch.float64)
    vector = torch.cat([twin.weights.detach()[used], scales])

    def residuals(vector: Tensor) -> Tensor:
        count = int(used.sum())
        weights = torch.zeros_like(twin.weights).masked_scatter(used, vector[:count])
        time_scale = torch.cat([torch.ones(solver.steps - len(scales)).double(), vector[count:].exp()])
        for name, value in (("weights", weights), ("time_scale", time_scale)):
            delattr(twin, name) if name in twin._parameters else None
            setattr(twin, name, value)
        plan = twin.plan()
        ends = [dyweight.sample(lambda x, s: model.denoise(x, s, None), block.noise, plan) for block in blocks]
        errors = [(end - block.target) / DEVIATION for end, block in zip(ends, blocks, strict=True)]
        return torch.cat([error.flatten() for error in errors])

    return vector, residuals


@pytest.mark.parametrize(("step", "tolerance"), [(1e-6, 1e-4), (NOISY_STEP, 3e-2)], ids=["one side", "both sides"])
@pytest.mark.parametrize("free", [True, False], ids=["free", "coupled"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_they_are_those_of_autograd(
    settings: dict[str, Any], free: bool, step: float, tolerance: float, model: Any, blocks: list[Block]
) -> None:
    solver = a_solver(model, settings)
    parameters = DyWeightParameters(solver, free)
    vector, residuals = autograd_problem(model, solver, free, blocks)
    torch.testing.assert_close(parameters.read(solver), vector, rtol=1e-9, atol=1e-10)
    jacobian, residual = torch.autograd.functional.jacobian(residuals, vector), residuals(vector).detach()
    found = normal_equations(Network(model), blocks, parameters, vector, step, EndpointLoss(features=Latent(DEVIATION)))
    curvature, gradient = jacobian.T @ jacobian / len(residual), jacobian.T @ residual / len(residual)
    assert float((found.curvature - curvature).norm() / curvature.norm()) < tolerance
    assert float((found.gradient - gradient).norm() / gradient.norm()) < tolerance
    assert found.loss == pytest.approx(float((residual**2).mean()))
    assert torch.equal(found.curvature, found.curvature.T)


@pytest.mark.parametrize(("name", "delta"), [("l1", 1.0), ("huber", 0.3), ("huber", 100.0)])
def test_reweighted_squares_give_the_gradient_of_the_loss(
    name: Any, delta: float, model: Any, blocks: list[Block]
) -> None:
    loss = EndpointLoss(name, delta, Latent(DEVIATION))
    solver = a_solver(model, {})
    vector, residuals = autograd_problem(model, solver, True, blocks)
    vector.requires_grad_()
    value = loss.value(residuals(vector))
    (gradient,) = torch.autograd.grad(value, vector)
    found = normal_equations(Network(model), blocks, DyWeightParameters(solver, True), vector.detach(), 1e-6, loss)
    assert float((2 * found.gradient - gradient).norm() / gradient.norm()) < 1e-3
    assert found.loss == pytest.approx(float(value.detach()))


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("settings", [*SETTINGS, {"slope": "query", "analytic_first_step": True, "order": 2}], ids=str)
def test_the_network_calls_are_those_promised(
    settings: dict[str, Any], free: bool, model: Any, blocks: list[Block]
) -> None:
    solver = a_solver(model, settings)
    parameters, network = DyWeightParameters(solver, free), Network(model)
    vector = parameters.read(solver)
    normal_equations(network, blocks, parameters, vector, 1e-3, EndpointLoss(features=Latent(DEVIATION)))
    assert network.forward == 8 * parameters.jacobian_calls()
    assert network.backward == 0
    assert parameters.jacobian_calls() <= 2 * solver.steps**2 + solver.steps * (solver.order - 1)
    both = Network(model)
    normal_equations(both, blocks, parameters, vector, NOISY_STEP, EndpointLoss(features=Latent(DEVIATION)))
    assert both.forward == 8 * parameters.jacobian_calls(2)


def test_sums_do_not_depend_on_how_the_pairs_are_grouped(peaks: Any, model: Any) -> None:
    solver = a_solver(model, {})
    parameters = DyWeightParameters(solver, True)
    block = Targets(Network(model), Teacher("euler", 9), 0, 6, None).block("train", 0)
    parts = [Block(i, block.noise[i : i + 2], None, block.target[i : i + 2]) for i in (0, 2, 4)]
    found = [
        normal_equations(Network(model), blocks, parameters, parameters.read(solver), 1e-5, EndpointLoss())
        for blocks in ([block], parts, parts[::-1])
    ]
    for other in found[1:]:
        torch.testing.assert_close(other.curvature, found[0].curvature, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(other.gradient, found[0].gradient, rtol=1e-6, atol=1e-9)


def test_an_undamped_step_solves_and_promises_what_the_quadratic_gives() -> None:
    rows = torch.randn(9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    right = torch.randn(9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    equations = NormalEquations(rows.T @ rows / 9, rows.T @ right / 9, float((right**2).mean()))
    step = equations.step(0.0)
    torch.testing.assert_close(step, torch.linalg.lstsq(rows, -right[:, None]).solution[:, 0])
    after = float(((rows @ step + right) ** 2).mean())
    assert equations.promised(step) == pytest.approx(equations.loss - after)
    lengths = [float(equations.step(damping).norm()) for damping in (0, 0.1, 1, 10, 1e6)]
    assert lengths == sorted(lengths, reverse=True) and lengths[-1] < 1e-5


def test_a_parameter_without_effect_makes_no_infinite_step() -> None:
    curvature = torch.diag(torch.tensor([1.0, 0.0, 1e-30]).double())
    step = NormalEquations(curvature, torch.tensor([1.0, 0.0, 0.0]).double(), 1.0).step(1e-2)
    assert bool(step.isfinite().all()) and float(step[0]) == pytest.approx(-1 / 1.01)


def test_a_network_that_rounds_asks_for_a_larger_step(peaks: Any) -> None:
    """The same network, its answers rounded to bfloat16; over several directions."""
    steps: dict[str, list[float]] = {"exact": [], "rounded": []}
    for name, found in steps.items():
        model = peaks((16,))
        if name == "rounded":
            model.denoise = lambda x, sigma, cond, model=model: peaks.denoise(model, x, sigma, cond).bfloat16().float()
        block = Targets(Network(model), Teacher("ipndm", 20), 0, 8, None).block("train", 0)
        solver = a_solver(model, {})
        parameters = DyWeightParameters(solver, True)
        for seed in range(4):
            generator = torch.Generator().manual_seed(seed)
            vector = parameters.read(solver)
            found.append(choose_difference_step(Network(model), block, parameters, vector, generator))
    assert min(steps["rounded"]) > max(steps["exact"])
    assert all(1e-3 <= step <= 0.2 for found in steps.values() for step in found)


@pytest.mark.parametrize("step", [1e-4, NOISY_STEP])
def test_all_calls_are_made_under_inference_mode(step: float, model: Any, blocks: list[Block]) -> None:
    seen: list[bool] = []
    model.before_call = lambda calls, x, sigma: seen.append(torch.is_inference_mode_enabled())
    solver = a_solver(model, {})
    parameters = DyWeightParameters(solver, True)
    normal_equations(
        Network(model), blocks, parameters, parameters.read(solver), step, EndpointLoss(features=Latent(DEVIATION))
    )
    assert seen and all(seen)


def test_where_neither_side_of_a_step_is_a_table_a_smaller_one_is_taken(model: Any, blocks: list[Block]) -> None:
    """Down, the first weight carries the third time below 0; up, the first."""
    solver = DyWeight(schedules.polynomial(4), order=1).requires_grad_(False)
    solver.weights[:3, 0] = torch.tensor([1.272, 0.5, 1.1])
    parameters, step = DyWeightParameters(solver, False), 0.02
    vector = parameters.read(solver)
    for moved in (vector[0] + step, vector[0] - step):
        with pytest.raises(ValueError, match="0"):
            parameters.plan(torch.cat([moved[None], vector[1:]]))
    found = normal_equations(Network(model), blocks, parameters, vector, step, EndpointLoss(features=Latent(DEVIATION)))
    assert bool(torch.isfinite(found.curvature).all()) and float(found.curvature[0, 0]) > 0
