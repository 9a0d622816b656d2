"""`python -m trainer.distill`: its contract, that it can be repeated, and that it writes a whole file or none."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import dyweight
from benchmarks.models import DigitsFlow, DigitsRounded
from trainer.checkpoints.builtin import gmm
from trainer.compare.endpoint_error import endpoint_error
from trainer.distill import distill
from trainer.losses.features import Latent
from trainer.options.distill import DistillOptions
from trainer.pairs.pairs import deviation
from trainer.pairs.targets import Targets
from trainer.pairs.teacher import Teacher
from trainer.run.network import Network

QUICK = ("--steps", 2, "--pairs", 16, "--teacher", "ipndm:10", "--iterations", 2)


def test_the_contract_in_a_process_of_its_own(commands: Any, tmp_path: Path) -> None:
    """The commands that scripts rely on; another process writes the same bytes."""
    arguments = ("--steps", 3, "--order", 2, "--method", "gauss-newton", "--pairs", 16)
    arguments += ("--teacher", "heun:10", "--seed", 4)
    out, report = tmp_path / "new" / "a.safetensors", tmp_path / "report"
    done = commands.in_another_process("distill", "--ckpt", "gmm:3", *arguments, "--out", out, "--report", report)
    assert (done.returncode, done.stderr) == (0, "")
    assert str(out) in done.stdout
    assert json.loads((report / "report.json").read_text())["endpoint_error"]["dyweight"] > 0
    assert commands.distill("gmm:3", *arguments).out.read_bytes() == out.read_bytes()

    compared = ("--baselines", "euler,ipndm", "--samples", 50, "--seed", 9, "--out", tmp_path / "evaluation")
    done = commands.in_another_process("evaluate", "--ckpt", "gmm:3", "--solver", out, *compared)
    assert (done.returncode, done.stderr) == (0, "")
    errors = json.loads((tmp_path / "evaluation" / "report.json").read_text())["endpoint_error"]
    assert errors.keys() == {"dyweight", "euler", "ipndm"}


@pytest.mark.parametrize("method", ["gauss-newton", "adam"])
def test_the_same_command_gives_the_same_bytes_and_another_seed_another_file(
    method: str, commands: Any, peaks: Any, tmp_path: Path
) -> None:
    """Whatever stands in the cache, and whatever the process drew before."""
    files = []
    for seed, cache in ((0, "a"), (0, "a"), (0, "b"), (1, "b")):
        torch.rand(len(files) + 1)
        outcome = commands.distill(peaks(), *QUICK, "--method", method, "--seed", seed, "--cache", tmp_path / cache)
        assert outcome.status == 0, outcome.errors
        files.append(outcome.out.read_bytes())
    assert files[0] == files[1] == files[2] != files[3]


def test_another_process_gives_the_same_bytes_of_a_users_model(
    commands: Any, peaks_file: Callable[..., str], tmp_path: Path
) -> None:
    arguments = ("--method", "adam", *QUICK)
    here = commands.distill(peaks_file(), *arguments).out
    there = tmp_path / "there.safetensors"
    done = commands.in_another_process("distill", "--ckpt", peaks_file(), *arguments, "--out", there)
    assert done.returncode == 0, done.stderr
    assert here.read_bytes() == there.read_bytes()


def test_a_run_leaves_the_global_random_state_alone(commands: Any, peaks: Any) -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    assert commands.distill(peaks(), *QUICK).status == 0
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_but_the_file_is_left_beside_it(commands: Any, peaks: Any, tmp_path: Path) -> None:
    assert commands.distill(peaks(), *QUICK, out="folder/solver.safetensors").status == 0
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["solver.safetensors"]


def test_an_old_file_is_replaced(commands: Any, peaks: Any, tmp_path: Path) -> None:
    (tmp_path / "solver.safetensors").write_text("an old file")
    outcome = commands.distill(peaks(), *QUICK)
    assert outcome.status == 0 and dyweight.load_solver(outcome.out).steps == 2


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
    monkeypatch.setattr("trainer.fitting.make_fit", fit_that_scales_weights(factor))
    monkeypatch.setattr(
        "trainer.fitting.best_handcrafted", lambda network, pairs, calls: ("euler", torch.tensor([1e9]))
    )
    outcome = commands.distill(peaks(), *QUICK, "--steps", 3, "--no-time-shifting")
    assert "the fit found nothing better than the untrained solver" in outcome.printed
    file = dyweight.SolverFile.read(outcome.out)
    assert torch.equal(file.solver.weights, dyweight.DyWeight(peaks().schedule(3)).weights)
    assert file.provenance["endpoint_error_after"] == file.provenance["endpoint_error_before"]


def test_a_fit_above_a_handcrafted_solver_says_so_and_keeps_that_as_a_table(
    commands: Any, peaks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.fitting.make_fit", fit_that_scales_weights(3.0))
    monkeypatch.setattr(
        "trainer.fitting.best_handcrafted",
        lambda network, pairs, calls: ("ipndm:2", torch.full((pairs.test_pairs,), 1e-9, dtype=torch.float64)),
    )
    outcome = commands.distill(peaks(), *QUICK, "--steps", 3, "--no-time-shifting")
    assert "ipndm:2 is kept" in outcome.printed
    file = dyweight.SolverFile.read(outcome.out)
    expected = dyweight.baselines.plan("ipndm", peaks().schedule(3), 2)
    assert torch.allclose(file.solver.plan().gains, expected.gains, rtol=1e-12)
    assert file.provenance["endpoint_error_after"] == 1e-9


def test_a_fit_that_only_one_pair_speaks_against_is_kept_and_says_so(
    commands: Any, peaks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained, fitted = [0.2, 0.3, 0.1, 0.4], [0.02, 0.03, 9.0, 0.04]
    measured = iter([torch.tensor(untrained), torch.tensor(fitted)])
    monkeypatch.setattr("trainer.fitting.make_fit", fit_that_scales_weights(3.0))
    monkeypatch.setattr("trainer.fitting.pair_errors", lambda *given: next(measured))
    monkeypatch.setattr(
        "trainer.fitting.best_handcrafted", lambda network, pairs, calls: ("euler", torch.tensor([0.2] * 4))
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
    monkeypatch.setattr("trainer.fitting.make_fit", fit_that_scales_weights(factor))
    outcome = commands.distill(peaks(), *QUICK, "--steps", 3, "--loss", "l1", "--no-time-shifting")
    assert "is above 1" in outcome.printed
    found = dyweight.SolverFile.read(outcome.out).provenance["endpoint_error_after"]
    assert found is None if after is None else found > 1


def test_pairs_are_whole_network_calls_and_the_file_tells_how_many(commands: Any, peaks: Any) -> None:
    arguments = ("--steps", 2, "--teacher", "ipndm:10", "--iterations", 1, "--batch", 4)
    for given, made in (((8, 4), (8, 4)), ((9, 1), (12, 1))):
        outcome = commands.distill(peaks(), *arguments, "--pairs", given[0], "--validation-pairs", given[1])
        provenance = dyweight.SolverFile.read(outcome.out).provenance
        assert (provenance["pairs"], provenance["endpoint_error_pairs"]) == made


@pytest.mark.parametrize("steps", [1, 2, 6])
@pytest.mark.parametrize("method", ["gauss-newton", "adam"])
def test_any_number_of_steps_and_every_order(
    steps: int, method: str, commands: Any, peaks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "trainer.fitting.best_handcrafted", lambda network, pairs, calls: ("euler", torch.tensor([1e9]))
    )
    for order in (1, None, steps):
        more = () if order is None else ("--order", order)
        outcome = commands.distill(peaks(), *QUICK, "--steps", steps, "--method", method, *more)
        assert outcome.status == 0, outcome.errors
        solver = dyweight.load_solver(outcome.out)
        assert (solver.steps, solver.order) == (steps, order or min(3, steps))


def test_distill_can_be_called_from_python(peaks_file: Callable[..., str], tmp_path: Path) -> None:
    options = DistillOptions(
        peaks_file(), tmp_path / "solver.safetensors", (2,), pairs=8, teacher="euler:6", iterations=1
    )
    done = distill(options)
    loaded = dyweight.load_solver(options.out)
    assert torch.equal(loaded.weights, done.solver.weights)
    assert torch.equal(loaded.time_scale, done.solver.time_scale)


def test_one_pair_and_one_element_are_enough(commands: Any, peaks: Any) -> None:
    """The smallest problem there is."""
    smallest = ("--pairs", 1, "--validation-pairs", 1, "--batch", 1, "--teacher", "ipndm:10")
    outcome = commands.distill(peaks((1,)), "--steps", 1, *smallest)
    assert outcome.status == 0, outcome.errors


def test_progress_is_printed_line_by_line(commands: Any, peaks: Any) -> None:
    outcome = commands.distill(peaks(), *QUICK, "--initial", "euler", "--iterations", 3)
    lines = [line for line in outcome.printed.splitlines() if line.startswith("iteration")]
    assert lines and all("training error" in line and "network calls" in line for line in lines)
    assert outcome.errors == ""


ESTIMATED = {
    "draft": (DigitsFlow, ("--effort", "draft")),
    "a network that rounds": (DigitsRounded, ("--calls", 2500, "--no-keep-targets")),
    "a given step": (DigitsFlow, ("--calls", 2000, "--difference-step", 0.05)),
    "adam": (DigitsFlow, ("--method", "adam", "--pairs", 160)),
    "adam, nothing kept": (DigitsFlow, ("--method", "adam", "--pairs", 32, "--iterations", 9, "--no-keep-targets")),
    "adam, no recomputing": (DigitsFlow, ("--method", "adam", "--pairs", 48, "--no-recompute")),
}


def number(text: str) -> int:
    return int(text.replace(",", ""))


def printed_calls(printed: str) -> list[int]:
    """What was said of the network calls to come, line by line, before the fit."""
    found = re.findall(r"at most ([\d,]+) network calls", printed)
    assert found, printed
    return [number(text) for text in found]


@pytest.mark.usefixtures("quick_pictures")
@pytest.mark.parametrize("kind", ESTIMATED)
def test_the_printed_number_of_calls_is_not_exceeded(kind: str, commands: Any, tmp_path: Path) -> None:
    model, options = ESTIMATED[kind]
    arguments = ("--steps", 4, "--teacher", "ipndm:20", *options, "--report", tmp_path / "report", "--report-pairs", 8)
    outcome = commands.distill(model(), *arguments)
    made = outcome.report(tmp_path / "report")["network_calls"]["total"]
    (most,) = printed_calls(outcome.printed)
    assert 0.75 * most <= made <= most
    totals = [number(line.split()[-1]) for line in outcome.printed.splitlines() if line.startswith("iteration")]
    assert all(made <= total <= most for total in totals)


@pytest.mark.usefixtures("quick_pictures")
@pytest.mark.parametrize("kind", ["draft", "adam"])
def test_a_resumed_run_tells_how_many_calls_are_left(kind: str, commands: Any, tmp_path: Path) -> None:
    make, options = ESTIMATED[kind]
    arguments = ("--steps", 4, "--teacher", "ipndm:20", *options, "--report", tmp_path / "report", "--report-pairs", 8)
    model = make()
    whole, calls = model.denoise, 0
    most = 1250 if kind == "draft" else 6000

    def until_interrupted(x: torch.Tensor, sigma: torch.Tensor, cond: Any) -> torch.Tensor:
        nonlocal calls
        calls += len(x)
        if calls > most:
            raise KeyboardInterrupt
        return whole(x, sigma, cond)

    model.denoise = until_interrupted  # type: ignore[method-assign]
    interrupted = commands.distill(model, *arguments)
    assert interrupted.status == 130
    spent = number(re.findall(r"network calls ([\d,]+) of", interrupted.printed)[-1])
    outcome = commands.distill(make(), *arguments, "--resume")
    _, left = printed_calls(outcome.printed)
    made = outcome.report(tmp_path / "report")["network_calls"]["total"] - spent
    assert 0.5 * left <= made <= left and "network calls left" in outcome.printed
