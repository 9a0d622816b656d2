"""Endpoint errors: their definition, and which handcrafted solvers a number of network calls is compared with."""

from typing import Any

import pytest
import torch

import dyweight
from trainer.compare.endpoint_error import endpoint, endpoint_error, error_or_infinity, handcrafted
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
    assert error_or_infinity(Network(checkpoint), blocks, plan, 1.0) == float("inf")


@pytest.mark.parametrize("calls", range(1, 8))
def test_handcrafted_solvers_make_exactly_so_many_calls(calls: int, peaks: Any) -> None:
    """The schedule ends above 0, so solvers with two calls a step have even counts only."""
    checkpoint = peaks()
    plans = handcrafted(checkpoint, calls)
    single = set(dyweight.baselines.NAMES) - {"heun", "dpm_solver_2"}
    assert plans.keys() == (set(dyweight.baselines.NAMES) if calls % 2 == 0 else single)
    for plan in plans.values():
        assert plan.network_calls == calls
        assert (plan.sigmas[0], plan.sigmas[-1]) == (checkpoint.schedule(1)[0], checkpoint.schedule(1)[-1])


def test_a_schedule_that_ends_at_zero_makes_the_last_step_of_heun_one_call(peaks: Any) -> None:
    checkpoint = peaks()
    checkpoint.schedule = lambda steps: torch.linspace(1, 0, steps + 1)
    assert "heun" in handcrafted(checkpoint, 5) and "heun" not in handcrafted(checkpoint, 4)


def test_only_the_names_asked_for(peaks: Any) -> None:
    assert handcrafted(peaks(), 4, ["euler", "heun"]).keys() == {"euler", "heun"}
