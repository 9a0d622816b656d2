"""A solver's numbers as a vector: there and back, by either parameterisation, touching what it says it touches."""

from typing import Any

import pytest
import torch
from torch import Tensor

from dyweight import DyWeight, Plan, schedules
from trainer.fit.parameters import DyWeightParameters
from trainer.fit.starts import as_it_is, worth_exploring

SETTINGS: list[dict[str, Any]] = [
    {},
    {"order": 1},
    {"order": 5},
    {"slope": "query"},
    {"analytic_first_step": True},
    {"analytic_first_step": True, "slope": "query"},
    {"time_shifting": False},
    {"time_scaling": False},
    {"time_shifting": False, "time_scaling": False, "analytic_first_step": True},
]
SCHEDULES = {"edm": schedules.polynomial(5), "flow": schedules.flow(5, 3.0), "one step": schedules.flow(1)}
CASES = [
    pytest.param(name, settings, free, id=f"{name}-{settings}-{'free' if free else 'coupled'}")
    for name in SCHEDULES
    for settings in SETTINGS
    for free in (True, False)
    if name != "one step" or not settings or settings == {"order": 1}
]


def shaken(name: str, settings: dict[str, Any], seed: int = 0) -> DyWeight:
    """A solver with every number that it uses a little off its start."""
    solver = DyWeight(SCHEDULES[name], **{"order": min(3, len(SCHEDULES[name]) - 1), **settings})
    generator = torch.Generator().manual_seed(seed)
    first = int(solver.analytic_first_step)
    with torch.no_grad():
        noise = torch.randn(solver.weights.shape, generator=generator, dtype=torch.float64)
        solver.weights += 0.02 * noise * (solver.weights != 0)
        if solver.time_scaling:
            solver.time_scale[first:] *= 1 + 0.1 * torch.rand(solver.steps - first, generator=generator).double()
    return solver


def assert_same_table(found: Plan, expected: Plan) -> None:
    torch.testing.assert_close(found.query_sigmas, expected.query_sigmas, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.gains, expected.gains, rtol=1e-9, atol=1e-11)
    assert found.analytic_first_step == expected.analytic_first_step


