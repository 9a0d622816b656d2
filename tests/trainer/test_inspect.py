"""`trainer.inspect` says what a coefficient file holds, of every family."""

import re

import pytest
import torch

import dyweight
from dyweight import DyWeight, FreeTable, Indis, InstanceDyWeight, LearnedSchedule, schedules
from trainer.inspect import main

SIGMAS = schedules.flow(10, shift=3.0)
FAMILIES = {
    "dyweight": DyWeight(SIGMAS, order=2, schedule={"kind": "flow", "shift": 3.0}),
    "learned guidance": DyWeight(SIGMAS, order=2, learned_guidance={"cfg": 7.5, "guided": [0, 3, 4]}),
    "free-table": FreeTable(SIGMAS),
    "learned-schedule": LearnedSchedule(SIGMAS),
    "two calls a step": LearnedSchedule(SIGMAS, "heun"),
    "indis": Indis(SIGMAS, phi={"channels": 4, "grid": (2, 2), "detail": 0, "condition_width": 0, "hidden": 10}),
    "instance-dyweight": InstanceDyWeight(DyWeight(SIGMAS), (4, 8, 8)),
}


@pytest.fixture
def said(tmp_path, capsys):
    """said(solver, provenance, *options): what is printed of the solver's file."""

    def inspect(solver, provenance=None, *options):
        dyweight.save_solver(solver, tmp_path / "solver.safetensors", provenance or {})
        assert main([str(tmp_path / "solver.safetensors"), *options]) == 0
        return capsys.readouterr().out

    return inspect


def rows(text: str) -> list[list[float]]:
    return [[float(number) for number in line.split()] for line in text.splitlines() if re.match(r" {0,3}\d", line)]


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_has_its_settings_and_a_row_a_step(said, family):
    solver = FAMILIES[family]
    text = said(solver)
    assert all(re.search(rf"^  {name} ", text, re.MULTILINE) for name in solver.settings() if name != "sigmas")
    assert f"network calls  {solver.network_calls}" in re.sub(" {2,}", "  ", text)
    assert ("evaluations    13" in re.sub(" {2,}", "    ", text)) == (family == "learned guidance")
    assert [row[0] for row in rows(text)] == list(range(10))
    assert [row[1] for row in rows(text)] == pytest.approx(SIGMAS[:-1].tolist(), rel=1e-4)
    assert max(map(len, text.splitlines())) <= 180
    assert family != "indis" or {len(row) for row in rows(text)} == {2}, "phi has no numbers of a step"


def test_the_row_of_a_step_is_its_numbers_in_the_file(said):
    solver = DyWeight(SIGMAS, order=2)
    with torch.no_grad():
        solver.time_scale.mul_(0.97)
    plan = solver.plan()
    asked = torch.stack([SIGMAS[:-1], plan.sigmas[:-1], plan.query_sigmas], 1)
    expected = torch.cat([asked, solver.weights, solver.time_scale[:, None]], 1).detach()
    text = said(solver)
    assert torch.allclose(torch.tensor(rows(text), dtype=torch.float64)[:, 1:], expected, rtol=1e-4)
    assert "sigma    shifted   asked at    weights            time_scale" in text


def test_errors_and_provenance_are_shown_and_nulls_are_not(said):
    provenance = {"endpoint_error_before": 0.5, "endpoint_error_after": 0.125, "model": "a\x1b[2Jb", "guidance": None}
    text = re.sub(" {2,}", "  ", said(FAMILIES["dyweight"], provenance))
    assert "errors\n  endpoint_error_after  0.125\n  endpoint_error_before  0.5\n" in text
    assert r"model  a\x1b[2Jb" in text, "a file must not write to the terminal as it likes"
    assert "guidance" not in text
    assert "errors: none given" in said(FAMILIES["dyweight"])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_is_drawn_of_each_family(said, tmp_path, family):
    picture = tmp_path / "coefficients.png"
    assert f"wrote {picture}" in said(FAMILIES[family], None, "--picture", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")


def test_of_a_set_the_model_is_told_once_and_then_each_member(said, tmp_path):
    members = {4: DyWeight(schedules.flow(4), order=2), 10: FreeTable(SIGMAS)}
    errors = {str(steps): {"endpoint_error_after": steps / 1024} for steps in members}
    provenance = {"model": "the model", "members": errors}
    picture = tmp_path / "all.png"
    text = said(dyweight.SolverSet(members.values()), provenance, "--picture", str(picture))
    plain = re.sub(" {2,}", "  ", text)
    assert "family  set\n  steps  4, 10\n" in plain and text.count("the model") == 1
    assert [row[0] for row in rows(text)] == [*range(4), *range(10)]
    assert all(f"endpoint_error_after  {steps / 1024}" in plain for steps in members)
    assert plain.index("family  dyweight") < plain.index("family  free-table")
    drawn = picture.read_bytes()
    alone = re.sub(" {2,}", "  ", said(dyweight.SolverSet(members.values()), provenance, "--steps", "4"))
    assert "model  the model" in alone and "free-table" not in alone and len(rows(alone)) == 4
    for steps in members:
        said(dyweight.SolverSet(members.values()), provenance, "--steps", str(steps), "--picture", str(picture))
        assert picture.read_bytes() != drawn


def test_a_number_of_steps_that_a_set_does_not_have_is_an_error_with_those_it_has(tmp_path, capsys):
    path = tmp_path / "set.safetensors"
    dyweight.save_solver(dyweight.SolverSet(DyWeight(schedules.flow(n)) for n in (3, 5)), path, {})
    assert main([str(path), "--steps", "4"]) == 2
    assert "--steps 4: set steps to 3 or 5: there is no solver for 4" in capsys.readouterr().err


def test_what_can_not_be_read_is_an_error_with_its_name(tmp_path, capsys):
    assert main([str(tmp_path / "missing.safetensors")]) == 2
    assert "missing.safetensors" in capsys.readouterr().err
