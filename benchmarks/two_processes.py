"""Two single-threaded processes against one on the same fit: how many times as fast they are.

`python -m benchmarks.two_processes [--model tiny-flux] [--steps 5]` runs `trainer.distill` alone and under torchrun by
turns, each time in fresh processes that make the teacher's endpoints too. The fit's seconds are those of report.json,
from when Python has imported everything; the seconds of the whole command stand beside them. It needs two idle cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .studies.common import MODELS, ROOT

LIMIT = 1.6
TORCHRUN = ["torch.distributed.run", "--nproc-per-node=2", "--standalone"]
SETTINGS = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests/comfy/standins")))}


def seconds_of(launcher: list[str], given: argparse.Namespace) -> tuple[float, float]:
    """Of the fit and of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        options = {
            **MODELS.get(given.model, {"ckpt": given.model}),
            "steps": given.steps,
            "out": f"{folder}/solver.safetensors",
            "cache": f"{folder}/cache",
            "report": f"{folder}/report",
            "report-pairs": 8,
        }
        command = [sys.executable, "-m", *launcher, "trainer.distill", *(f"--{k}={v}" for k, v in options.items())]
        began = time.monotonic()
        subprocess.run(command, env={**os.environ, **SETTINGS}, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        whole = time.monotonic() - began
        return json.loads(Path(folder, "report", "report.json").read_text())["seconds"], whole


def main() -> int:
    """Print both times of each turn and the ratios; exit status 1 where the fit's is below the limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.two_processes", description=__doc__)
    parser.add_argument("--model", default="tiny-flux", help=f"{', '.join(MODELS)}, or what --ckpt takes")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--turns", type=int, default=1)
    given = parser.parse_args()
    print(f"{given.model}, {given.steps} steps; seconds of the fit (of the whole command)")
    ratios = []
    for _ in range(given.turns):
        (alone, whole_alone), (two, whole_two) = seconds_of([], given), seconds_of([*TORCHRUN, "-m"], given)
        print(f"one process {alone:.1f} ({whole_alone:.1f}), two {two:.1f} ({whole_two:.1f}): ", end="")
        print(f"{alone / two:.2f} times as fast ({whole_alone / whole_two:.2f})", flush=True)
        ratios.append(alone / two)
    ratio = statistics.median(ratios)
    print(f"two processes are {ratio:.2f} times as fast as one (at least {LIMIT} wanted)")
    return int(ratio < LIMIT)


if __name__ == "__main__":
    sys.exit(main())
