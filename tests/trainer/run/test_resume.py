"""Runs that are killed and go on: the file ends the same, and is never there in part."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import dyweight
from trainer.run.errors import TrainerError
from trainer.run.resume import ResumeFile

GAUSS_NEWTON = ("--pairs", 16, "--teacher", "ipndm:10", "--iterations", 3)
ADAM = ("--method", "adam", "--pairs", 32, "--validation-pairs", 16, "--batch", 8, "--teacher", "ipndm:10")
RUNS = {
    "gauss-newton": ("--steps", 2, *GAUSS_NEWTON),
    "gauss-newton, one start": ("--steps", 3, *GAUSS_NEWTON, "--initial", "euler"),
    "gauss-newton, until it stalls": ("--steps", 1, *GAUSS_NEWTON, "--initial", "euler", "--iterations", 20),
    "gauss-newton, learned schedule": ("--steps", 2, *GAUSS_NEWTON, "--family", "learned-schedule"),
    "gauss-newton, two starts": ("--steps", 7, "--pairs", 16, "--teacher", "ipndm:10", "--calls", 2000),
    "gauss-newton, a set": ("--steps", "1,2,3", *GAUSS_NEWTON, "--calls", 4000),
    "adam": ("--steps", 3, *ADAM, "--iterations", 23),
    "adam, huber": ("--steps", 2, *ADAM, "--loss", "huber", "--iterations", 40),
    "indis": ("--steps", 2, *ADAM, "--family", "indis", "--iterations", 23),
}
QUICK = ("gauss-newton", "gauss-newton, learned schedule", "gauss-newton, two starts", "adam")
slow = pytest.mark.slow


class KilledError(Exception):
    pass


def killed_at(call: int) -> Callable[[int, Tensor, Tensor], None]:
    def before_call(calls: int, x: Tensor, sigma: Tensor) -> None:
        if calls == call:
            raise KilledError

    return before_call


@pytest.fixture
def whole(commands: Any, peaks: Any, tmp_path: Path) -> Callable[..., tuple[bytes, int]]:
    """The file of an uninterrupted run, and how many calls it made."""

    def run(*options: object) -> tuple[bytes, int]:
        model = peaks()
        outcome = commands.distill(model, *options, "--cache", tmp_path / "cache-of-the-whole-run")
        assert outcome.status == 0, outcome.errors
        content: bytes = outcome.out.read_bytes()
        outcome.out.unlink()
        return content, model.calls

    return run


@pytest.mark.parametrize("cached", [True, False], ids=["cached targets", "targets made again"])
@pytest.mark.parametrize("kind", [kind if kind in QUICK else pytest.param(kind, marks=slow) for kind in RUNS])
def test_a_run_that_was_killed_anywhere_ends_with_the_same_file(
    kind: str, cached: bool, commands: Any, peaks: Any, whole: Callable[..., tuple[bytes, int]], tmp_path: Path
) -> None:
    """From the teacher's calls to the last one of all; each is killed once more on the way."""
    keep = "--keep-targets" if cached else "--no-keep-targets"
    expected, calls = whole(*RUNS[kind], keep)
    for share in (0.02, 0.5, 1.0):
        options = (*RUNS[kind], keep, "--cache", tmp_path / f"cache-{share}")
        for call in (min(int(share * calls), calls - 1), calls // 3):
            model = peaks()
            model.before_call = killed_at(call)
            try:
                commands.distill(model, *options, "--resume")
            except KilledError:
                assert not (tmp_path / "solver.safetensors").exists()
        outcome = commands.distill(peaks(), *options, "--resume")
        assert outcome.status == 0, outcome.errors
        assert outcome.out.read_bytes() == expected
        assert [path for path in tmp_path.iterdir() if "solver" in path.name] == [outcome.out]
        outcome.out.unlink()


@slow
@pytest.mark.parametrize("kind", ["gauss-newton", "adam"])
def test_a_process_that_was_killed_too(
    kind: str, commands: Any, peaks_file: Callable[..., str], tmp_path: Path
) -> None:
    """SIGKILL, halfway and for one during the teacher's calls."""
    whole = commands.distill(peaks_file(), *RUNS[kind], out="whole.safetensors").out
    out = tmp_path / "solver.safetensors"
    for call in (150,) if kind == "adam" else (5, 200):
        kill = f"if self.calls == {call}: import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"
        name = peaks_file(("        pass", f"        {kill}"))
        arguments = ("--ckpt", name, *RUNS[kind], "--cache", tmp_path / "cache", "--out", out, "--resume")
        done: subprocess.CompletedProcess[str] = commands.in_another_process("distill", *arguments)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not out.exists()
        assert (tmp_path / "solver.safetensors.resume").exists() == (call > 5)
    outcome = commands.distill(peaks_file(), *RUNS[kind], "--resume")
    assert outcome.status == 0, outcome.errors
    assert "resum" in outcome.printed
    assert outcome.out.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "solver.safetensors.resume").exists()


@pytest.fixture
def interrupted(commands: Any, peaks: Any, tmp_path: Path) -> tuple[Any, ...]:
    """The options of a run that was killed halfway."""
    options = RUNS["gauss-newton"]
    model = peaks()
    model.before_call = killed_at(200)
    with pytest.raises(KilledError):
        commands.distill(model, *options)
    assert (tmp_path / "solver.safetensors.resume").exists()
    return options


