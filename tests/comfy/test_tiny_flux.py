"""The command lines on the small trained FLUX: a checkpoint that ComfyUI loads, from its file to the comparison."""

import json
import subprocess
import sys

import pytest

import dyweight
from tests.comfy.checkouts import MISSING, ROOT, checkouts, environment, version

MODEL = ROOT / "tools" / "models" / "tiny-flux.safetensors"
CONDITIONS = MODEL.with_name("tiny-flux-conditions.safetensors")
KNOWS_TINY_FLUX = [path for path in checkouts() if tuple(map(int, version(path).split(".")[:2])) >= (0, 9)]


@pytest.fixture(scope="module", params=KNOWS_TINY_FLUX or [None], ids=lambda path: version(path) if path else "none")
def checkout(request):
    if request.param is None:
        pytest.skip(MISSING)
    return request.param


def trainer(checkout, command, *options):
    model = ["--ckpt", str(MODEL), "--conditioning", str(CONDITIONS), "--width", "64", "--comfyui", str(checkout)]
    full = [sys.executable, "-m", f"trainer.{command}", *model, *map(str, options)]
    return subprocess.run(full, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def distilled(checkout, tmp_path_factory):
    """(coefficient file, what the distillation printed) at 3 steps."""
    folder = tmp_path_factory.mktemp("distilled")
    out = folder / "tiny-3.safetensors"
    pairs = ["--pairs", 32, "--validation-pairs", 16, "--teacher", "ipndm:20", "--cache", folder / "cache"]
    done = trainer(checkout, "distill", "--steps", 3, "--out", out, *pairs)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return out, done.stdout


def test_the_time_is_told_before_it_starts(distilled):
    first_line = distilled[1].splitlines()[0]
    assert "network calls, about " in first_line


def test_the_file_says_for_what_it_was_made(distilled):
    made_for = dyweight.SolverFile.read(distilled[0]).provenance
    expected = {"model_family": "Flux", "prediction_type": "flow", "guidance": 3.5, "cfg": 1.0, "shift": 1.15}
    expected |= {"shape": [16, 8, 8], "width": 64, "height": 64, "dtype": "default", "lora": []}
    assert {name: made_for[name] for name in expected} == expected


def test_three_steps_end_at_most_half_as_far_as_the_best_of_comfyuis_samplers(checkout, distilled, tmp_path):
    samples = ["--samples", 64, "--batch", 32, "--teacher", "ipndm:50", "--max-calls", 4, "--cache", tmp_path / "cache"]
    done = trainer(checkout, "evaluate", "--solver", distilled[0], "--out", tmp_path / "out", *samples)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    errors = report["endpoint_error"]
    assert len(report["prompts"]) == 10 and all(text.endswith((", dark", ", bright")) for text in report["prompts"])
    rivals = {name: error for name, error in errors.items() if name != "dyweight"}
    assert {name.split("/")[0] for name in rivals} >= {"euler", "dpmpp_2m", "uni_pc", "res_multistep"}
    assert errors["dyweight"] <= 0.5 * min(error for error in rivals.values() if error is not None)
    assert (tmp_path / "out" / "samples.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_rival_that_comfyui_does_not_have_is_named(checkout, distilled, tmp_path):
    done = trainer(
        checkout, "evaluate", "--solver", distilled[0], "--out", tmp_path, "--baselines", "euler/simpel", "--batch", 8
    )
    assert done.returncode == 2
    assert "--baselines euler/simpel: did you mean simple" in done.stderr
