"""What the fitted solver is compared with."""

from typing import Any

import pytest
import torch
from torch import Tensor

import dyweight
from trainer.checkpoints.builtin import gmm
from trainer.checkpoints.load import checked
from trainer.compare.endpoint_error import endpoint_error
from trainer.compare.handcrafted import handcrafted
from trainer.fit.judge import as_table, handcrafted_rivals, is_worse
from trainer.losses.features import Latent
from trainer.pairs.pairs import deviation
from trainer.pairs.targets import Targets
from trainer.pairs.teacher import Teacher
from trainer.run.network import Network


def test_the_file_names_a_handcrafted_solver_and_its_error_on_unseen_pairs(commands: Any) -> None:
    arguments = ("--steps", 3, "--pairs", 6, "--teacher", "ipndm:10", "--validation-pairs", 7, "--seed", 3)
    provenance = dyweight.SolverFile.read(commands.distill("gmm:4", *arguments, "--iterations", 3).out).provenance
    network = Network(gmm.checkpoint(4))
    targets = Targets(network, Teacher.parse("ipndm:10"), 3, 1, None)
    fresh = [targets.block("test", i) for i in range(7)]
    rival = handcrafted(network.checkpoint, 3)[str(provenance["handcrafted"])]
    expected = endpoint_error(network, fresh, rival, Latent(deviation(fresh)))
    assert provenance["endpoint_error_handcrafted"] == pytest.approx(expected, rel=1e-4)


def some_errors(seed: int, pairs: int) -> Tensor:
    """[pairs] with a heavy tail."""
    return torch.randn(pairs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).mul(2).exp()


@pytest.mark.parametrize("pairs", [4, 8, 16])
@pytest.mark.parametrize("blown_up", [10, 1e3, 1e9])
def test_one_pair_among_better_ones_never_decides(blown_up: float, pairs: int) -> None:
    for seed in range(20):
        handcrafted = some_errors(seed, pairs)
        fitted = handcrafted * 0.7
        fitted[seed % pairs] = blown_up * handcrafted.max()
        assert fitted.mean() > handcrafted.mean()
        assert not is_worse(fitted, handcrafted)
        assert is_worse(fitted, handcrafted * 0.01)  # where the others are worse too, it is


@pytest.mark.parametrize("pairs", [1, 2, 4, 16])
def test_what_is_worse_on_each_pair_is_worse_and_never_the_other_way_round(pairs: int) -> None:
    for seed in range(20):
        handcrafted, factor = some_errors(seed, pairs), 1.01 + some_errors(seed + 100, pairs)
        assert is_worse(handcrafted * 1.01, handcrafted)
        assert is_worse(handcrafted, handcrafted)
        assert not is_worse(handcrafted, handcrafted * factor)


def test_what_ends_at_infinity_on_a_pair_is_worse() -> None:
    fitted = torch.tensor([0.1, 0.1, 0.1, torch.inf], dtype=torch.float64)
    assert is_worse(fitted, torch.ones(4, dtype=torch.float64))
    assert not is_worse(torch.ones(4, dtype=torch.float64), fitted)
    fitted[3] = torch.nan
    assert is_worse(fitted, torch.ones(4, dtype=torch.float64))


def test_an_exact_hit_is_no_mark_against_it() -> None:
    fitted, handcrafted = (torch.tensor(one, dtype=torch.float64) for one in ((0, 0.1, 0.1, 9), (0.2, 0.2, 0.2, 0.2)))
    assert fitted.mean() > handcrafted.mean() and not is_worse(fitted, handcrafted)
    assert is_worse(handcrafted, fitted * 0.01)  # and the other way round
    more = [torch.cat([one, torch.zeros(1, dtype=torch.float64)]) for one in (fitted, handcrafted)]
    assert not is_worse(*more)  # where both hit, nothing is told


def test_over_two_networks_a_handcrafted_solver_is_measured_as_its_file_would_hold_it(peaks: Any) -> None:
    """With a history that begins anew where the second one takes over."""
    model, steps = peaks(), 6
    model.schedule_recipe = {"kind": "karras", "boundary": float(model.schedule(steps)[3]) * 1.01}
    network = Network(checked(model, "two networks"))
    plans = handcrafted_rivals(network, steps)
    assert not plans["ipndm:3"].gains[3:, :3].any()
    for name, plan in plans.items():
        assert torch.equal(plan.gains, as_table(network, steps, name).plan().gains), name
