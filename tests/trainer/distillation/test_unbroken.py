"""Fits that go on where they were broken off, as the node runs them; `tests/comfy/inside/test_fit.py` cancels them."""

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dyweight import baselines
from trainer.checkpoints.load import load_checkpoint
from trainer.distillation import unbroken
from trainer.distillation.fitting import Fitting
from trainer.distillation.progress import FitProgress
from trainer.distillation.unbroken import UnbrokenFit
from trainer.options.distill import DistillOptions

OPTIONS = DistillOptions(ckpt="gmm:4", steps=(3,), out=Path("solver.safetensors"), effort="draft")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def cancel() -> None:
    raise KeyboardInterrupt


def fit_until(cache: Path, last: float = math.inf, end: Callable[[], None] = die) -> tuple[dict[str, Tensor], int]:
    """The numbers found, and how many network calls were made; broken off in the first one after so many lines."""
    made = lines = 0

    def on_calls(calls: int) -> None:
        nonlocal made
        made += calls
        if lines >= last:
            end()

    def tell(progress: FitProgress) -> None:
        nonlocal lines
        lines += 1

    fit = UnbrokenFit(load_checkpoint(OPTIONS.ckpt, OPTIONS, cache), OPTIONS, cache, (), on_calls)
    solver: Any = fit.run(tell).file.solver
    return solver.tensors(), made


def expected(cache: Path) -> int:
    """Network calls that are told before it runs."""
    fit = UnbrokenFit(load_checkpoint(OPTIONS.ckpt, OPTIONS, cache), OPTIONS, cache, (), id)
    return fit.expected_calls(0)


def test_what_was_left_is_known_until_another_file_takes_its_place(tmp_path):
    fit = UnbrokenFit(load_checkpoint(OPTIONS.ckpt, OPTIONS, tmp_path), OPTIONS, tmp_path, (), id)
    file = tmp_path / "mine-unfinished.safetensors"
    assert fit.left is None
    file.write_bytes(b"of this fit")
    fit.left = file
    assert fit.left == file
    file.write_bytes(b"of another")
    assert fit.left is None
    file.unlink()
    assert fit.left is None


@pytest.mark.parametrize(
    ("rival", "best"), [("euler:3", True), ("ipndm:30", False), ("ipndm:30, but for a pair", True)]
)
def test_it_is_the_best_where_no_other_is_better_pair_by_pair(
    rival: str, best: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the mean alone one pair that blew up would throw a fit away."""
    fit = UnbrokenFit(load_checkpoint(OPTIONS.ckpt, OPTIONS, tmp_path), OPTIONS, tmp_path, (), id)
    checkpoint, (name, steps) = fit.network.checkpoint, rival.partition(",")[0].split(":")
    plan = baselines.plan(name, checkpoint.schedule(int(steps)))
    checkpoint.rivals = lambda calls, names, count: {rival: plan}
    if "but" in rival:
        measured = Fitting.errors

        def errors(fitting: Fitting, sampler: Any) -> Tensor:
            found = measured(fitting, sampler)
            if sampler is plan:
                own = measured(fitting, fitting.solver)
                found = torch.where(own == own.max(), 0, 1.01 * own)
                assert found.mean() < own.mean()
            return found

        monkeypatch.setattr(Fitting, "errors", errors)
    result = fit.run(str)
    assert result.better == ([3] if best else [])
    assert list(result.errors[3]) == sorted(result.errors[3], key=result.errors[3].__getitem__)


def test_what_nobody_went_on_with_is_thrown_away(tmp_path):
    old, recent = (tmp_path / "unfinished" / name for name in ("old", "recent"))
    for one, days in ((old, unbroken.KEPT_DAYS + 1), (recent, unbroken.KEPT_DAYS - 1)):
        one.mkdir(parents=True)
        (one / "fit.resume").write_bytes(b"")
        then = time.time() - days * 86_400
        os.utime(one, (then, then))
    UnbrokenFit(load_checkpoint(OPTIONS.ckpt, OPTIONS, tmp_path), OPTIONS, tmp_path, (), id)
    assert recent.is_dir() and not old.exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system with fork")
def test_broken_off_and_run_again_it_finds_the_same_numbers(tmp_path, monkeypatch):
    """Killed with a state after every line and with one after the first only, and cancelled, which keeps the last."""
    whole, calls = fit_until(tmp_path / "whole")
    rests = dict[str, int]()
    for name, every, end in (("every", 0.0, die), ("first", 1e9, die), ("last", 1e9, cancel)):
        monkeypatch.setattr(unbroken, "KEPT_EVERY", every)
        if (child := os.fork()) == 0:
            with contextlib.suppress(KeyboardInterrupt):
                fit_until(tmp_path / name, 3, end)
            os._exit(0)
        os.waitpid(child, 0)
        left = expected(tmp_path / name)
        again, rests[name] = fit_until(tmp_path / name)
        assert rests[name] <= left < expected(tmp_path / "another")
        assert again.keys() == whole.keys() and all(torch.equal(again[one], whole[one]) for one in whole)
    assert rests["every"] == rests["last"] < rests["first"] < calls
