"""What stops a distillation: exit status 2, one line that names what is wrong, no traceback, nothing half done."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

QUICK = ("--steps", 3, "--pairs", 16, "--validation-pairs", 8, "--teacher", "euler:4", "--iterations", 2)


@pytest.mark.parametrize(
    ("ckpt", "said"),
    [
        ("digts", "digits"),
        ("gmn", "gmm"),
        ("no/such/model.py:make", "no/such/model.py"),
        ("no_such_module:make", "no_such_module"),
        ("trainer.checkpoints.builtin.gmm:chekpoint", "checkpoint"),
        ("gmm:0", "gmm:0"),
        ("gmm:1.5", "gmm:1.5"),
        ("torch:zeros", "torch:zeros"),
        ("collections:OrderedDict", "denoise, shape, schedule, draw"),
    ],
)
def test_an_unknown_checkpoint(ckpt: str, said: str, commands: Any) -> None:
    outcome = commands.distill(ckpt, *QUICK)
    assert "--ckpt" in outcome.message and said in outcome.message
    assert not outcome.out.exists()


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ("--steps 0", "--steps is 0"),
        ("--steps -2", "--steps is -2"),
        ("--order 4", "--order is 4"),
        ("--order 0", "--order is 0"),
        ("--pairs 0", "--pairs is 0"),
        ("--teacher dmp:5", "--teacher dmp:5"),
        ("--seed 99999999999999999999999999", "--seed"),
        ("--analytic-first-step --steps 1", "--analytic-first-step"),
    ],
)
def test_a_value_that_makes_no_sense(more: str, named: str, commands: Any, peaks: Any) -> None:
    outcome = commands.distill(peaks(), *QUICK, *more.split())
    assert named in outcome.message
    assert not outcome.out.exists()


def test_a_refusal_in_a_process_of_its_own(commands: Any, tmp_path: Path) -> None:
    """Status and message as a script sees them."""
    out = tmp_path / "solver.safetensors"
    done = commands.in_another_process("distill", "--ckpt", "digts", "--steps", 2, "--out", out)
    assert done.returncode == 2 and not out.exists()
    assert len(done.stderr.splitlines()) == 1 and "did you mean digits" in done.stderr.lower()


@pytest.mark.parametrize("out", ["solver.pt", "solver", "file/solver.safetensors", "folder.safetensors"])
def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    out: str, commands: Any, peaks: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.safetensors").mkdir()
    model = peaks()
    outcome = commands.distill(model, *QUICK, out=out)
    assert "--out" in outcome.message and out in outcome.message
    assert model.calls == 0


def test_a_report_without_matplotlib_is_refused_before_the_fit(
    commands: Any, peaks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    model = peaks()
    outcome = commands.distill(model, *QUICK, "--report", tmp_path / "report")
    assert "--report" in outcome.message and "pip install matplotlib" in outcome.message and model.calls == 0


@pytest.mark.parametrize("option", ["--cache", "--report"])
def test_another_place_that_cannot_be_written_is_refused_before_any_work(
    option: str, commands: Any, peaks: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    model = peaks()
    outcome = commands.distill(model, *QUICK, option, tmp_path / "file" / "below")
    assert option in outcome.message and "below" in outcome.message
    assert model.calls <= 8 and not outcome.out.exists()


@pytest.mark.parametrize("method", ["gauss-newton", "adam"])
@pytest.mark.parametrize(("call", "pair", "step"), [(0, 2, 0), (3, 2, 3), (4 + 2, 8 + 2, 2)])
def test_a_bad_value_under_the_teacher_names_pair_and_step(
    call: int, pair: int, step: int, method: str, commands: Any, peaks: Any
) -> None:
    """The held-out pairs come first, block after block: of 8 for adam, of 1 for gauss-newton."""
    bad_row, pair = (2, pair) if method == "adam" else (0, pair // 8)
    model = peaks()
    model.fingerprint = "so that the teacher's call is the first"

    def denoise(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        answer, bad = peaks.denoise(model, x, sigma, cond), model.calls == call + 1
        answer[min(bad_row, len(x) - 1), 0] = torch.nan if bad else answer[min(bad_row, len(x) - 1), 0]
        return answer

    model.denoise = denoise
    outcome = commands.distill(model, *QUICK, "--validation-pairs", 16, "--batch", 8, "--method", method)
    assert f"pair {pair}," in outcome.message and f"step {step} " in outcome.message and "teacher" in outcome.message
    assert not outcome.out.exists() and not list(commands.folder.glob("*.resume"))


@pytest.mark.parametrize("method", ["gauss-newton", "adam"])
@pytest.mark.parametrize(("steps", "more", "step"), [(3, (), 1), (3, ("--analytic-first-step",), 1), (3, (), 2)])
def test_a_bad_value_under_the_student_names_pair_and_row(
    steps: int, more: tuple[str, ...], step: int, method: str, commands: Any, peaks: Any
) -> None:
    """The untrained student asks at its schedule's sigmas, where the teacher of 4 steps does not."""
    model = peaks()
    model.fingerprint = "so that the untrained student's call is the first at this sigma"
    asked, pair = float(model.schedule(steps)[step]), 5 if method == "adam" else 0

    def denoise(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        answer = peaks.denoise(model, x, sigma, cond)
        if abs(float(sigma[0]) / asked - 1) < 1e-5:
            answer[min(pair, len(x) - 1), 0] = torch.inf
        return answer

    model.denoise = denoise
    begun = () if method == "adam" else ("--initial", "adams-bashforth")
    outcome = commands.distill(model, *QUICK, *more, *begun, "--batch", 8, "--method", method)
    assert f"pair {pair}, step {step} " in outcome.message and "student" in outcome.message
    assert not outcome.out.exists() and not list(commands.folder.glob("*.resume"))


@pytest.mark.parametrize(
    "answer",
    [lambda x: x[..., :1], lambda x: x[:1] / 2, lambda x: x.mean(), lambda x: (x,), lambda x: None],
    ids=["narrow", "one of the batch", "a number", "a tuple", "nothing"],
)
def test_an_answer_of_the_wrong_shape(answer: Callable[[Tensor], Any], commands: Any, peaks: Any) -> None:
    model = peaks()
    model.denoise = lambda x, sigma, cond: answer(x)
    outcome = commands.distill(model, *QUICK)
    assert "denoise" in outcome.message and "4)" in outcome.message
    assert not outcome.out.exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"schedule": lambda steps: torch.linspace(1, 0, steps)}, "schedule(3)"),
        ({"schedule": lambda steps: torch.linspace(0, 1, steps + 1)}, "schedule(3)"),
        ({"draw": lambda generator, batch: (torch.randn(batch, 5), None)}, "draw(generator, 2)"),
        ({"draw": lambda generator, batch: torch.randn(batch, 4)}, "draw(generator, 2)"),
        ({"shape": 4}, "shape"),
    ],
    ids=["short schedule", "rising schedule", "wide noise", "no condition", "a number as shape"],
)
def test_a_checkpoint_of_the_wrong_form(change: dict[str, Any], named: str, commands: Any, peaks: Any) -> None:
    model = peaks()
    vars(model).update(change)
    outcome = commands.distill(model, *QUICK)
    assert "--ckpt" in outcome.message and named in outcome.message
    assert not outcome.out.exists()


