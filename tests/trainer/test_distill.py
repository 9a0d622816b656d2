"""`python -m trainer.distill`: its contract, that it can be repeated, and that it writes a whole file or none."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import dyweight
from benchmarks.models import DigitsFlow, DigitsRounded
from trainer.distill import distill
from trainer.options.distill import DistillOptions

QUICK = ("--steps", 2, "--pairs", 16, "--teacher", "ipndm:10", "--iterations", 2)


def test_the_contract_in_a_process_of_its_own(commands: Any, tmp_path: Path) -> None:
    """The commands that scripts rely on; another process writes the same bytes."""
    arguments = ("--steps", 3, "--order", 2, "--method", "gauss-newton", "--pairs", 16)
    arguments += ("--teacher", "heun:10", "--iterations", 3, "--seed", 4)
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


@pytest.mark.parametrize(("side", "told"), [(128, "; up to 0.7 GB of main memory for a moment"), (16, "network calls")])
def test_main_memory_is_told_before_the_fit_where_it_is_much(side: int, told: str, commands: Any, peaks: Any) -> None:
    """Of FLUX at 1024 x 1024 as docs/fitting.md has it. Too few calls end it before it takes the memory."""
    outcome = commands.distill(peaks((16, side, side)), "--steps", 5, "--teacher", "ipndm:5", "--calls", 20)
    assert outcome.status == 2 and outcome.printed.splitlines()[0].endswith(told)


@pytest.mark.slow
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
        "trainer.distillation.fitting.best_handcrafted", lambda network, pairs, calls: ("euler", torch.tensor([1e9]))
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
    smallest = ("--pairs", 1, "--validation-pairs", 1, "--batch", 1, "--teacher", "ipndm:10", "--iterations", 3)
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
