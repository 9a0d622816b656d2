"""Sampling and fits on an NVIDIA GPU, in ComfyUI's memory modes, end where they end on the CPU."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.comfy.checkouts import MISSING, ROOT, checkouts, environment, version
from tests.comfy.test_inside import INSIDE, run
from tests.comfy.test_tiny_flux import CONDITIONS, KNOWS_TINY_FLUX, MODEL
from tests.ports import reserved_port

NO_GPU = (
    "NO GPU: neither sampling nor fits are tested on one, nor ComfyUI's low-memory modes, nor two processes on one GPU"
)
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)]


@pytest.mark.parametrize("mode", ["normal", "lowvram", "novram"])
@pytest.mark.parametrize("checkout", checkouts() or [None], ids=lambda path: version(path) if path else "none")
def test_results_are_those_of_the_cpu(checkout, mode, tmp_path):
    """In bf16 and fp8, compiled, and with weights in main memory: `inside/test_devices.py` has the tolerances."""
    run(checkout, tmp_path, "slow or not slow", [INSIDE / "test_devices.py"], "--device", "cuda", "--vram", mode)


def test_two_processes_on_one_gpu_say_so_and_make_the_file_of_one(tmp_path):
    if not KNOWS_TINY_FLUX:
        pytest.skip(MISSING)
    alone, together = (tmp_path / f"{name}.safetensors" for name in ("alone", "together"))
    told = distilled([], alone)
    assert "share" not in told
    with reserved_port() as port:
        launcher = ["torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}", "-m"]
        told = distilled(launcher, together)
    assert told.count("warning: 2 processes share cuda:0") == 1
    ours, theirs = load_file(together), load_file(alone)
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-3


def distilled(launcher, out):
    """What a fit on the first GPU prints, which writes a file."""
    given = {"ckpt": MODEL, "conditioning": CONDITIONS, "width": 64, "steps": 3, "teacher": "euler:12"}
    given |= {"pairs": 8, "validation-pairs": 4, "iterations": 2, "comfyui": KNOWS_TINY_FLUX[0], "out": out}
    given["cache"] = out.with_suffix(".cache")
    options = [f"--{name}={value}" for name, value in given.items()]
    seen = {**environment(), "PYTHONPATH": os.pathsep.join([str(ROOT), environment()["PYTHONPATH"]])}
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "trainer.distill", *options],
        cwd=ROOT,
        env={**seen, "CUDA_VISIBLE_DEVICES": "0"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout
