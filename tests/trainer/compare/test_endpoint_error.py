"""Endpoint errors: their definition, and that every network call of a comparison is counted."""

from typing import Any

import pytest
import torch

import dyweight
from trainer.checkpoints.protocol import Rival
from trainer.compare.endpoint_error import (
    endpoint,
    endpoint_error,
    error_or_infinity,
    errors_at_equal_calls,
    pair_errors,
)
from trainer.compare.handcrafted import handcrafted
from trainer.losses.features import Latent
from trainer.pairs.targets import Block, Targets
from trainer.pairs.teacher import Teacher
from trainer.run.network import Network


@pytest.fixture
def blocks(peaks: Any) -> list[Block]:
    targets = Targets(Network(peaks()), Teacher("ipndm", 30), 0, 5, None)
    return [targets.block("test", i) for i in range(3)]


def test_it_is_the_mean_squared_distance_in_units_of_the_variance(peaks: Any, blocks: list[Block]) -> None:
    checkpoint = peaks()
    plan = dyweight.baselines.plan("euler", checkpoint.schedule(4))
    ends = [dyweight.sample(lambda x, s: checkpoint.denoise(x, s, None), b.noise, plan) for b in blocks]
    distance = torch.cat([(end - block.target).flatten() for end, block in zip(ends, blocks, strict=True)]).double()
    found = endpoint_error(Network(checkpoint), blocks, plan, Latent(1.7))
    assert found == pytest.approx(float((distance**2).mean()) / 1.7**2, rel=1e-5)


def test_the_teacher_itself_has_no_error(peaks: Any, blocks: list[Block]) -> None:
    network = Network(peaks())
    assert endpoint_error(network, blocks, Teacher("ipndm", 30).plan(network.checkpoint), Latent(1.0)) == 0


def test_endpoints_are_made_without_gradients(peaks: Any, blocks: list[Block]) -> None:
    checkpoint, seen = peaks(), []
    checkpoint.before_call = lambda calls, x, sigma: seen.append(torch.is_inference_mode_enabled())
    solver = dyweight.DyWeight(checkpoint.schedule(3))
    assert not endpoint(Network(checkpoint), blocks[0], solver.plan()).requires_grad
    assert seen == [True] * 3


@pytest.mark.parametrize("bad", [torch.nan, 1e30])
def test_a_plan_that_leaves_the_networks_range_has_infinite_error(bad: float, peaks: Any, blocks: list[Block]) -> None:
    checkpoint = peaks()
    checkpoint.denoise = lambda x, sigma, cond: x * bad
    plan = dyweight.baselines.plan("euler", checkpoint.schedule(4))
    assert error_or_infinity(Network(checkpoint), blocks, plan, Latent(1.0)) == float("inf")


def test_pairs_have_errors_of_their_own_in_order_and_infinite_ones_from_the_first_bad_answer_on(
    peaks: Any, blocks: list[Block]
) -> None:
    checkpoint, unit = peaks(), Latent(1.7)
    plan = dyweight.baselines.plan("euler", checkpoint.schedule(4))
    found = pair_errors(Network(checkpoint), blocks, plan, unit)
    assert float(found.mean()) == pytest.approx(endpoint_error(Network(checkpoint), blocks, plan, unit))
    end = endpoint(Network(checkpoint), blocks[1], plan)
    assert float(found[7]) == pytest.approx(float((end[2] - blocks[1].target[2]).square().mean()) / 1.7**2, rel=1e-5)
    begun = [*blocks[:1], Block(5, blocks[1].noise * torch.nan, None, blocks[1].target), *blocks[2:]]
    assert pair_errors(Network(checkpoint), begun, plan, unit).isfinite().tolist() == [True] * 5 + [False] * 10


def test_solvers_with_one_table_run_once(peaks: Any, blocks: list[Block]) -> None:
    checkpoint = peaks()
    network = Network(checkpoint)
    network.checkpoint.fingerprint = "so that no call is spent on finding one"
    plans = handcrafted(network.checkpoint, 3, ["euler", "ipndm:1", "ipndm:2"])
    errors = errors_at_equal_calls(network, blocks, plans)
    assert errors["euler"] == errors["ipndm:1"] != errors["ipndm:2"]
    assert network.forward == 2 * 3 * sum(len(block.noise) for block in blocks)


def test_a_rivals_endpoints_are_measured_and_its_calls_counted(peaks: Any, blocks: list[Block]) -> None:
    network, spoilt = Network(peaks()), Rival(2, lambda noise, cond: noise * torch.nan)
    exact = Rival(4, lambda noise, cond: next(block.target for block in blocks if torch.equal(block.noise, noise)))
    assert errors_at_equal_calls(network, blocks, {"spoilt": spoilt, "exact": exact}) == {
        "exact": 0.0,
        "spoilt": float("inf"),
    }
    assert network.forward == 2 * 5 + 4 * 15  # the spoilt one stops at its first block
