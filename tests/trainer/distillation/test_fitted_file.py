"""What a file says of its fit, and that the better one of fit, untrained and handcrafted solver is in it."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import dyweight
from trainer.checkpoints.builtin import gmm
from trainer.compare.endpoint_error import endpoint_error
from trainer.losses.features import Latent
from trainer.pairs.pairs import deviation
from trainer.pairs.targets import Targets
from trainer.pairs.teacher import Teacher
from trainer.run.network import Network

QUICK = ("--steps", 2, "--pairs", 16, "--teacher", "ipndm:10", "--iterations", 2)


def test_the_file_says_for_what_and_how_it_was_made(commands: Any) -> None:
    arguments = ("--steps", 3, "--pairs", 24, "--validation-pairs", 8, "--teacher", "ipndm:12", "--seed", 7)
    outcome = commands.distill("gmm:5", *arguments, "--loss", "huber", "--iterations", 1)
    file = dyweight.SolverFile.read(outcome.out)
    solver = file.solver
    expected = {
        "model": "gmm:5",
        "model_family": "gaussian mixture",
        "prediction_type": "denoised",
        "shift": None,
        "guidance": None,
        "shape": [5],
        "teacher": "ipndm:12",
        "method": "gauss-newton",
        "pairs": 24,
        "endpoint_error_pairs": 8,
        "loss": "huber",
        "seed": 7,
    }
    assert {name: file.provenance[name] for name in expected} == expected
    assert file.provenance["fingerprint"].startswith("gmm-5")
    assert file.provenance["endpoint_error_after"] < file.provenance["endpoint_error_before"]
    assert file.provenance["versions"].keys() >= {"dyweight", "torch"}
    assert len(file.provenance["date"]) == len("2026-01-31")
    assert solver.settings()["schedule"]["kind"] == "polynomial"


@pytest.mark.parametrize("asked", [7, 40])
@pytest.mark.parametrize("method", ["gauss-newton", "adam"])
def test_the_error_in_the_file_is_that_of_pairs_that_trained_and_chose_nothing(
    method: str, asked: int, commands: Any
) -> None:
    batch, option = (4, "--report-pairs") if method == "adam" else (1, "--validation-pairs")
    arguments = ("--method", method, "--steps", 3, "--batch", 4, option, asked, "--seed", 3)
    outcome = commands.distill("gmm:4", *QUICK, *arguments)
    file = dyweight.SolverFile.read(outcome.out)
    solver, provenance = file.solver, file.provenance
    network = Network(gmm.checkpoint(4))
    targets = Targets(network, Teacher.parse("ipndm:10"), 3, batch, None)
    pairs = -(-asked // batch) * batch
    fresh = [targets.block("test", i) for i in range(pairs // batch)]
    for sampler, field in ((dyweight.DyWeight(solver.sigmas), "before"), (solver, "after")):
        expected = endpoint_error(network, fresh, sampler, Latent(deviation(fresh)))
        assert provenance[f"endpoint_error_{field}"] == pytest.approx(expected, rel=1e-4)
    assert provenance["endpoint_error_pairs"] == pairs
    assert f"on {pairs} unseen pairs" in outcome.printed
    assert ("validation_pairs" in provenance) == (method == "adam")
    if method == "adam":
        chose = [targets.block("validation", i) for i in range(provenance["validation_pairs"] // 4)]
        expected = endpoint_error(network, chose, solver, Latent(deviation(chose)))
        assert provenance["validation_error_after"] == pytest.approx(expected, rel=1e-4)


def fit_that_scales_weights(factor: float) -> Callable[..., Any]:
    def make(options: Any, solver: Any, network: Any, pairs: Any, *more: Any) -> Any:
        def run() -> Iterator[Any]:
            with torch.no_grad():
                solver.weights[0] *= factor
            yield from ()

        return SimpleNamespace(expected_calls=lambda: 0, run=run, history=[], spent=0, solver=solver)

    return make


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_a_fit_that_found_nothing_better_says_so_and_keeps_the_untrained(
    factor: float, commands: Any, peaks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.distillation.fitting.make_fit", fit_that_scales_weights(factor))
    monkeypatch.setattr(
        "trainer.distillation.fitting.best_handcrafted", lambda network, pairs, calls: ("euler", torch.tensor([1e9]))
    )
    outcome = commands.distill(peaks(), *QUICK, "--steps", 3, "--no-time-shifting")
    assert "the fit found nothing better than the untrained solver" in outcome.printed
    file = dyweight.SolverFile.read(outcome.out)
    assert torch.equal(file.solver.weights, dyweight.DyWeight(peaks().schedule(3)).weights)
    assert file.provenance["endpoint_error_after"] == file.provenance["endpoint_error_before"]


def worse_than_handcrafted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fit ends above the untrained solver, and ipndm:2 is nearly exact."""
    monkeypatch.setattr("trainer.distillation.fitting.make_fit", fit_that_scales_weights(3.0))
    monkeypatch.setattr(
        "trainer.distillation.fitting.best_handcrafted",
        lambda network, pairs, calls: ("ipndm:2", torch.full((pairs.test_pairs,), 1e-9, dtype=torch.float64)),
    )


