"""The numerical study: exact where it must be, of the right order, the gradient is autograd's, it runs."""

import json
import math

import pytest
import torch

from benchmarks.studies.numerical import STUDY, Errors, Grid, observations
from benchmarks.studies.polynomials import DIMENSION, MOST, Integration, Problems, optimised_weights, problems

DEGREES, ORDERS = (2, 4, 9), (1, 2, 3, 4)


@pytest.fixture(scope="module")
def given():
    return problems(runs=3, largest_degree=max(DEGREES), seed=5)


def standard(given, degrees, orders, steps):
    made = Integration(given, degrees, orders, steps, torch.float64)
    return made.relative_errors(made.classical_weights())


def test_a_solver_of_order_o_integrates_a_polynomial_of_degree_o_exactly(given):
    alone = Problems(torch.zeros_like(given.coupling), given.coefficients)
    for order in ORDERS:
        exact, not_exact = standard(alone, (order, order + 1), (order,), steps=7)[0].amax(-1)
        assert exact < 1e-14 < 1e-4 < not_exact


@pytest.mark.parametrize("order", ORDERS)
def test_the_error_falls_with_the_order_of_the_solver(given, order):
    steps = torch.tensor([32, 64, 128, 256])
    errors = torch.stack([standard(given, (9,), (order,), int(s)).mean() for s in steps]).log()
    centred = steps.double().log() - steps.double().log().mean()
    assert -(centred @ errors / centred.square().sum()).item() == pytest.approx(order, abs=0.15)


def test_the_error_is_that_of_a_loop_over_the_ode_itself(given):
    """One run, order 3, time-varying weights: y' = y_gt' + A (y - y_gt), integrated in y."""
    steps, order, run = 6, 3, 1
    weights = torch.randn(steps, MOST, 3, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    made = Integration(given, (9,), (order,), steps, torch.float64)
    powers, matrix, coefficients = torch.arange(10.0), given.coupling[run], given.coefficients[run]

    def exact(t):
        return coefficients @ (t**powers).double()

    def slope(t, y):
        own = coefficients[:, 1:] @ (powers[1:] * t ** (powers[1:] - 1)).double()
        return own + matrix @ (y - exact(t))

    states = [exact(n / steps) for n in range(order)]
    for n in range(order - 1, steps):
        moves = [weights[n, i, run, 0, 0] * slope((n - i) / steps, states[n - i]) for i in range(order)]
        states.append(states[n] + sum(moves) / steps)
    found = made.errors(weights * made.free)[run, :, 0]
    torch.testing.assert_close(found, states[-1] - exact(1.0), rtol=1e-4, atol=1e-4)


def test_the_gradient_is_autograds(given):
    made = Integration(given, DEGREES, ORDERS, 6, torch.float64)
    weights = made.classical_weights()

    def loss(weights):
        error, slopes = torch.zeros(3, DIMENSION, weights.shape[-1], dtype=torch.float64), []
        for n in range(6):
            slopes.append(made._own_slopes[n] + made._coupling @ error)
            error = error - made._increments[n] + sum(weights[n, i] * slopes[n - i] for i in range(min(n + 1, MOST)))
        return error.square().mean(1).sum()

    expected = torch.func.grad(loss)(weights) * made.free
    torch.testing.assert_close(made.gradients(weights), expected, rtol=1e-10, atol=1e-12)


def test_a_run_learns_the_same_alone_as_among_others(given):
    together = optimised_weights(Integration(given, DEGREES, ORDERS, 6, torch.float64), 20)
    one = Problems(given.coupling[1:2], given.coefficients[1:2])
    alone = optimised_weights(Integration(one, DEGREES[1:2], ORDERS[2:3], 6, torch.float64), 20)
    torch.testing.assert_close(together[:, :, 1:2, :, 7:8], alone, rtol=1e-9, atol=1e-12)


def test_optimising_lowers_the_error_at_the_end(given):
    made = Integration(given, DEGREES, ORDERS, 6, torch.float64)
    before = made.relative_errors(made.classical_weights())
    after = made.relative_errors(optimised_weights(made, 200))
    inexact = before > 1e-12  # degree 2 and 4 leave nothing to learn for orders above, but for the coupling
    assert bool((after < before)[inexact].all())


def test_observations_tell_where_they_fail():
    grid = Grid(degrees=(5, 10), steps=(6, 8), runs=1, iterations=1)
    sloping = torch.tensor([4.0, 3.0, 2.0, 1.0])[:, None] * torch.tensor([1.0, 1.1])
    standard = torch.stack([sloping, sloping / 2])
    optimised = standard * 0.9
    optimised[1, 3, 0] = 9.0
    found = observations(grid, Errors(standard, optimised, torch.tensor([0.0, 0.1]), 1.0))
    assert all(found["1. a higher order is better, standard"].values())
    assert [p for p, holds in found["3. optimised is below standard"].items() if not holds] == ["AB-4, S 8, K 5"]
    assert [p for p, holds in found["2. a higher degree is worse, optimised"].items() if not holds] == [
        "AB-4, S 8, K 10"
    ]
    (teacher,) = (points for name, points in found.items() if name.startswith("4."))
    assert teacher == {"K 5": True, "K 10": False}


def test_quick_runs_and_writes(tmp_path, capsys):
    assert STUDY.main(["--quick", "--out", str(tmp_path)]) == 0
    assert "AB-4" in capsys.readouterr().out
    numbers = json.loads((tmp_path / "numerical.json").read_text("utf-8"))["numbers"]["grid"]
    assert math.isfinite(sum(numbers["seeds"]["0"]["teacher"]))
    assert {"study-numerical.png", "study-numerical-grid.png"} <= {path.name for path in tmp_path.iterdir()}
