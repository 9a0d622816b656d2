"""Which handcrafted solvers, at which orders, a number of calls is compared with, and which one is the untrained."""

from typing import Any

import pytest
import torch

import dyweight
from dyweight.placement import untrained_plan
from trainer.checkpoints.builtin import gmm
from trainer.checkpoints.comfy.rivals import NAMES, found
from trainer.compare.handcrafted import handcrafted, rivals, solvers
from trainer.run.network import Network

SINGLE = {"euler", "dpmpp_2m", "dpmpp_3m"}
TWICE = {"heun", "dpm_solver_2"}


@pytest.mark.parametrize("calls", range(1, 8))
def test_every_solver_at_every_order_makes_exactly_so_many_calls(calls: int, peaks: Any) -> None:
    """The schedule ends above 0, so solvers with two calls a step have even counts only."""
    checkpoint = peaks()
    plans = handcrafted(checkpoint, calls)
    several = {f"{name}:{order}" for name in ("ipndm", "ipndm_v") for order in range(1, min(calls, 4) + 1)}
    several |= {f"unipc:{order}" for order in range(1, min(calls, 3) + 1)}
    assert plans.keys() == SINGLE | several | (TWICE if calls % 2 == 0 else set())
    for plan in plans.values():
        assert plan.network_calls == calls
        assert (plan.sigmas[0], plan.sigmas[-1]) == (checkpoint.schedule(1)[0], checkpoint.schedule(1)[-1])


def test_a_row_is_the_table_of_its_order(peaks: Any) -> None:
    plans, sigmas = handcrafted(peaks(), 6), peaks().schedule(6)
    for row, (name, order) in solvers().items():
        if name not in TWICE:
            assert torch.equal(plans[row].gains, dyweight.baselines.plan(name, sigmas, order).gains)
    assert len({tuple(plan.gains.flatten().tolist()) for row, plan in plans.items() if "ipndm:" in row}) == 4


def test_a_schedule_that_ends_at_zero_makes_the_last_step_of_heun_one_call(peaks: Any) -> None:
    checkpoint = peaks()
    checkpoint.schedule = lambda steps: torch.linspace(1, 0, steps + 1)
    assert "heun" in handcrafted(checkpoint, 5) and "heun" not in handcrafted(checkpoint, 4)


def test_only_the_names_asked_for(peaks: Any) -> None:
    assert handcrafted(peaks(), 4, ["euler", "heun"]).keys() == {"euler", "heun"}
    plans, sigmas = handcrafted(peaks(), 2, ["ipndm:4", "unipc"]), peaks().schedule(2)
    assert plans.keys() == {"ipndm:4", "unipc"}
    assert torch.equal(plans["unipc"].gains, dyweight.baselines.plan("unipc", sigmas).gains)


def test_a_checkpoint_may_bring_its_own(peaks: Any) -> None:
    checkpoint = peaks()
    assert rivals(Network(checkpoint), 3, ["euler"]).keys() == {"euler"}
    checkpoint.rivals = lambda calls, names, count: count(7) or {f"{calls} {names}": None}
    network = Network(checkpoint)
    assert rivals(network, 3, ["mine"]).keys() == {"3 ['mine']"} and network.forward == 7


def test_comfyuis_samplers_are_searched_once_and_every_call_is_told() -> None:
    """euler makes a call a step, deis two, uni_pc one more than steps, er_sde always nine."""
    calls = {"euler": lambda n: n, "deis": lambda n: 2 * n, "uni_pc": lambda n: n + 1, "er_sde": lambda n: 9}
    spent, run = [], []

    def sample_with(sampler: str, scheduler: str, steps: int, noise: Any, cond: Any) -> tuple[Any, int]:
        run.append((sampler, steps))
        return (noise, sampler, steps), calls.get(sampler, calls["euler"])(steps)

    made = found(sample_with, (torch.zeros(1), None), 6, None, spent.append)
    assert made.keys() == {name for name in NAMES if not name.startswith("er_sde")}
    assert made["deis/simple"].sample("noise", None) == ("noise", "deis", 3)
    assert made["uni_pc/beta"].sample("noise", None)[2] == 5 and made["euler/karras"].network_calls == 6
    searched = run[:-2]
    assert sum(spent) == sum(calls.get(name, calls["euler"])(steps) for name, steps in searched)
    assert searched.count(("er_sde", 7)) == 3 and searched.count(("euler", 6)) == 3


@pytest.mark.parametrize("steps", [8, 10, 12])
def test_on_unequal_steps_the_untrained_solver_is_nearer_than_with_the_weights_of_the_real_spacing(steps: int) -> None:
    """On the Gaussian mixture; docs/schedules.md has other models."""
    checkpoint = gmm.checkpoint()
    noise, cond = checkpoint.draw(torch.Generator().manual_seed(0), 1000)

    def end(plan: dyweight.Plan) -> torch.Tensor:
        return dyweight.sample(lambda x, sigma: checkpoint.denoise(x, sigma, cond), noise, plan)

    schedule = checkpoint.schedule(steps)
    fine = end(dyweight.baselines.plan("ipndm", checkpoint.schedule(60)))
    own, other = (
        float((end(plan) - fine).square().mean())
        for plan in (untrained_plan(schedule), dyweight.baselines.plan("ipndm_v", schedule, 3))
    )
    assert own < 0.9 * other
