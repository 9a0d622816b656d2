"""Processes killed with SIGKILL at random moments, also while writing a file: resumed, they end with the same file.

Moments are counted in calls, so that they are the same on every machine.
"""

import builtins
import itertools
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from trainer import distill

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system with fork")

ADAM = ("--pairs", 64, "--validation-pairs", 16, "--batch", 8, "--teacher", "ipndm:10", "--iterations", 24)
RUNS = {
    "gauss-newton": ("--steps", 3, "--pairs", 32, "--batch", 8, "--teacher", "ipndm:10", "--iterations", 4),
    "adam": ("--method", "adam", "--steps", 3, *ADAM),
}
KILLS = ("network call", "write", "network call", "call", "write")
"""For each of two chains and two methods: 20 kills in all."""
CALLS = 200_000
"""Half of what the shorter run makes after the third of KILLS."""
Prepare = Callable[[Any], None]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_network_call(number: int) -> Prepare:
    """In a network call: the teacher's, the Jacobian's or another."""

    def prepare(model: Any) -> None:
        model.before_call = lambda calls, x, sigma: die() if calls == number else None

    return prepare


def at_call(number: int) -> Prepare:
    """When so many functions have been called, of any kind."""

    def prepare(model: Any) -> None:
        calls = itertools.count()
        sys.setprofile(lambda frame, event, argument: die() if next(calls) == number else None)

    return prepare


def at_write(number: int, share: float) -> Prepare:
    """When so much of a file is written: of a target, a state or the coefficient file."""
    real, written = builtins.open, 0

    def opened(path: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
        nonlocal written
        file = real(path, mode, *more, **named)
        if "b" in mode and set(mode) & set("wxa"):
            written += 1
            if written == number:
                write = file.write

                class Dying:
                    def __enter__(self) -> "Dying":
                        return self

                    def __exit__(self, *raised: object) -> None: ...

                    def write(self, content: bytes) -> None:
                        write(content[: int(share * len(content))])
                        file.flush()
                        die()

                return Dying()
        return file

    def prepare(model: Any) -> None:
        vars(builtins)["open"] = opened

    return prepare


class Runs:
    """Distillations in forked processes of one checkpoint and folder."""

    def __init__(self, model: type, arguments: list[str], log: Path) -> None:
        self._model, self._arguments, self._log = model, arguments, log

    def run(self, out: Path, cache: Path, prepare: Prepare = lambda model: None) -> int:
        """The exit status, negative for a signal."""
        child = os.fork()
        if not child:
            self._child(out, cache, prepare)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def _child(self, out: Path, cache: Path, prepare: Prepare) -> None:
        status = 1
        try:
            log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            model = self._model()
            module = ModuleType("a_killed_module")
            vars(module)["make"] = lambda: model
            sys.modules[module.__name__] = module
            prepare(model)
            status = distill.main([*self._arguments, "--resume", "--out", str(out), "--cache", str(cache)])
        except Exception:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", RUNS)
def test_a_run_killed_at_random_moments_ends_with_the_same_file(
    method: str, seed: int, peaks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    draws = random.Random(f"{method} {seed}")
    arguments = ["--ckpt", "a_killed_module:make", *map(str, RUNS[method])]
    runs = Runs(peaks, arguments, tmp_path / "log")
    whole = tmp_path / "whole" / "solver.safetensors"
    assert runs.run(whole, tmp_path / "cache-of-the-whole-run") == 0, (tmp_path / "log").read_text()

    out, cache, killed = tmp_path / "out" / "solver.safetensors", tmp_path / "cache", 0
    for kind in KILLS:
        if kind == "network call":
            status = runs.run(out, cache, at_network_call(draws.randrange(60)))
        elif kind == "write":
            status = runs.run(out, cache, at_write(draws.randrange(1, 4), draws.random()))
        else:
            status = runs.run(out, cache, at_call(draws.randrange(CALLS)))
        killed += status == -signal.SIGKILL
        assert status in (0, -signal.SIGKILL), (tmp_path / "log").read_text()
        assert not out.exists() or out.read_bytes() == whole.read_bytes()
    assert killed == len(KILLS)
    assert runs.run(out, cache) == 0, (tmp_path / "log").read_text()
    assert out.read_bytes() == whole.read_bytes()
    assert not out.with_name(out.name + ".resume").exists()
