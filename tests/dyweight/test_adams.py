"""Adams-Bashforth weights against exact rational integrals, the paper's closed forms and the classic numbers."""

from fractions import Fraction
from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dyweight.adams import EQUAL_STEP_WEIGHTS, adams_bashforth

CLASSIC = {
    1: [1],
    2: [Fraction(3, 2), Fraction(-1, 2)],
    3: [Fraction(23, 12), Fraction(-16, 12), Fraction(5, 12)],
    4: [Fraction(55, 24), Fraction(-59, 24), Fraction(37, 24), Fraction(-9, 24)],
    5: [Fraction(n, 720) for n in (1901, -2774, 2616, -1274, 251)],
}

gaps = st.lists(st.floats(0.25, 4), min_size=2, max_size=6)
"""Sizes of the steps, the last one first: [following to times[0], times[0] to times[1], ...]."""


def spaced(gaps: list[float], direction: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(times newest first, following), with time running up (1) or down (-1)."""
    points = direction * torch.cumsum(torch.tensor([0.0, *gaps], dtype=torch.float64), 0)
    return 40 - points[1:], 40 - points[0]


def lagrange_mean(times: list[float], following: float, j: int) -> Fraction:
    """Exact mean over the step of the polynomial that is 1 at times[j] and 0 at the other times."""
    points, end = [Fraction(t) for t in times], Fraction(following)
    others = [p for k, p in enumerate(points) if k != j]
    polynomial = [Fraction(1)]
    for root in others:
        raised, lowered = [Fraction(0), *polynomial], [*(-root * c for c in polynomial), Fraction(0)]
        polynomial = [a + b for a, b in zip(raised, lowered, strict=True)]
    integral = sum(c * (end ** (k + 1) - points[0] ** (k + 1)) / (k + 1) for k, c in enumerate(polynomial))
    return integral / prod(points[j] - p for p in others) / (end - points[0])


@given(gaps=gaps, direction=st.sampled_from([1.0, -1.0]))
def test_weights_are_the_integrals_of_the_lagrange_polynomials(gaps, direction):
    times, following = spaced(gaps, direction)
    weights = adams_bashforth(times, following)
    exact = [float(lagrange_mean(times.tolist(), following.item(), j)) for j in range(len(times))]
    scale = max(abs(w) for w in exact)
    assert weights.tolist() == pytest.approx(exact, rel=0, abs=1e-12 * scale)
    assert weights.sum().item() == pytest.approx(1, rel=0, abs=1e-12 * scale)


@pytest.mark.parametrize("order", CLASSIC)
@pytest.mark.parametrize("step", [1.0, -0.25])
def test_equal_steps_give_the_classic_weights(order, step):
    times = 3 - step * torch.arange(order, dtype=torch.float64)
    weights = adams_bashforth(times, times[0] + step)
    assert weights.tolist() == pytest.approx([float(w) for w in CLASSIC[order]], rel=1e-12)


def test_the_constants_are_the_classic_weights():
    assert {order: [float(w) for w in CLASSIC[order]] for order in (1, 2, 3, 4)} == {
        order: list(weights) for order, weights in EQUAL_STEP_WEIGHTS.items()
    }


def appendix_a(h: float, tau: list[float]) -> list[float]:
    """DyWeight, equations A.3, A.4, A.7, A.9, A.12 and A.13; tau[i] = t_n - t_(n+i), without tau_0 = 0."""
    if len(tau) == 1:
        return [1 + h / (2 * tau[0]), -h / (2 * tau[0])]
    if len(tau) == 2:
        a, b = tau
        return [
            1 + h / 2 * (a + b) / (a * b) + h**2 / (3 * a * b),
            (h**2 / 3 + h * b / 2) / (a * (a - b)),
            (h**2 / 3 + h * a / 2) / (b * (b - a)),
        ]
    a, b, c = tau
    pairs = 1 / (a * b) + 1 / (a * c) + 1 / (b * c)
    newest = 1 + h / 2 * (1 / a + 1 / b + 1 / c) + h**2 / 3 * pairs + h**3 / (4 * a * b * c)
    older = []
    for i, own in enumerate(tau):
        p, q = (t for j, t in enumerate(tau) if j != i)
        older.append((h**3 / 4 + h**2 / 3 * (p + q) + h / 2 * p * q) / ((0 - own) * (p - own) * (q - own)))
    return [newest, *older]


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_the_papers_closed_forms(order, direction, assert_same):
    for _ in range(20):
        times, following = spaced((0.1 + torch.rand(order, dtype=torch.float64)).tolist(), direction)
        expected = appendix_a((following - times[0]).item(), (times[0] - times[1:]).tolist())
        assert_same(adams_bashforth(times, following), torch.tensor(expected, dtype=torch.float64))


def test_a_batch_of_times_is_each_alone():
    times, following = torch.rand(4, 3, dtype=torch.float64).cumsum(0), -torch.rand(3, dtype=torch.float64)
    alone = [adams_bashforth(times[:, b], following[b]) for b in range(3)]
    torch.testing.assert_close(adams_bashforth(times, following), torch.stack(alone, 1), rtol=1e-14, atol=0)


def test_gradients_reach_the_times():
    times, following = torch.tensor([1.0, 1.7, 3.1, 4.0], dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
    assert torch.autograd.gradcheck(adams_bashforth, (times.requires_grad_(), following.requires_grad_()))
