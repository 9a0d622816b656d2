"""The speed of two single-threaded processes relative to one, on the same fit.

Runs `trainer.distill` alone and under torchrun in turn, each time in new processes that also make the teacher's
endpoints. The seconds of the fit are those of report.json, which begin after all imports; those of the whole command
are given beside them. It needs two idle cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..harness.bench import FLUX, MODELS, ROOT, STANDINS
from ..harness.study import Numbers, Options, Study, Tables, table

LIMIT = 1.6
"""The least speed of two relative to one."""
LAUNCHERS = {"one process": (), "two": ("torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m")}
SETTINGS = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, (ROOT, STANDINS)))}


def seconds_of(launcher: Sequence[str], model: str, steps: int, quick: bool) -> tuple[float, float]:
    """Seconds of the fit, and of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        options = {
            **MODELS.get(model, {"ckpt": model}),
            "steps": steps,
            "out": f"{folder}/solver.safetensors",
            "cache": f"{folder}/cache",
            "report": f"{folder}/report",
            "report-pairs": 8,
            **({"pairs": 16, "iterations": 1} if quick else {}),
        }
        command = [sys.executable, "-m", *launcher, "trainer.distill", *(f"--{k}={v}" for k, v in options.items())]
        began = time.monotonic()
        subprocess.run(command, env={**os.environ, **SETTINGS}, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        whole = time.monotonic() - began
        return json.loads(Path(folder, "report", "report.json").read_text())["seconds"], whole


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--turns", type=int, default=1)


def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """Model -> steps, and by launcher (seconds of the fit, of the whole command) of each turn."""
    steps = options.more.steps
    for model in options.models:
        turns = [
            {name: seconds_of(how, model, steps, options.quick) for name, how in LAUNCHERS.items()}
            for _ in range(options.more.turns)
        ]
        yield model, {"steps": steps, **{name: [turn[name] for turn in turns] for name in LAUNCHERS}}


def tables(numbers: Numbers) -> Tables:
    """Medians over the turns: seconds of the fit, with those of the whole command in brackets."""
    rows = []
    for model, found in numbers.items():
        medians = [[statistics.median(column) for column in zip(*found[name], strict=True)] for name in LAUNCHERS]
        times = (f"{fit:.1f} s ({whole:.1f} s)" for fit, whole in medians)
        rows.append([model, found["steps"], *times, f"{ratio(found, 0):.2f} ({ratio(found, 1):.2f})"])
    header = ["model", "steps", *LAUNCHERS, f"times as fast (at least {LIMIT} wanted)"]
    return {"seconds": table(header, rows)}


def ratio(found: Numbers, of: int) -> float:
    """The speed of two relative to one, median over the turns. of: 0 for the fit, 1 for the whole command."""
    alone, two = (found[name] for name in LAUNCHERS)
    return float(statistics.median(a[of] / b[of] for a, b in zip(alone, two, strict=True)))


STUDY = Study(
    *("two-processes", __doc__, measure, tables),
    models=(FLUX,),
    seeds=0,
    add_options=add_options,
    passes=lambda numbers: all(ratio(found, 0) >= LIMIT for found in numbers.values()),
)
