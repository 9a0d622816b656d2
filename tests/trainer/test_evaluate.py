"""`python -m trainer.evaluate`: what it compares, what it writes, what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import dyweight
from dyweight import DyWeight

QUICK = ("--samples", 60, "--batch", 20, "--teacher", "ipndm:25", "--max-calls", 4)


def untrained(checkpoint: Any, folder: Path, steps: int = 3, **more: Any) -> Path:
    path = folder / "untrained.safetensors"
    dyweight.save_solver(DyWeight(checkpoint.schedule(steps), **more), path, {"model": "somewhere"})
    return path


def test_it_writes_a_report_and_pictures_and_prints_a_table(commands: Any, tmp_path: Path) -> None:
    solver = tmp_path / "solver.safetensors"
    assert commands.distill("gmm:4", "--steps", 3, "--pairs", 32, "--teacher", "ipndm:25").status == 0
    outcome = commands.evaluate("gmm:4", solver, *QUICK, "--baselines", "euler,dpmpp_2m")
    assert outcome.status == 0
    report = outcome.report()
    assert set(report["endpoint_error"]) == {"dyweight", "euler", "dpmpp_2m"}
    assert min(report["endpoint_error"], key=report["endpoint_error"].get) == "dyweight"
    assert list(report["endpoint_error"].values()) == sorted(report["endpoint_error"].values())
    assert report["network_calls"]["backward"] == 0
    assert report["network_calls"]["total"] == report["network_calls"]["forward"] > 60 * 25
    assert report["seconds"] > 0 and report["peak_memory_bytes"] > 1 << 20
    assert report["nfe"] == 3 and report["samples"] == 60
    assert report["provenance"]["method"] == "gauss-newton"
    assert {path.name for path in outcome.out.glob("*.png")} >= {"coefficients.png", "error_over_steps.png"}
    for name in report["endpoint_error"]:
        assert name in outcome.printed


@pytest.mark.usefixtures("quick_pictures")
class TestComparison:
    def test_by_default_all_handcrafted_solvers_with_that_number_of_calls(
        self, commands: Any, peaks: Any, tmp_path: Path
    ) -> None:
        solver = untrained(peaks(), tmp_path, steps=4)
        errors = commands.evaluate(peaks(), solver, *QUICK).report()["endpoint_error"]
        several = {f"{name}:{order}" for name in ("ipndm", "ipndm_v") for order in (1, 2, 3, 4)}
        several |= {f"unipc:{order}" for order in (1, 2, 3)}
        assert set(errors) == {"dyweight", "euler", "heun", "dpm_solver_2", "dpmpp_2m", "dpmpp_3m", *several}
        assert errors["ipndm:1"] == errors["ipndm_v:1"] == errors["euler"]

    def test_orders_are_as_named_and_else_the_default(self, commands: Any, peaks: Any, tmp_path: Path) -> None:
        solver = untrained(peaks(), tmp_path)
        outcome = commands.evaluate(peaks(), solver, *QUICK, "--baselines", "ipndm:2,unipc,ipndm_v:4,euler")
        rows = {"ipndm:2", "unipc", "ipndm_v:4", "euler"}
        assert set(outcome.report()["endpoint_error"]) == {"dyweight", *rows}
        assert set(outcome.report()["error_over_steps"]) == rows

    @pytest.mark.parametrize("steps", [1, 3])
    def test_an_untrained_solver_is_ipndm(self, steps: int, commands: Any, peaks: Any, tmp_path: Path) -> None:
        solver = untrained(peaks(), tmp_path, steps)
        errors = commands.evaluate(peaks(), solver, *QUICK).report()["endpoint_error"]
        assert errors["dyweight"] == pytest.approx(errors[f"ipndm:{steps}"], rel=1e-4)

    def test_an_untrained_order_of_one_is_euler(self, commands: Any, peaks: Any, tmp_path: Path) -> None:
        solver = untrained(peaks(), tmp_path, order=1)
        errors = commands.evaluate(peaks(), solver, *QUICK, "--baselines", "euler").report()["endpoint_error"]
        assert errors["dyweight"] == pytest.approx(errors["euler"], rel=1e-4)

    def test_it_is_repeatable_and_the_seed_draws_other_samples(self, commands: Any, peaks: Any, tmp_path: Path) -> None:
        solver = untrained(peaks(), tmp_path)
        runs = [
            commands.evaluate(peaks(), solver, *QUICK, "--seed", s, "--cache", tmp_path / c).report()["endpoint_error"]
            for s, c in ((1, "a"), (1, "a"), (1, "b"), (2, "b"))
        ]
        assert runs[0] == runs[1] == runs[2] != runs[3]

    def test_a_second_evaluation_needs_no_teacher(self, commands: Any, peaks: Any, tmp_path: Path) -> None:
        solver = untrained(peaks(), tmp_path)
        totals = [commands.evaluate(peaks(), solver, *QUICK).report()["network_calls"]["total"] for _ in range(2)]
        assert totals[0] - totals[1] == 60 * 25

    def test_samples_are_whole_network_calls_and_the_report_tells_how_many(
        self, commands: Any, peaks: Any, tmp_path: Path
    ) -> None:
        outcome = commands.evaluate(peaks(), untrained(peaks(), tmp_path), *QUICK, "--samples", 30)
        assert outcome.report()["samples"] == 40
        assert "40 samples" in outcome.printed

    def test_an_analytic_first_step_is_compared_at_its_own_number_of_calls(
        self, commands: Any, peaks: Any, tmp_path: Path
    ) -> None:
        solver = untrained(peaks(), tmp_path, steps=5, analytic_first_step=True)
        report = commands.evaluate(peaks(), solver, *QUICK, "--baselines", "heun").report()
        assert report["nfe"] == 4 and set(report["endpoint_error"]) == {"dyweight", "heun"}

    def test_a_baseline_that_cannot_make_that_number_of_calls_does_not_stop_it(
        self, commands: Any, peaks: Any, tmp_path: Path
    ) -> None:
        outcome = commands.evaluate(peaks(), untrained(peaks(), tmp_path), *QUICK, "--baselines", "heun")
        assert outcome.status == 0
        assert set(outcome.report()["endpoint_error"]) == {"dyweight"}

    def test_a_sampler_that_diverges_is_null_in_the_report(self, commands: Any, peaks: Any, tmp_path: Path) -> None:
        solver = DyWeight(peaks().schedule(3))
        with torch.no_grad():
            solver.weights[-1] *= 1e30
        dyweight.save_solver(solver, tmp_path / "diverging.safetensors", {})
        outcome = commands.evaluate(peaks(), tmp_path / "diverging.safetensors", *QUICK)
        assert outcome.status == 0, outcome.errors
        text = (outcome.out / "report.json").read_text()
        errors = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["endpoint_error"]
        assert errors["dyweight"] is None or errors["dyweight"] > 1e20

    def test_another_model_is_told_by_name(self, commands: Any, peaks: Any, tmp_path: Path) -> None:
        assert commands.distill(peaks(), "--steps", 2, "--pairs", 8, "--teacher", "euler:5").status == 0
        other = peaks()
        other.fingerprint = "another-model"
        same = commands.evaluate(peaks(), tmp_path / "solver.safetensors", *QUICK)
        warned = commands.evaluate(other, tmp_path / "solver.safetensors", *QUICK)
        assert "warning" not in same.printed + same.errors
        assert "warning" in warned.printed + warned.errors and "another-model" in warned.printed + warned.errors


@pytest.mark.parametrize(
    ("baselines", "said"),
    [
        ("eulr", "euler"),
        ("euler,dpmpp2m", "dpmpp_2m"),
        ("nothing", "unipc"),
        ("euler,,heun", "unipc"),
        ("", "unipc"),
        ("ipndm:5", "1, 2, 3, 4"),
        ("euler:2", "orders of euler are 1"),
        ("ipndm:", "1, 2, 3, 4"),
        ("unipc:two", "1, 2, 3"),
    ],
)
def test_unknown_baselines_are_refused_with_the_nearest(
    baselines: str, said: str, commands: Any, peaks: Any, tmp_path: Path
) -> None:
    message = commands.evaluate(peaks(), untrained(peaks(), tmp_path), "--baselines", baselines).message
    assert "--baselines" in message and said in message


@pytest.mark.parametrize("damage", ["missing", "folder", "empty", "truncated", "text", "another kind"])
def test_a_solver_that_cannot_be_read_is_refused_by_name(
    damage: str, commands: Any, peaks: Any, tmp_path: Path
) -> None:
    solver = untrained(peaks(), tmp_path)
    whole = solver.read_bytes()
    solver.unlink()
    if damage == "folder":
        solver.mkdir()
    elif damage != "missing":
        cache_like = whole.replace(b"dyweight-solver", b"something-else!")
        solver.write_bytes(
            {"empty": b"", "truncated": whole[:-9], "text": b"no solver" * 20, "another kind": cache_like}[damage]
        )
    outcome = commands.evaluate(peaks(), solver)
    assert "untrained.safetensors" in outcome.message
    assert not (outcome.out / "report.json").exists()


def test_a_solver_for_another_sigma_range_is_refused(commands: Any, peaks: Any, tmp_path: Path) -> None:
    other = peaks()
    other.schedule = lambda steps: peaks.schedule(other, steps) * 2
    message = commands.evaluate(other, untrained(peaks(), tmp_path), *QUICK).message
    assert "--solver" in message and "untrained.safetensors" in message and "20" in message and "10" in message


def test_a_place_that_is_no_folder_is_refused(commands: Any, peaks: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    solver = untrained(peaks(), tmp_path)
    assert "--out" in commands.evaluate(peaks(), solver, *QUICK, out="file/below").message
    assert "--cache" in commands.evaluate(peaks(), solver, *QUICK, "--cache", tmp_path / "file" / "below").message


def test_a_bad_value_of_the_teacher_is_an_error_with_pair_and_step(commands: Any, peaks: Any, tmp_path: Path) -> None:
    model = peaks()
    model.fingerprint = "breaks in its second block"
    answers = [0.5, torch.nan]
    model.denoise = lambda x, sigma, cond: x * answers[model.calls == 27] + model.before_call(0, x, sigma)
    model.before_call = lambda calls, x, sigma: setattr(model, "calls", model.calls + 1) or 0
    message = commands.evaluate(model, untrained(peaks(), tmp_path), *QUICK).message
    assert "pair 20" in message and "step 2" in message and "teacher" in message


def test_of_a_file_with_several_solvers_a_number_that_it_does_not_have_is_an_error_with_those_it_has(commands):
    solvers = dyweight.SolverSet(dyweight.DyWeight(dyweight.schedules.polynomial(n)) for n in (3, 5))
    dyweight.save_solver(solvers, commands.folder / "set.safetensors", {})
    outcome = commands.evaluate("gmm", commands.folder / "set.safetensors", "--steps", 4)
    assert "--steps 4: set steps to 3 or 5" in outcome.message