@pytest.mark.parametrize(("name", "settings", "free"), CASES)
def test_what_is_read_makes_the_same_table_and_is_written_back(name: str, settings: dict[str, Any], free: bool) -> None:
    solver = shaken(name, settings)
    parameters = DyWeightParameters(shaken(name, settings, seed=1), free)
    vector = parameters.read(solver)
    assert vector.dtype == torch.float64 and vector.shape == (len(parameters),)
    assert_same_table(parameters.plan(vector), solver.plan())
    written = parameters.solver_of(vector)
    assert written.settings() == solver.settings()
    assert_same_table(written.plan(), solver.plan())
    torch.testing.assert_close(written.weights.detach(), solver.weights.detach(), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(written.time_scale.detach(), solver.time_scale.detach(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(parameters.read(written), vector, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("name", "settings", "free"), CASES)
def test_there_are_as_many_as_the_solver_uses(name: str, settings: dict[str, Any], free: bool) -> None:
    solver = shaken(name, settings)
    weights = sum(min(n + 1, solver.order) for n in range(solver.steps))
    scales = (solver.steps - int(solver.analytic_first_step)) * solver.time_scaling
    parameters = DyWeightParameters(solver, free)
    assert len(parameters) == len(parameters.first_touched) == weights + scales


@pytest.mark.parametrize(("name", "settings", "free"), CASES)
def test_a_parameter_changes_nothing_before_the_row_it_names(name: str, settings: dict[str, Any], free: bool) -> None:
    solver = shaken(name, settings)
    parameters = DyWeightParameters(solver, free)
    vector = parameters.read(solver)
    base = parameters.plan(vector)
    for index, (row, changes_call) in enumerate(parameters.first_touched):
        step = torch.zeros_like(vector)
        step[index] = 1e-3
        moved = parameters.plan(vector + step)
        asked, gains = moved.query_sigmas != base.query_sigmas, (moved.gains != base.gains).any(1)
        assert not bool(asked[:row].any() | gains[:row].any())
        assert bool(asked[row]) == changes_call
        assert changes_call or bool(gains[row])


@pytest.mark.parametrize("settings", SETTINGS)
def test_free_and_coupled_reach_the_same_table(settings: dict[str, Any]) -> None:
    """Any table that one vector makes, the other makes too."""
    solver = shaken("edm", settings)
    free, coupled = DyWeightParameters(solver, True), DyWeightParameters(solver, False)
    for this, other in ((free, coupled), (coupled, free)):
        noise = torch.randn(len(this), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        plan = this.plan(this.read(solver) + 1e-3 * noise)
        target = shaken("edm", settings).set_table(plan)
        assert_same_table(other.plan(other.read(target)), plan)


def test_a_free_weight_moves_its_own_row_only() -> None:
    solver = shaken("edm", {})
    parameters = DyWeightParameters(solver, True)
    vector = parameters.read(solver)
    base = parameters.plan(vector)
    for index, (row, changes_call) in enumerate(parameters.first_touched):
        step = torch.zeros_like(vector)
        step[index] = 1e-3
        moved = parameters.plan(vector + step)
        rows = ((moved.gains != base.gains).any(1) | (moved.query_sigmas != base.query_sigmas)).nonzero().flatten()
        assert rows.tolist() == [row]
        assert changes_call == bool((moved.query_sigmas != base.query_sigmas).any())


@pytest.mark.parametrize("free", [True, False])
def test_what_is_switched_off_stays_where_it_was(free: bool) -> None:
    for settings in ({"time_scaling": False}, {"time_shifting": False}):
        solver = DyWeight(SCHEDULES["edm"], 3, **settings)  # type: ignore[arg-type]
        parameters = DyWeightParameters(solver, free)
        noise = torch.randn(len(parameters), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        moved = parameters.solver_of(parameters.read(solver) + 1e-3 * noise)
        plan = moved.plan()
        if not solver.time_scaling:
            torch.testing.assert_close(moved.time_scale.detach(), torch.ones(5).double())
            torch.testing.assert_close(plan.query_sigmas, plan.sigmas[:-1])
            assert not bool((plan.sigmas[1:] == SCHEDULES["edm"][1:]).any())
        else:
            torch.testing.assert_close(plan.sigmas, SCHEDULES["edm"])
            assert not bool((moved.time_scale == 1).any())


def test_reading_and_planning_leave_the_solver_alone() -> None:
    solver, other = shaken("edm", {}), shaken("edm", {}, seed=1)
    before = {name: tensor.clone() for name, tensor in solver.tensors().items()}
    parameters = DyWeightParameters(solver, True)
    parameters.plan(parameters.read(other))
    parameters.solver_of(parameters.read(other))
    assert all(torch.equal(tensor, before[name]) for name, tensor in solver.tensors().items())


@pytest.mark.parametrize("settings", SETTINGS)
def test_every_start_is_a_solver_of_the_same_settings(settings: dict[str, Any]) -> None:
    solver = shaken("edm", settings)
    own = as_it_is(solver)
    assert_same_table(own.parameters.plan(own.vector), solver.plan())
    tables: list[Tensor] = []
    for start in worth_exploring(solver):
        assert len(start.vector) == len(own.vector)
        plan = start.parameters.plan(start.vector)
        assert plan.analytic_first_step == solver.analytic_first_step and plan.rows == solver.steps
        assert_same_table(start.parameters.solver_of(start.vector).plan(), plan)
        tables.append(torch.cat([plan.gains.flatten(), plan.query_sigmas]))
    apart = solver.order > 1 or solver.time_scaling
    assert len(tables) > 1 and len({tuple(t.tolist()) for t in tables}) >= 1 + apart
