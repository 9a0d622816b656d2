"""`python -m benchmarks real-size` at a tenth of the width, as it runs at the real one."""

import json
import subprocess
import sys

import pytest

from benchmarks.measurements.real_size import PARTS
from tests.comfy.checkouts import MISSING, ROOT, checkouts, environment, version

RUN = ["flux1-dev bf16, 512, fit", "sdxl fp16, 1024", "flux1-dev fp8_e4m3fn_fast, 512"]


@pytest.mark.slow
@pytest.mark.parametrize("checkout", checkouts()[:1] or [None], ids=lambda path: version(path) if path else "none")
def test_parts_are_measured_and_kept(checkout, tmp_path):
    if checkout is None:
        pytest.skip(MISSING)
    assert set(RUN) < set(PARTS)
    command = [sys.executable, "-m", "benchmarks", "real-size", "--quick", "--comfyui", str(checkout), "--parts", *RUN]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    numbers = json.loads((tmp_path / "real-size.json").read_text())["numbers"]
    assert list(numbers) == RUN
    fit, *sampled = numbers.values()
    assert 60 < fit["calls"] < 200 and fit["peak"] > 0 < fit["sampling"]
    assert f"{fit['seconds'] / fit['calls']:.3f}" in done.stdout
    for found in sampled:
        assert set(found["seconds"]) == set(found["peak"]) == {"euler", "dyweight"}
        assert min(found["seconds"].values()) > 0
    assert [found["size"] for found in numbers.values()] == [64, 128, 64], "--quick takes small pictures"
