"""The study of time shifting: watching changes nothing, slopes spread as they should, and why shifting is steady."""

import json
import math

import numpy as np
import pytest
import torch

from benchmarks.studies.common import Bench
from benchmarks.studies.time_shifting import STEPS, TEACHER, VARIANTS, expected, main, relative, summary
from benchmarks.studies.watched import Record, WatchedAdam, slopes
from dyweight import DyWeight, baselines, schedules
from trainer.checkpoints.builtin.gmm import GaussianMixture
from trainer.fit.adam import Adam, AdamSettings
from trainer.losses.endpoint import EndpointLoss
from trainer.pairs.pairs import Pairs
from trainer.pairs.targets import Targets
from trainer.run.network import Network

WIDTH = 0.5


@pytest.fixture(scope="module")
def gaussian():
    """One Gaussian of deviation WIDTH in 8 dimensions."""
    network = Network(GaussianMixture(torch.zeros(1, 8), torch.tensor([WIDTH]), torch.ones(1)))
    return network, network.checkpoint.draw(torch.Generator().manual_seed(0), 4000)[0]


def test_watching_changes_nothing():
    network = Network(GaussianMixture(torch.eye(4), torch.full((4,), 0.2), torch.full((4,), 0.25)))
    pairs = Pairs(Targets(network, TEACHER, 0, 8, None), 24, 8)
    ends = []
    for kind, more in ((Adam, {}), (WatchedAdam, {"expected": []})):
        solver = DyWeight(network.checkpoint.schedule(3), 2, time_shifting=False)
        adam = kind(solver, network, pairs, EndpointLoss(), AdamSettings(3, 0.02, False), **more)
        list(adam.run())
        ends.append((solver.weights.detach(), solver.time_scale.detach()))
    assert all(map(torch.equal, *ends))
    assert [len(seen) for seen in (adam.record.losses, adam.record.held_out_losses, adam.record.sigmas)] == [3, 3, 3]


def test_slopes_of_a_gaussian_spread_as_its_score_does(gaussian):
    """x at noise level t has deviation sqrt(WIDTH^2 + t^2); the slope is x t / (WIDTH^2 + t^2)."""
    network, noise = gaussian
    plan = baselines.plan("ipndm", network.checkpoint.schedule(100))
    _, sigmas, deviations = slopes(network.bound(None), noise, plan)
    theory = [sigma / math.hypot(sigma, WIDTH) for sigma in sigmas]
    np.testing.assert_allclose(deviations, theory, rtol=0.02)


def test_shifted_times_keep_the_slopes_in_their_place_when_weights_do_not_sum_to_one(gaussian):
    """The cause of the finding: with the times of the schedule the state is not at the noise level it is taken for."""
    network, noise = gaussian
    off = {}
    for time_shifting in (True, False):
        solver = DyWeight(network.checkpoint.schedule(STEPS), 1, time_shifting=time_shifting)
        with torch.no_grad():
            solver.weights[1] *= 0.9
        _, sigmas, deviations = slopes(network.bound(None), noise, solver.requires_grad_(False).plan())
        theory = sigmas[2] / math.hypot(sigmas[2], WIDTH)
        off[time_shifting] = abs(deviations[2] / theory - 1)
    assert off[True] < 0.01 < 0.2 < off[False]


def test_without_time_shifting_a_solver_can_still_be_any_that_has_it():
    """What shifting changes is the way that training takes, not what can be reached."""
    generator = torch.Generator().manual_seed(3)
    shifting = DyWeight(schedules.polynomial(STEPS, 0.002, 80.0), 3).requires_grad_(False)
    shifting.weights += 0.01 * shifting.weights * torch.randn(STEPS, 3, generator=generator)
    shifting.time_scale += 0.05 * torch.randn(STEPS, generator=generator)
    other = DyWeight(shifting.sigmas, 3, time_shifting=False).set_table(shifting.plan())
    torch.testing.assert_close(other.plan().gains, shifting.plan().gains)
    torch.testing.assert_close(other.plan().query_sigmas, shifting.plan().query_sigmas)


def test_relative_is_one_where_the_slopes_are_the_teachers():
    record = Record(expected=[(0.1, 0.5), (1.0, 0.9), (10.0, 1.0)])
    record.sigmas, record.deviations = [[10.0, 1.0], [10.0, 0.1]], [[1.0, 0.9], [2.0, 0.5]]
    np.testing.assert_allclose(relative(record), [[1, 1], [2, 1]])


def test_expected_is_sorted_by_noise_level():
    bench = Bench("gmm", quick=True)
    levels = [sigma for sigma, _ in expected(bench, bench.blocks[0])]
    assert levels == sorted(levels) and len(levels) == TEACHER.steps


def test_a_loss_that_falls_evenly_does_not_jitter():
    record = Record(expected=[(0.1, 1.0), (10.0, 1.0)])
    record.losses = record.held_out_losses = [0.8**i for i in range(10)]
    record.sigmas, record.deviations = [[1.0]] * 10, [[1.0]] * 10
    found = summary(record)
    assert found.jitter == pytest.approx(0, abs=1e-12) and found.halved == 4
    assert found.held_out == pytest.approx((0.8**8 + 0.8**9) / 2)
    assert found.deviations == [(1, 0, 1, 1)]


def test_quick_runs_and_writes(tmp_path, capsys):
    assert main(["--quick", "--models", "gmm", "--out", str(tmp_path)]) == 0
    assert "without" in capsys.readouterr().out
    numbers = json.loads((tmp_path / "time-shifting.json").read_text("utf-8"))["gmm"]
    first = [numbers[name][0]["deviations"][0] for name in VARIANTS]
    assert first[0] == pytest.approx(first[1], rel=1e-5), "untrained, the weights sum to 1 and both are the same"
    assert (tmp_path / "time-shifting.png").is_file()