def test_a_fit_above_a_handcrafted_solver_says_so_and_keeps_that_as_a_table(
    commands: Any, peaks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse_than_handcrafted(monkeypatch)
    outcome = commands.distill(peaks(), *QUICK, "--steps", 3, "--no-time-shifting")
    assert "ipndm:2 is kept" in outcome.printed
    file = dyweight.SolverFile.read(outcome.out)
    expected = dyweight.baselines.plan("ipndm", peaks().schedule(3), 2)
    assert torch.allclose(file.solver.plan().gains, expected.gains, rtol=1e-12)
    assert file.provenance["endpoint_error_after"] == 1e-9


def test_where_the_handcrafted_has_other_steps_a_fit_above_the_untrained_keeps_that(
    commands: Any, peaks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an analytic first step 3 steps cost as much as 2 of a handcrafted solver, which no file of 3 holds."""
    worse_than_handcrafted(monkeypatch)
    given = ("--steps", 3, "--analytic-first-step", "--no-time-shifting")
    outcome = commands.distill(peaks(), *QUICK, *given)
    assert "the untrained solver, which is kept" in outcome.printed
    provenance = dyweight.SolverFile.read(outcome.out).provenance
    assert provenance["endpoint_error_after"] == provenance["endpoint_error_before"]


def test_a_fit_that_only_one_pair_speaks_against_is_kept_and_says_so(
    commands: Any, peaks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained, fitted = [0.2, 0.3, 0.1, 0.4], [0.02, 0.03, 9.0, 0.04]
    measured = iter([torch.tensor(untrained), torch.tensor(fitted)])
    monkeypatch.setattr("trainer.distillation.fitting.make_fit", fit_that_scales_weights(3.0))
    monkeypatch.setattr("trainer.distillation.fitting.pair_errors", lambda *given: next(measured))
    monkeypatch.setattr(
        "trainer.distillation.fitting.best_handcrafted",
        lambda network, pairs, calls: ("euler", torch.tensor([0.2] * 4)),
    )
    outcome = commands.distill(peaks(), *QUICK, "--steps", 3, "--validation-pairs", 4, "--no-time-shifting")
    assert "the fitted solver has 2.27250, euler 0.20000; that is a few pairs' doing, so it is kept" in outcome.printed
    file = dyweight.SolverFile.read(outcome.out)
    expected = dyweight.DyWeight(peaks().schedule(3)).weights
    assert torch.equal(file.solver.weights[0], 3 * expected[0])
    assert file.provenance["endpoint_error_after"] == pytest.approx(2.2725)


@pytest.mark.parametrize(("factor", "after"), [(300.0, "a number"), (1e38, None)])
def test_an_error_above_1_is_told_and_an_infinite_one_is_null(
    factor: float, after: object, commands: Any, peaks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.distillation.fitting.make_fit", fit_that_scales_weights(factor))
    outcome = commands.distill(peaks(), *QUICK, "--steps", 3, "--loss", "l1", "--no-time-shifting")
    assert "is above 1" in outcome.printed
    found = dyweight.SolverFile.read(outcome.out).provenance["endpoint_error_after"]
    assert found is None if after is None else found > 1
