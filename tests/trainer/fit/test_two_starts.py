"""A fit from two starts: which goes on, what it may take, and that it can be interrupted anywhere."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.distillation.fitting import Fitting
from trainer.distillation.fitting_set import FittingSet
from trainer.fit.gauss_newton import GaussNewton
from trainer.fit.two_starts import TwoStarts
from trainer.options.distill import DistillOptions
from trainer.run.cluster import ALONE
from trainer.run.network import Network

CALLS = 4000


def begun(model: Any, steps: int = 7, **given: Any) -> Fitting:
    options = DistillOptions(
        ckpt="peaks", steps=(steps,), out=Path("x.safetensors"), keep_targets=False, **{"calls": CALLS, **given}
    )
    fits = FittingSet(options, Network(model), ALONE, None)
    fits.begin()
    return fits.current


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 4))])
def test_the_start_with_the_lesser_loss_goes_on_and_both_are_paid_for(seed: int, peaks: Any) -> None:
    fitting = begun(peaks((16,)), seed=seed)
    fit = fitting.fit
    assert isinstance(fit, TwoStarts)
    reached: dict[GaussNewton, float] = {}
    for line in fitting.run():
        if fit._part < 2:
            reached[fit._fit] = fit._fit.history[-1].training_error
            assert line.training_error == min(reached.values())
    first, second = reached
    better, other = sorted(reached, key=lambda one: reached[one])
    assert first.history[0].training_error != second.history[0].training_error
    assert fit._fit is better and better.spent + other.spent == fit.spent <= CALLS


def test_few_calls_a_sample_or_of_the_fit_have_one_start(peaks: Any) -> None:
    assert isinstance(begun(peaks((16,)), 6).fit, GaussNewton)
    assert isinstance(begun(peaks((16,)), effort="draft").fit, GaussNewton)
    crowded = begun(peaks((16,)), calls=2100, batch=16)
    assert list(crowded.run()) and crowded.fit.spent <= 2100


@pytest.mark.slow
def test_interrupted_anywhere_it_goes_on_to_the_same_solver(peaks: Any) -> None:
    whole = begun(peaks((16,)))
    states = [copy.deepcopy(whole.fit.state()) for _ in whole.run()]
    parts = {int(state["parts"][0]) for state in states}
    assert parts == {0, 1, 2}
    for state in states[::3]:
        later = begun(peaks((16,)))
        later.fit.restore(state)
        assert list(later.run()) or state is states[-1]
        assert later.fit.spent == whole.fit.spent
        for name, value in whole.solver.state_dict().items():
            torch.testing.assert_close(later.solver.state_dict()[name], value, rtol=1e-9, atol=1e-12)
