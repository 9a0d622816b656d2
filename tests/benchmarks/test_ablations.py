"""The study of DyWeight's parts: orders contain each other, and a table needs no time shifting."""

import json
import math

import pytest
import torch

from benchmarks.harness.bench import Bench
from benchmarks.studies.ablations import STUDY, cases, without_shifting
from dyweight import DyWeight
from trainer.compare.endpoint_error import endpoint_error
from trainer.fit.budget import Budget
from trainer.fit.gauss_newton import GaussNewton
from trainer.fit.settings import GaussNewtonSettings
from trainer.losses.endpoint import EndpointLoss
from trainer.losses.features import Latent
from trainer.pairs.pairs import Pairs
from trainer.pairs.targets import Targets
from trainer.pairs.teacher import Teacher

BASE = torch.linspace(1, 0, 6, dtype=torch.float64)


@pytest.fixture(scope="module")
def bench():
    return Bench("digits", quick=True)


@pytest.mark.slow
def test_the_quick_study_writes_its_numbers_and_its_figure(tmp_path):
    assert STUDY.main(["--quick", "--out", str(tmp_path)]) == 0
    numbers = json.loads((tmp_path / "ablations.json").read_text("utf-8"))["numbers"]
    assert set(numbers["digits"]["errors"]) == {"adam", "gauss-newton"}
    for variants in numbers["digits"]["errors"].values():
        assert all(0 < error < math.inf for by_calls in variants.values() for [error] in by_calls.values())
    assert (tmp_path / "study-ablations.png").stat().st_size > 10_000


@pytest.mark.slow
def test_gauss_newton_loses_nothing_without_time_shifting(bench):
    """The same tables can be reached, by other numbers and so on another way."""
    with_it, without = (bench.fit(3, 0, pairs=16, time_shifting=shifting) for shifting in (True, False))
    assert bench.error(without.solver) <= 1.05 * bench.error(with_it.solver)


@pytest.mark.parametrize("analytic", [False, True])
@pytest.mark.parametrize("slope", ["state", "query"])
def test_a_table_with_time_shifting_is_one_without(slope, analytic):
    solver = DyWeight(BASE, 3, slope, analytic).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    solver.weights += 0.1 * torch.randn(5, 3, generator=generator) * (solver.weights != 0)
    solver.time_scale[int(analytic) :] = 0.8 + 0.3 * torch.rand(5 - int(analytic), generator=generator)
    other = without_shifting(solver)
    mine, its = solver.plan(), other.plan()
    assert not other.time_shifting and torch.equal(its.sigmas, BASE)
    assert torch.allclose(mine.gains, its.gains, rtol=1e-12)
    assert torch.allclose(mine.query_sigmas, its.query_sigmas, rtol=1e-12)


def test_without_time_scaling_a_table_may_need_its_time_shifting():
    solver = DyWeight(BASE, 2, time_scaling=False).requires_grad_(False)
    solver.weights[0, 0] = 0.9
    with pytest.raises(ValueError, match="time_scaling is off"):
        DyWeight(BASE, 2, time_shifting=False, time_scaling=False).set_table(solver.plan())


def test_a_higher_order_has_no_larger_training_error_than_the_lower_order_it_starts_from(bench):
    """Order N contains the orders below, and Gauss-Newton takes no step that raises the training error."""
    pairs = Pairs(Targets(bench.network, Teacher("ipndm", 35), 0, 8, None), 8, 8)
    loss = EndpointLoss(features=Latent(pairs.deviation))
    settings = GaussNewtonSettings(Budget(2000, 0.5, fixed_blocks=1), iterations=3, lowered=False, probe_step=0.02)
    solver = DyWeight(bench.checkpoint.schedule(3), 1).requires_grad_(False)
    for order in (1, 2, 3):
        before = endpoint_error(bench.network, pairs.training, solver, loss.features)
        solver = DyWeight(solver.sigmas, order).requires_grad_(False).set_table(solver.plan())
        errors = [line.training_error for line in GaussNewton(solver, bench.network, pairs, loss, settings).run()]
        assert before >= errors[0] * (1 - 1e-4) and errors == sorted(errors, reverse=True) and errors[-1] < before


def test_all_slopes_are_a_variant_where_there_are_more_than_three():
    assert [*cases("gauss-newton", 5)][:5] == ["order 1", "order 2", "order 3", "order N", "no shifting"]
    assert [*cases("adam", 7)][:5] == ["order 1", "order 2", "order 3", "order N", "order N from Euler"]
    assert cases("adam", 7)["order N"] == {"order": 7} and "order N" not in cases("adam", 3)
