"""The command line on checkpoints of other families than FLUX: found by name, distilled, and what the file says."""

import subprocess
import sys
from pathlib import Path

import pytest

import dyweight
from tests.comfy.checkouts import MISSING, ROOT, checkouts, environment, version

CHECKOUT = max(checkouts(), key=lambda path: [int(part) for part in version(path).split(".")], default=None)
MAKE_FILES = """
import sys
sys.path[:0] = sys.argv[1:3]
from comfy.cli_args import args
args.cpu = True
import tiny_models
import torch
from safetensors.torch import save_file
for family in sys.argv[4:]:
    save_file(tiny_models.state_dict(family), f"{sys.argv[3]}/tiny-{family}.safetensors")
    tensors = {}
    for prefix, seeds in (("", (1, 3)), ("negative_", (2,))):
        rows = [tiny_models.conditioning(family, seed)[0] for seed in seeds]
        tensors[f"{prefix}cross_attn"] = torch.cat([cross for cross, _ in rows])
        if "pooled_output" in rows[0][1]:
            tensors[f"{prefix}pooled"] = torch.cat([extra["pooled_output"] for _, extra in rows])
    save_file(tensors, f"{sys.argv[3]}/{family}-conditions.safetensors")
"""
FEW = ["--steps", 2, "--pairs", 4, "--validation-pairs", 2, "--batch", 4, "--iterations", 4, "--teacher", "euler:6"]
FAMILIES = {
    "sd3": (["--cfg", 3], {"model_family": "SD3", "prediction_type": "flow", "shift": 3.0, "shape": [16, 4, 4]}),
    "sd15": (["--cfg", 2], {"model_family": "SD15", "prediction_type": "eps", "shift": None, "shape": [4, 4, 4]}),
    "wan": (
        ["--cfg", 1, "--frames", 5],
        {"model_family": "WAN21_T2V", "prediction_type": "flow", "shift": 8.0, "shape": [16, 2, 4, 4]},
    ),
}


def run(*command):
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory):
    """A ComfyUI of its own extra_model_paths.yaml, whose folder diffusion_models has the tiny models."""
    if CHECKOUT is None:
        pytest.skip(MISSING)
    folder, models = tmp_path_factory.mktemp("comfyui"), tmp_path_factory.mktemp("models")
    for path in CHECKOUT.iterdir():
        if path.name != "extra_model_paths.yaml":
            (folder / path.name).symlink_to(path)
    run(sys.executable, "-c", MAKE_FILES, CHECKOUT, Path(__file__).parent / "inside", models, *FAMILIES)
    (folder / "extra_model_paths.yaml").write_text(f"elsewhere:\n    diffusion_models: {models}\n")
    return folder, models


@pytest.mark.parametrize("family", ["sd3", *(pytest.param(other, marks=pytest.mark.slow) for other in ("sd15", "wan"))])
def test_a_solver_is_distilled_for_a_model_by_name(comfyui, family, tmp_path):
    folder, models = comfyui
    options, expected = FAMILIES[family]
    place = ["--comfyui", folder, "--conditioning", models / f"{family}-conditions.safetensors", "--width", 32]
    out = tmp_path / "solver.safetensors"
    ends = ["--initial", "euler", "--cache", tmp_path / "cache", "--out", out]
    printed = run(sys.executable, "-m", "trainer.distill", "--ckpt", f"tiny-{family}", *place, *FEW, *options, *ends)
    assert f"tiny-{family}: 2 steps, 2 network calls a sample" in printed
    made_for = dyweight.SolverFile.read(out).provenance
    expected = expected | {"model": f"tiny-{family}", "cfg": options[1], "width": 32, "height": 32, "prompts": 2}
    assert {name: made_for[name] for name in expected} == expected
    assert made_for["endpoint_error_after"] < made_for["endpoint_error_before"]
