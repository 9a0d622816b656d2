"""The numbers of a learned schedule and of a free table as a vector: there and back, touching what it says."""

import math
from typing import Any

import pytest
import torch

from dyweight import FreeTable, LearnedSchedule, schedules
from trainer.fit.parameters import OwnNumbers
from trainer.fit.starts import as_it_is, worth_exploring

SIGMAS = schedules.polynomial(5)
CASES: dict[str, Any] = {
    "schedule": lambda: LearnedSchedule(SIGMAS),
    "schedule, two calls a step": lambda: LearnedSchedule(SIGMAS, "heun"),
    "schedule, asked at the states": lambda: LearnedSchedule(SIGMAS, time_scaling=False),
    "table": lambda: FreeTable(SIGMAS),
}
COUNTS = {"schedule": 10, "schedule, two calls a step": 15, "schedule, asked at the states": 5, "table": 20}
each_case = pytest.mark.parametrize("case", CASES)


def shaken(case: str) -> Any:
    solver = CASES[case]().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, value in solver.named_parameters():
        noise = 0.1 * torch.randn(value.shape, generator=generator, dtype=torch.float64)
        value += noise.tril() if name == "gains" else noise
    return solver


@each_case
def test_what_is_read_makes_the_same_solver(case: str) -> None:
    solver = shaken(case)
    numbers = OwnNumbers(CASES[case]())
    vector = numbers.read(solver)
    assert vector.dtype == torch.float64 and vector.shape == (len(numbers),) == (COUNTS[case],)
    written = numbers.solver_of(vector)
    assert written.settings() == solver.settings()
    for found in (numbers.plan(vector), written.plan()):
        torch.testing.assert_close(found.gains, solver.plan().gains)
        torch.testing.assert_close(found.query_sigmas, solver.plan().query_sigmas)
        torch.testing.assert_close(found.sigmas, solver.plan().sigmas)


@each_case
def test_a_number_changes_nothing_before_the_row_it_names(case: str) -> None:
    numbers = OwnNumbers(shaken(case))
    vector = numbers.read(numbers.solver)
    base = numbers.plan(vector)
    for index, (row, changes_call) in enumerate(numbers.first_touched):
        step = torch.zeros_like(vector)
        step[index] = 1e-3
        moved = numbers.plan(vector + step)
        asked, gains = moved.query_sigmas != base.query_sigmas, (moved.gains != base.gains).any(1)
        assert not bool(asked[:row].any() | gains[:row].any())
        assert bool(asked[row]) == changes_call
        assert changes_call or bool(gains[row])


@each_case
def test_a_column_costs_the_calls_from_that_row_on(case: str) -> None:
    numbers = OwnNumbers(CASES[case]())
    calls = numbers.solver.network_calls
    expected = [calls - row - (not changes) for row, changes in numbers.first_touched]
    assert numbers.column_calls() == expected and numbers.jacobian_calls() == calls + sum(expected)


@each_case
def test_numbers_beyond_any_samplers_are_refused(case: str) -> None:
    numbers = OwnNumbers(CASES[case]())
    vector = numbers.read(numbers.solver)
    for far in (math.nan, math.inf, 1e5):
        vector[-1] = far
        with pytest.raises(ValueError, match="beyond any sampler"):
            numbers.plan(vector)


@each_case
def test_the_starts_are_as_it_is_and_asked_lower(case: str) -> None:
    solver = shaken(case)
    starts = worth_exploring(solver)
    plans = [start.parameters.plan(start.vector) for start in starts]
    own = as_it_is(solver)
    torch.testing.assert_close(starts[0].vector, own.vector)
    assert len(starts) == (1 if case == "schedule, asked at the states" else 2)
    for lower in plans[1:]:
        torch.testing.assert_close(lower.query_sigmas, 0.9 * solver.plan().query_sigmas)
        torch.testing.assert_close(lower.sigmas, solver.plan().sigmas)
