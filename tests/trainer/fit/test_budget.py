"""What a fit may take, and that it takes no more."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

import trainer
from benchmarks.models import digits_karras
from dyweight import DyWeight, load_solver
from trainer.checkpoints.load import load_checkpoint
from trainer.distillation.fitting_set import FittingSet
from trainer.fit.budget import calls_of
from trainer.fit.starts import start_of
from trainer.options.distill import DistillOptions
from trainer.run.cluster import ALONE
from trainer.run.errors import TrainerError
from trainer.run.network import Network


class StopError(Exception):
    pass


@pytest.mark.parametrize(("calls", "draft"), [(3, 1500), (5, 1500), (8, 3000), (12, 4500), (1, 1500), (24, 9000)])
def test_efforts_are_calls_by_steps(calls: int, draft: int) -> None:
    assert [calls_of(effort, calls) for effort in ("draft", "normal", "thorough")] == [draft, 4 * draft, 12 * draft]


def test_more_steps_have_no_fewer_calls() -> None:
    drafts = [calls_of("draft", calls) for calls in range(1, 40)]
    assert drafts == sorted(drafts)


@pytest.mark.parametrize(
    ("steps", "budget"), [*itertools.product((2, 3, 5), (400, 700, 1111, 3000)), (7, 1500), (7, 3000), (7, 5000)]
)
def test_a_budget_is_never_exceeded(steps: int, budget: int, peaks: Any) -> None:
    fitted = trainer.fit_solver(peaks((8,)), steps, calls=budget, batch=2, validation_pairs=1, keep_targets=False)
    assert 0 < fitted.network_calls <= budget


@pytest.mark.parametrize("steps", [3, (2, 3)])
@pytest.mark.parametrize("pairs", [None, 20, 200])
def test_too_small_a_budget_says_which_is_enough(steps: Any, pairs: int | None, peaks: Any) -> None:
    options = {"batch": 4, "pairs": pairs, "keep_targets": False}
    with pytest.raises(TrainerError, match=r"--calls \d+ or more") as refused:
        trainer.fit_solver(peaks((8,)), steps, calls=700 if pairs == 200 else 100, **options)
    enough = int(str(refused.value.values["needed"]))
    assert trainer.fit_solver(peaks((8,)), steps, calls=enough, **options).network_calls <= enough


@pytest.mark.parametrize("dimension", [2, 3, 8])
def test_small_latents_make_the_calls_that_they_are_charged(dimension: int) -> None:
    """A latent of two elements has two directions."""
    options = DistillOptions(ckpt=f"gmm:{dimension}", steps=(5,), out=Path("unused.safetensors"), effort="draft")
    network = Network(load_checkpoint(options.ckpt, options, Path("unused")))
    fits = FittingSet(options, network, ALONE, None)
    fits.begin()
    before = network.total
    for _ in fits.current.run():
        pass
    assert 0.9 * fits.current.fit.spent <= network.total - before <= fits.current.fit.spent


def test_progress_tells_and_can_stop(peaks: Any) -> None:
    told = list[trainer.FitProgress]()

    def stop(progress: trainer.FitProgress) -> None:
        told.append(progress)
        if len(told) == 3:
            raise StopError

    with pytest.raises(StopError):
        trainer.fit_solver(peaks((16,)), 4, calls=3000, progress=stop)
    assert [line.network_calls for line in told] == sorted(line.network_calls for line in told)
    assert all(line.network_calls <= line.expected_calls <= 3000 and line.best <= line.error for line in told)
    assert told[0].solver.steps == 4


@pytest.mark.parametrize("seed", range(3))
def test_what_is_asked_stays_in_the_models_range_and_levels_decrease(seed: int, peaks: Any) -> None:
    model, asked = peaks((8,)), list[float]()
    model.before_call = lambda calls, x, sigma: asked.extend(sigma.tolist())
    fitted = trainer.fit_solver(model, 4, calls=2500, seed=seed)
    levels = fitted.solver.plan().sigmas
    assert max(asked) <= 10 * (1 + 1e-6) and min(asked) >= 0.02 * (1 - 1e-6)
    assert bool((levels[1:] < levels[:-1]).all())


def test_a_start_spreads_the_calls_of_a_schedule_whose_last_is_useless() -> None:
    """Levels of one ratio, then 0: with one more step to the last of them, which is left out."""
    levels = torch.tensor([16.0, 4.0, 1.0, 0.0], dtype=torch.float64)
    plan = start_of(DyWeight(levels, 3), smallest=1.0).plan()
    expected = 16 * 16.0 ** -(torch.arange(3, dtype=torch.float64) / 3)
    torch.testing.assert_close(plan.sigmas, torch.cat([expected, torch.zeros(1, dtype=torch.float64)]))
    torch.testing.assert_close(plan.query_sigmas, 0.9 * expected)
    for smallest, ends in ((0.5, levels), (1.0, levels[:-1])):
        assert torch.equal(start_of(DyWeight(ends, 3), smallest).plan().sigmas, ends)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("steps", "part"), [(2, 0.2), (6, 0.6)])
def test_a_schedule_down_to_the_smallest_level_and_then_0_is_no_trap(steps: int, part: float, seed: int) -> None:
    """As karras and normal of SD 1.5: a fit begins below the levels of the schedule, which the model does not know."""
    model, asked = digits_karras(), list[float]()
    answer = model.denoise
    model.denoise = lambda x, sigma, cond: (asked.extend(sigma.tolist()), answer(x, sigma, cond))[1]  # type: ignore[method-assign]
    errors = trainer.fit_solver(model, steps, effort="draft", seed=seed).errors
    assert errors["fitted"] < part * errors["untrained"]
    assert min(asked) >= model.smallest * (1 - 1e-6) and max(asked) <= model.largest * (1 + 1e-6)


@pytest.mark.parametrize("seed", [1, 4])
def test_a_fit_to_one_pair_that_is_worse_on_others_is_not_kept(seed: int, commands: Any) -> None:
    """It is overfitted: sixteen numbers for two elements."""
    arguments = ("--steps", 5, "--pairs", 1, "--batch", 1, "--calls", 1500, "--seed", seed, "--iterations", 1)
    outcome = commands.distill("gmm:2", *arguments, "--difference-step", 0.9)
    assert outcome.status == 0, outcome.errors
    assert "nothing better than the untrained solver, which is kept" in outcome.printed
    kept = load_solver(Path(outcome.out))
    assert isinstance(kept, DyWeight) and torch.equal(kept.weights, DyWeight(kept.sigmas, kept.order).weights)
