"""report.json and the pictures of a distillation."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import dyweight
from trainer.pairs.teacher import Teacher
from trainer.report.report import error_table, write_json

QUICK = ("--pairs", 16, "--iterations", 2, "--report-pairs", 16, "--teacher", "ipndm:12")


@pytest.mark.parametrize(("ckpt", "picture"), [("gmm:2", "scatter.png"), ("digits", "samples.png")])
def test_a_report_has_its_numbers_and_pictures(ckpt: str, picture: str, commands: Any, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "report"
    assert commands.distill(ckpt, "--steps", 3, *QUICK, "--report", folder).status == 0
    report = json.loads((folder / "report.json").read_text())
    assert set(report["endpoint_error"]) >= {"dyweight", "euler", "ipndm:3", "dpmpp_2m", "unipc:2"}
    assert all(error > 0 for error in report["endpoint_error"].values())
    calls = report["network_calls"]
    assert calls.keys() == {"forward", "backward", "total"}
    assert calls["backward"] == 0 and calls["total"] == calls["forward"] > 0
    assert report["seconds"] > 0
    assert isinstance(report["peak_memory_bytes"], int) and report["peak_memory_bytes"] > 1 << 20
    assert report["history"] and report["options"]["steps"] == [3]
    pictures = {path.name for path in folder.glob("*.png")}
    assert pictures == {"coefficients.png", "convergence.png", "error_over_steps.png", picture}
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in pictures)


@pytest.mark.parametrize("shape", [(1,), (3, 8, 8), (4, 2, 6, 6)])
def test_every_kind_of_latent_has_a_report(shape: tuple[int, ...], commands: Any, peaks: Any, tmp_path: Path) -> None:
    outcome = commands.distill(peaks(shape), "--steps", 2, *QUICK, "--report", tmp_path / "report")
    assert outcome.status == 0, outcome.errors
    assert outcome.report(tmp_path / "report")["endpoint_error"]["dyweight"] > 0


def test_the_report_has_the_whole_captions_of_the_samples_shown(commands: Any, peaks: Any, tmp_path: Path) -> None:
    texts = [f"a very long prompt of several lines, {i} " + "and so on " * 30 for i in range(16)]
    model = peaks((1, 4, 4))
    model.captions = lambda cond: None
    assert commands.distill(model, "--steps", 2, *QUICK, "--report", tmp_path).report(tmp_path)["prompts"] is None
    draw = model.draw
    model.draw = lambda generator, batch: (draw(generator, batch)[0], torch.arange(batch))
    model.captions = lambda cond: [texts[i] for i in cond.tolist()]
    arguments = ("--steps", 2, *QUICK, "--batch", 16, "--report", tmp_path)
    outcome = commands.distill(model, *arguments)
    assert outcome.status == 0, outcome.errors
    assert outcome.report(tmp_path)["prompts"] == texts[:10]
    assert (tmp_path / "samples.png").exists()


def test_errors_are_measured_on_unseen_pairs_and_mean_what_they_say(
    commands: Any, peaks: Any, quick_pictures: None, tmp_path: Path
) -> None:
    """Against the definition, on noise drawn here; 4096 samples each, so within a fifth."""
    many = ("--batch", 64, "--report-pairs", 4096)
    outcome = commands.distill(peaks(), "--steps", 3, *QUICK, *many, "--report", tmp_path / "report")
    report, solver, model = outcome.report(tmp_path / "report"), dyweight.load_solver(outcome.out), peaks()

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return model.denoise(x, sigma, None)

    noise, _ = model.draw(torch.Generator().manual_seed(12345), 4096)
    target = dyweight.sample(denoise, noise, Teacher("ipndm", 12).plan(model)).double()
    for name, plan in (("dyweight", solver.plan()), ("euler", dyweight.baselines.plan("euler", model.schedule(3)))):
        error = dyweight.sample(denoise, noise, plan).double() - target
        assert report["endpoint_error"][name] == pytest.approx(float((error**2).mean() / target.var()), rel=0.2)


@pytest.mark.parametrize("method", ["gauss-newton", "adam"])
def test_every_network_call_is_counted_but_the_reports_own(
    method: str, commands: Any, peaks: Any, quick_pictures: None, tmp_path: Path
) -> None:
    """By a checkpoint that counts too, in a run without a report."""
    arguments = ("--steps", 2, "--method", method, *QUICK, "--no-keep-targets")
    model, seen = peaks(), []
    model.fingerprint = "so that no call is spent on finding one"
    model.before_call = lambda calls, x, sigma: seen.append(x.shape[0])
    assert commands.distill(model, *arguments).status == 0
    spent = sum(seen)
    commands.distill(model, *arguments, "--report", tmp_path / "report")
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    calls = report["network_calls"]
    assert calls["forward"] == spent
    assert calls["total"] == calls["forward"] + 2 * calls["backward"]
    assert (calls["backward"] > 0) == (method == "adam")
    history = [line["network_calls"] for line in report["history"]]
    assert history == sorted(history) and history[-1] <= calls["total"]


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    write_json(tmp_path, {"a": math.inf, "b": [math.nan, 1.0, {"c": -math.inf}], "d": 2})
    text = (tmp_path / "report.json").read_text()
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert content == {"a": None, "b": [None, 1.0, {"c": None}], "d": 2}


def test_the_table_shows_each_against_the_best_handcrafted() -> None:
    errors = {"dyweight": 0.01, "ipndm:3": 0.02, "euler": 0.04}
    assert error_table(errors, "dyweight").splitlines() == [
        "| sampler  | endpoint error | of the best handcrafted |",
        "| -------- | -------------: | ----------------------: |",
        "| dyweight |       0.010000 |                   0.500 |",
        "| ipndm:3  |       0.020000 |                   1.000 |",
        "| euler    |       0.040000 |                   2.000 |",
    ]
    assert "nan" in error_table({"dyweight": 0.01}, "dyweight")
