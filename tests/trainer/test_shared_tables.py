"""Learned schedules and free tables, fitted and evaluated from the command line as DyWeight is."""

from pathlib import Path
from typing import Any

import pytest

import dyweight
from dyweight import FreeTable, LearnedSchedule

FAMILIES = {"learned-schedule": LearnedSchedule, "free-table": FreeTable}
FEW = ("--steps", 3, "--pairs", 16, "--validation-pairs", 16, "--teacher", "ipndm:15", "--report-pairs", 32)
each_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.mark.parametrize("family", ["learned-schedule", pytest.param("free-table", marks=pytest.mark.slow)])
def test_gauss_newton_lowers_the_error_and_the_file_is_evaluated(family: str, commands: Any, tmp_path: Path) -> None:
    report = tmp_path / "report"
    outcome = commands.distill("digits", *FEW, "--family", family, "--iterations", 1, "--report", report)
    assert outcome.status == 0, outcome.errors
    file = dyweight.SolverFile.read(outcome.out)
    solver = file.solver
    assert type(solver) is FAMILIES[family] and file.provenance["method"] == "gauss-newton"
    found = outcome.report(report)
    assert found["network_calls"]["backward"] == 0
    assert found["endpoint_error"][family] < 0.7 * found["endpoint_error"]["ipndm:3"]
    assert (report / "coefficients.png").stat().st_size > 5_000 and not (report / "schedules.png").exists()
    evaluated = commands.evaluate("digits", outcome.out, "--samples", 50, "--teacher", "ipndm:40", "--max-calls", 3)
    assert evaluated.status == 0, evaluated.errors
    assert evaluated.report()["endpoint_error"][family] < 0.8 * evaluated.report()["endpoint_error"]["ipndm:3"]


@each_family
def test_adam_lowers_the_error(family: str, commands: Any) -> None:
    adam = ("--method", "adam", "--pairs", 160, "--iterations", 30, "--no-recompute")
    outcome = commands.distill("digits", *FEW, *adam, "--family", family)
    assert outcome.status == 0, outcome.errors
    provenance = dyweight.SolverFile.read(outcome.out).provenance
    assert provenance["method"] == "adam"
    assert provenance["endpoint_error_after"] < 0.8 * provenance["endpoint_error_before"]


def test_another_base_and_no_time_scaling(commands: Any) -> None:
    options = ("--family", "learned-schedule", "--base", "dpmpp_2m", "--no-time-scaling", "--iterations", 1)
    solver = dyweight.load_solver(commands.distill("digits", *FEW, *options).out)
    assert isinstance(solver, LearnedSchedule) and solver.base == "dpmpp_2m" and not solver.time_scaling
    assert float(solver.log_time_scale.abs().max()) == 0 < float(solver.logits.abs().max())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--family", "learned-schedule", "--instance-aware"), "--instance-aware is for --family dyweight"),
        (("--family", "free-table", "--analytic-first-step"), "--analytic-first-step is for --family dyweight"),
        (("--family", "free-table", "--no-time-scaling"), "nothing would read it with --family free-table"),
        (("--family", "learned-schedule", "--slope", "query"), "--slope query is for --family dyweight"),
        (("--family", "free-table", "--base", "heun"), "heun makes 5 network calls in 3 steps"),
        (("--family", "learned-schedule", "--base", "euler", "--order", "2"), "order 2 is not one of euler's"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(options: tuple[str, ...], message: str, commands: Any) -> None:
    assert message in commands.distill("digits", *FEW, *options).message
