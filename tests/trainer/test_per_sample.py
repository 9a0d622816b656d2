"""Solvers with a network that reads each sample, fitted from the command line."""

from pathlib import Path
from typing import Any

import pytest
import torch

import dyweight
from dyweight import Indis, InstanceDyWeight
from trainer.checkpoints.builtin import digits
from trainer.fit.new_solver import new_solver
from trainer.run.network import Network

FEW = ("--steps", 3, "--pairs", 256, "--batch", 16, "--iterations", 70, "--validation-pairs", 64, "--no-recompute")
QUICK = (*FEW, "--teacher", "ipndm:15", "--report-pairs", 32)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distilled DyWeight of digits at 3 steps."""
    from trainer.distill import main

    out = tmp_path_factory.mktemp("start") / "start.safetensors"
    few = ["--pairs", "16", "--iterations", "2", "--teacher", "ipndm:15", "--validation-pairs", "32"]
    assert main(["--ckpt", "digits", "--steps", "3", "--out", str(out), *few]) == 0
    return out


@pytest.mark.parametrize("base", [pytest.param("ipndm", marks=pytest.mark.slow), "dpmpp_2m"])
def test_indis_lowers_the_error_and_is_evaluated_like_any_other(base: str, commands: Any, tmp_path: Path) -> None:
    outcome = commands.distill("digits", *QUICK, "--family", "indis", "--base", base, "--report", tmp_path / "report")
    assert outcome.status == 0, outcome.errors
    file = dyweight.SolverFile.read(outcome.out)
    solver = file.solver
    assert isinstance(solver, Indis) and solver.base == base and solver.phi.condition_width == 10
    assert file.provenance["method"] == "adam"
    report, row = outcome.report(tmp_path / "report"), "ipndm:3" if base == "ipndm" else base
    assert report["endpoint_error"]["indis"] < 0.9 * report["endpoint_error"][row]
    assert (tmp_path / "report" / "schedules.png").stat().st_size > 10_000
    assert (tmp_path / "report" / "coefficients.png").stat().st_size > 5_000
    evaluated = commands.evaluate("digits", outcome.out, "--samples", 50, "--teacher", "ipndm:40", "--max-calls", 3)
    assert evaluated.status == 0, evaluated.errors
    assert evaluated.report()["endpoint_error"]["indis"] < 0.9 * evaluated.report()["endpoint_error"][row]


def test_corrections_end_no_worse_than_what_they_start_from(commands: Any, start: Path) -> None:
    outcome = commands.distill("digits", *QUICK, "--instance-aware", "--start", start)
    assert outcome.status == 0, outcome.errors
    file = dyweight.SolverFile.read(outcome.out)
    solver = file.solver
    assert isinstance(solver, InstanceDyWeight)
    assert torch.equal(solver.dyweight.weights, dyweight.load_solver(start).weights)
    assert file.provenance["endpoint_error_after"] <= file.provenance["endpoint_error_before"]


@pytest.mark.parametrize(
    ("flag", "noise_matters", "label_matters", "asks_elsewhere"),
    [
        (None, True, True, True),
        ("--no-instance", False, True, True),
        ("--no-condition", True, False, True),
        ("--no-shift-factors", True, True, False),
    ],
)
@pytest.mark.parametrize("family", ["indis", "instance-aware"])
def test_an_ablation_takes_away_what_it_says(
    family: str, flag: str | None, noise_matters: bool, label_matters: bool, asks_elsewhere: bool, start: Path
) -> None:
    from trainer.options.distill import DistillOptions
    from trainer.options.parse import parse

    kind = ["--family", "indis"] if family == "indis" else ["--instance-aware", "--start", str(start)]
    arguments = ["--ckpt", "digits", "--steps", "3", "--out", "x.safetensors", *kind, *([flag] if flag else [])]
    network = Network(digits.checkpoint())
    solver = new_solver(parse(DistillOptions, "test", arguments), 3, network)
    assert not isinstance(solver, dyweight.DyWeight)
    torch.manual_seed(0)
    torch.nn.init.normal_(solver.phi.leave.weight)
    noise, labels = torch.randn(2, 1, 8, 8), network.condition(torch.tensor([3, 8]))
    assert labels is not None

    def gains(noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return solver.plan(noise=noise, condition=labels).gains

    here = gains(noise[:1], labels[:1])
    assert torch.equal(here, gains(noise[1:], labels[:1])) != noise_matters
    assert torch.equal(here, gains(noise[:1], labels[1:])) != label_matters
    plan, untrained = solver.plan(noise=noise[:1], condition=labels[:1]), solver.plan()
    ratios = [(one.query_sigmas / one.sigmas[:-1]).detach() for one in (plan, untrained)]
    unshifted = torch.ones(3, dtype=torch.float64) if family == "indis" else ratios[1]
    assert torch.allclose(ratios[0], unshifted) != asks_elsewhere


def test_a_model_without_a_condition_can_be_read_too(commands: Any) -> None:
    outcome = commands.distill("gmm:2", *QUICK, "--family", "indis")
    assert outcome.status == 0, outcome.errors
    assert dyweight.load_solver(outcome.out).settings()["condition_width"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--family", "indis", "--instance-aware"), "--instance-aware is for --family dyweight"),
        (("--family", "indis", "--method", "gauss-newton"), "a network needs --method adam"),
        (("--instance-aware",), "name its file with --start"),
        (("--start", "x.safetensors"), "--start x.safetensors is for --instance-aware"),
        (("--family", "indis", "--base", "euller"), "did you mean euler"),
        (("--instance-aware", "--start", "nowhere.safetensors"), "nowhere.safetensors: it can't be read"),
    ],
    ids=str,
)
def test_options_that_do_not_go_together_are_refused(arguments: tuple[str, ...], message: str, commands: Any) -> None:
    assert message in commands.distill("digits", "--steps", 3, *arguments).message


def test_a_start_of_another_kind_is_refused(commands: Any, start: Path) -> None:
    other = commands.distill("digits", "--steps", 4, "--instance-aware", "--start", start).message
    assert "start.safetensors has 3 steps" in other and "4 from 1" in other
    indis = commands.distill("digits", *QUICK, "--family", "indis", "--iterations", 2, out="indis.safetensors").out
    refused = commands.distill("digits", "--steps", 3, "--instance-aware", "--start", indis).message
    assert "indis.safetensors: the family indis can't be corrected: give a solver of the family dyweight" in refused
