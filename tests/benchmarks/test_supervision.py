"""The study of supervision: the endpoint variant is the trainer's Adam, and the path is that of the teacher."""

import json
import math

import pytest
import torch

from benchmarks.studies.common import Bench
from benchmarks.studies.paths import teacher_path
from benchmarks.studies.supervision import Lesson, main
from dyweight import baselines, schedules
from trainer.checkpoints.builtin.gmm import GaussianMixture

SPREAD = 0.5


@pytest.fixture(scope="module")
def bench():
    return Bench("digits", quick=True)


@pytest.fixture(scope="module")
def gaussian_path():
    """A fine teacher's way with data N(0, SPREAD^2), where x(sigma) is x0 sqrt(SPREAD^2 + sigma^2)."""
    model = GaussianMixture(torch.zeros(1, 2), torch.tensor([SPREAD]), torch.ones(1))
    noise = model.draw(torch.Generator().manual_seed(0), 5)[0].double()
    path = teacher_path(model.denoise, noise, baselines.plan("ipndm", schedules.polynomial(40)))
    return path, noise


def test_the_quick_study_writes_its_numbers_and_its_figure(tmp_path):
    assert main(["--quick", "--out", str(tmp_path)]) == 0
    numbers = json.loads((tmp_path / "supervision.json").read_text("utf-8"))["digits"]
    for by_calls in (*numbers["errors"].values(), *(row for rows in numbers["away"].values() for row in rows.values())):
        assert all(0 < error < math.inf for [error] in by_calls.values())
    assert (tmp_path / "study-supervision.png").stat().st_size > 10_000


def test_endpoint_supervision_is_the_trainers_adam(bench):
    mine = Lesson(bench, calls=3, seed=4, pairs=64).learn(None)
    its = bench.fit(3, 4, method="adam", pairs=64, teacher="ipndm:15").solver
    assert torch.equal(mine.weights, its.weights) and torch.equal(mine.time_scale, its.time_scale)


def test_a_step_of_path_supervision_counts_the_endpoint_once(bench):
    """With one step there is nothing on the way, so all three losses are the same."""
    lesson = Lesson(bench, calls=1, seed=0, pairs=32)
    block = lesson.pairs.targets.block("train", 0)
    solver = lesson.untrained()
    with torch.no_grad():
        losses = [float(lesson.fit(solver, times).block_loss(block)) for times in (None, "scheduled", "shifted")]
    assert losses[0] > 0 and losses == pytest.approx([losses[0]] * 3)


@pytest.mark.parametrize("times", ["scheduled", "shifted"])
def test_the_teachers_own_table_has_no_path_loss(bench, times):
    """Untrained, with order 4, a DyWeight is iPNDM."""
    lesson = Lesson(bench, calls=6, seed=0, pairs=16, substeps=1)
    block = lesson.pairs.targets.block("train", 0)
    with torch.no_grad():
        assert float(lesson.fit(lesson.untrained(order=4), times).block_loss(block)) < 1e-9
        assert float(lesson.fit(lesson.untrained(order=2), times).block_loss(block)) > 1e-4


def test_path_supervision_comes_closer_to_the_teachers_way(bench):
    lesson = Lesson(bench, calls=3, seed=0, pairs=320)
    ways = [lesson.away(lesson.learn(times), "scheduled") for times in ("scheduled", None)]
    assert ways[0] < 0.8 * ways[1]


def test_between_the_teachers_points_the_path_is_the_exact_one(gaussian_path):
    path, noise = gaussian_path
    for sigma in torch.logspace(-2, 1.5, 40, dtype=torch.float64):
        exact = noise * math.sqrt((SPREAD**2 + float(sigma) ** 2) / (SPREAD**2 + 80**2))
        assert torch.allclose(path.at(sigma), exact, rtol=5e-3, atol=1e-4)


def test_at_the_teachers_points_the_path_is_the_teacher(gaussian_path):
    path, _ = gaussian_path
    for sigma, state in zip(path.sigmas, path.states, strict=True):
        assert torch.allclose(path.at(sigma), state, rtol=1e-12)


def test_the_path_tells_how_it_changes_with_sigma(gaussian_path):
    path, _ = gaussian_path
    sigma = torch.tensor(3.7, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(path.at(sigma)[0, 0], sigma)
    with torch.no_grad():
        difference = (path.at(sigma + 1e-4) - path.at(sigma - 1e-4))[0, 0] / 2e-4
    assert float(slope) == pytest.approx(float(difference), rel=1e-5)