def test_without_resume_it_is_said_that_the_state_is_replaced(
    interrupted: tuple[Any, ...], commands: Any, peaks: Any
) -> None:
    outcome = commands.distill(peaks(), *interrupted)
    assert "solver.safetensors.resume is from an interrupted run; this one replaces it; --resume" in outcome.printed


OTHER_OPTIONS = """
    --seed 1, --steps 3, --order 1, --method adam, --pairs 24, --validation-pairs 24, --teacher ipndm:11, --batch 8,
    --effort draft, --calls 3000,
    --loss l1, --slope query, --initial euler, --iterations 4, --difference-step 0.01, --no-time-shifting,
    --no-time-scaling, --analytic-first-step
"""


def test_other_options_are_refused_by_name(interrupted: tuple[Any, ...], commands: Any, peaks: Any) -> None:
    """And leave the state as it was."""
    for other in OTHER_OPTIONS.split(","):
        outcome = commands.distill(peaks(), *interrupted, *other.split(), "--resume")
        name = other.split()[0].removeprefix("--").removeprefix("no-")
        assert "--resume" in outcome.message
        assert name in outcome.message or name.replace("-", "_") in outcome.message
        assert not outcome.out.exists()
    resumed = commands.distill(peaks(), *interrupted, "--resume")
    assert resumed.status == 0 and "resuming" in resumed.printed


def test_another_model_under_the_same_name_is_refused(interrupted: tuple[Any, ...], commands: Any, peaks: Any) -> None:
    """Otherwise half of the fit would be of one model and half of another."""
    other = peaks()
    other.denoise = lambda x, sigma, cond: peaks.denoise(other, x, sigma, cond) * 0.9
    outcome = commands.distill(other, *interrupted, "--resume")
    assert "--resume" in outcome.message and not outcome.out.exists()


def test_options_that_do_not_change_the_file_may_differ(
    interrupted: tuple[Any, ...], commands: Any, peaks: Any, quick_pictures: None, tmp_path: Path
) -> None:
    more = ("--cache", tmp_path / "other-cache", "--report", tmp_path / "report")
    resumed = commands.distill(peaks(), *interrupted, *more, "--resume").out.read_bytes()
    assert commands.distill(peaks(), *interrupted).out.read_bytes() == resumed


def test_the_same_place_in_other_words_is_the_same(
    interrupted: tuple[Any, ...], commands: Any, peaks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commands.folder = Path()
    outcome = commands.distill(peaks(), *interrupted, "--resume")
    assert outcome.status == 0, outcome.errors


def test_without_resume_a_run_begins_anew(interrupted: tuple[Any, ...], commands: Any, peaks: Any) -> None:
    outcome = commands.distill(peaks(), *interrupted)
    assert outcome.status == 0 and "resuming" not in outcome.printed
    assert not list(commands.folder.glob("*.resume"))


def test_with_nothing_to_resume_it_begins(commands: Any, peaks: Any) -> None:
    outcome = commands.distill(peaks(), *RUNS["gauss-newton"], "--resume")
    assert outcome.status == 0 and "nothing to resume" in outcome.printed


@pytest.mark.parametrize("content", [b"", b"damaged" * 50])
def test_a_damaged_state_is_refused_with_what_to_do(
    content: bytes, interrupted: tuple[Any, ...], commands: Any, peaks: Any, tmp_path: Path
) -> None:
    (tmp_path / "solver.safetensors.resume").write_bytes(content)
    message = commands.distill(peaks(), *interrupted, "--resume").message
    assert "--resume" in message and "solver.safetensors.resume" in message and "delete" in message


def test_a_state_of_another_shape_is_refused(
    interrupted: tuple[Any, ...], commands: Any, peaks: Any, tmp_path: Path
) -> None:
    """A safetensors file, but not a state: a coefficient file of the same name, for instance."""
    solver = dyweight.DyWeight(peaks().schedule(2))
    dyweight.save_solver(solver, tmp_path / "solver.safetensors.resume", {})
    assert "--resume" in commands.distill(peaks(), *interrupted, "--resume").message


def test_a_state_keeps_what_it_was_given(tmp_path: Path) -> None:
    file = ResumeFile(tmp_path / "solver.safetensors", {"seed": 1, "cache": tmp_path, "loss": "l2"})
    assert file.load() is None
    state = {"numbers": torch.randn(3, 2, dtype=torch.float64), "count": torch.tensor(7), "none": torch.zeros(0, 4)}
    file.save(state, {"date": "today", "forward": 3})
    same = ResumeFile(tmp_path / "solver.safetensors", {"seed": 1, "cache": tmp_path / "other", "loss": "l2"})
    kept = same.load()
    assert kept is not None and kept[1] == {"date": "today", "forward": 3} and kept[0].keys() == state.keys()
    assert all(
        torch.equal(kept[0][name], value) and kept[0][name].dtype == value.dtype for name, value in state.items()
    )
    with pytest.raises(TrainerError, match=r"--resume: .*seed = 1.*2"):
        ResumeFile(tmp_path / "solver.safetensors", {"seed": 2, "loss": "l2"}).load()
    file.remove()
    file.remove()
    assert os.listdir(tmp_path) == []
