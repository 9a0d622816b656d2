"""The Fréchet distance of Gaussians against closed forms."""

import numpy as np
import pytest

from benchmarks.harness.frechet import frechet_distance


def test_of_one_gaussian_it_is_nothing_and_of_two_means_their_squared_distance():
    random = np.random.default_rng(0)
    spread = (half := random.normal(size=(6, 6))) @ half.T
    mean, shift = random.normal(size=6), random.normal(size=6)
    assert frechet_distance((mean, spread), (mean, spread)) == pytest.approx(0, abs=1e-9)
    assert frechet_distance((mean, spread), (mean + shift, spread)) == pytest.approx(shift @ shift)


def test_of_commuting_covariances_it_is_the_squared_distance_of_their_roots():
    random = np.random.default_rng(1)
    turn, _ = np.linalg.qr(random.normal(size=(5, 5)))
    one, other = random.uniform(0.1, 3, size=(2, 5))
    found = frechet_distance((np.zeros(5), turn * one @ turn.T), (np.zeros(5), turn * other @ turn.T))
    assert found == pytest.approx(((np.sqrt(one) - np.sqrt(other)) ** 2).sum())


def test_of_covariances_that_do_not_commute_it_is_by_the_root_of_their_product():
    random = np.random.default_rng(2)
    one, other = ((half := random.normal(size=(4, 4))) @ half.T for _ in range(2))
    values = np.linalg.eigvals(one @ other)
    expected = np.trace(one) + np.trace(other) - 2 * np.sqrt(values.real).sum()
    assert frechet_distance((np.zeros(4), one), (np.zeros(4), other)) == pytest.approx(expected)


def test_a_direction_without_spread_is_no_obstacle():
    flat = np.diag([1.0, 0.0])
    assert frechet_distance((np.zeros(2), flat), (np.ones(2), np.eye(2))) == pytest.approx(2 + 1)