@pytest.mark.parametrize(("short_of", "named"), [(4, "schedule(4)|--teacher"), (5, "schedule(5)|--steps")])
def test_a_schedule_that_fails_at_the_steps_in_use_only(short_of: int, named: str, commands: Any, peaks: Any) -> None:
    """A model of discrete times repeats a sigma where more steps are asked for than it has times."""
    model = peaks()

    def schedule(steps: int) -> Tensor:
        sigmas: Tensor = peaks.schedule(model, steps)
        return torch.cat([sigmas[:1], sigmas[:-1]]) if steps == short_of else sigmas

    model.schedule = schedule
    outcome = commands.distill(model, *QUICK, "--steps", 5)
    assert any(name in outcome.message for name in named.split("|"))
    assert not outcome.out.exists()


def test_a_latent_without_axes_works_or_is_refused(commands: Any, peaks: Any) -> None:
    outcome = commands.distill(peaks(()), *QUICK)
    assert outcome.status == 0 or "shape" in outcome.message


@pytest.mark.parametrize("keep", ["--keep-targets", "--no-keep-targets"])
def test_a_disk_that_is_full(keep: str, commands: Any, peaks: Any, full_disk: Any, tmp_path: Path) -> None:
    with full_disk(100):
        outcome = commands.distill(peaks(), *QUICK, keep)
    assert "safetensors" in outcome.message
    assert ("give another place with --cache, or --no-keep-targets" in outcome.message) == (keep == "--keep-targets")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_interrupt_from_the_keyboard_is_no_traceback(commands: Any, peaks: Any) -> None:
    def interrupt(calls: int, x: torch.Tensor, sigma: torch.Tensor) -> None:
        if calls == 30:
            raise KeyboardInterrupt

    model = peaks()
    model.before_call = interrupt
    outcome = commands.distill(model, *QUICK)
    assert outcome.status == 130 and "Traceback" not in outcome.errors
    assert not outcome.out.exists()
