"""Fit Solver in a ComfyUI server: through its API, cancelled, headless, and with what can't be fitted."""

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from dyweight import SolverFile
from tests.comfy.checkouts import ROOT, environment
from tests.comfy.graphs import saved
from tests.comfy.server import Graph, Server

SETTINGS = {"steps": "3", "scheduler": "simple", "effort": "draft", "seed": 0, "cfg": 1.0}


def of_tiny_model(server: Server, **changed: Any) -> tuple[Graph, str]:
    """(a fit of the trained tiny FLUX, or of the tiny SD3 where it is not known, and a picture with its solver; the id
    of the fit)"""
    graph = Graph()
    if "flux" in server.families:
        source, _ = graph.add("TestTrainedFlux")
        model, positive, one, latent = (source, 0), (source, 1), (source, 4), (source, 3)
    else:
        model = graph.add("UNETLoader", unet_name="tiny-sd3.safetensors", weight_dtype="default")
        inputs, _ = graph.add("TestInputs", family="sd3")
        positive, one, latent = (inputs, 0), (inputs, 0), (inputs, 2)
    links = {"model": model, "positive": positive, "latent_image": latent}
    fit, _ = graph.add("DyWeightFit", **{**SETTINGS, **links, **changed})
    sampled = {"model": model, "positive": one, "negative": one, "latent_image": latent, "solver": (fit, 0)}
    settings = {"solver_name": "preset: sd15", "steps": 0, "seed": 7, "cfg": 1.0, "denoise": 1.0}
    return saved(graph, graph.add("DyWeightKSampler", **settings, **sampled)), fit


def written(server: Server, name: str) -> list[Path]:
    return sorted((server.base / "models" / "dyweight").glob(f"{name}*.safetensors"))


def test_a_fit_is_watched_saved_sampled_with_and_not_repeated(server: Server) -> None:
    graph, fit = of_tiny_model(server, name="watched")
    run = server.run(graph)
    assert run.end == "execution_success", run.error
    told = run.progress[fit]
    assert told[0][0] < told[-1][0] == told[-1][1] and run.previews > 2
    (text,) = run.outputs[fit]["text"]
    errors = {name: float(error) for error, name in re.findall(r"^(\d\.\d+)  3 steps  (\S+)$", text, re.MULTILINE)}
    assert {"dyweight", "euler/simple", "res_multistep/simple", "dpmpp_2m/simple"} <= set(errors)
    assert len(server.files(run, "images")) >= 1
    files = written(server, "watched")
    if min(errors, key=errors.__getitem__) != "dyweight":
        assert "flux" not in server.families, "random weights may be as well off with a handcrafted solver"
        assert files == [] and "Nothing was saved" in text
        return
    (path,) = files
    made = SolverFile.read(path)
    assert made.provenance["endpoint_error_after"] == pytest.approx(errors["dyweight"], abs=1e-5)
    listed = json.dumps(server.json("/object_info/DyWeightLoadSolver")["DyWeightLoadSolver"]["input"])
    assert path.name in listed and path.with_suffix(".png").is_file()
    server.forget()
    again = server.run(of_tiny_model(server, name="another-name")[0])
    assert again.end == "execution_success" and "nothing was fitted" in again.outputs[fit]["text"][0]
    assert written(server, "another-name") == []


def test_a_cancelled_fit_goes_on_where_it_was(server: Server) -> None:
    """With fewer calls than a fit from the beginning; that it ends with the same file, the tests inside show."""
    cancelled = []

    def cancel(calls: int) -> None:
        if calls > 700 and not cancelled:
            cancelled.append(calls)
            request = urllib.request.Request(f"{server.url}/interrupt", b"{}", {"Content-Type": "application/json"})
            urllib.request.urlopen(request, timeout=30).read()

    graph, fit = of_tiny_model(server, name="cancelled", seed=1)
    run = server.run(graph, cancel)
    assert run.end == "execution_interrupted"
    assert run.progress[fit][-1][0] < run.progress[fit][-1][1]
    resumed = server.run(graph)
    assert resumed.end == "execution_success", resumed.error
    assert resumed.progress[fit][-1][1] < 0.9 * run.progress[fit][0][1]


@pytest.mark.slow
def test_headless_it_takes_the_place_of_the_sampler(server: Server, tmp_path: Path) -> None:
    server.needs("flux")
    graph = Graph()
    source, _ = graph.add("TestTrainedFlux")
    links = {"model": (source, 0), "positive": (source, 1), "negative": (source, 1), "latent_image": (source, 3)}
    settings = {"seed": 1, "steps": 20, "cfg": 1.0, "sampler_name": "euler", "scheduler": "beta", "denoise": 1.0}
    saved(graph, graph.add("KSampler", **settings, **links))
    (tmp_path / "flux_api.json").write_text(json.dumps(graph))
    command = [sys.executable, "-m", "trainer.distill", "--workflow", str(tmp_path / "flux_api.json")]
    command += ["--server", server.url, "--steps", "3", "--effort", "draft", "--name", "headless"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "headless is saved in models/dyweight" in done.stdout and "network calls" in done.stdout
    (path,) = written(server, "headless")
    assert SolverFile.read(path).solver.settings()["schedule"]["scheduler"] == "beta"


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no prompts": ({"positive": None}, "Connect what is missing"),
    "steps that are no number": ({"steps": "many"}, "Set steps of Fit Solver"),
    "no steps": ({"steps": "0"}, "Set steps of Fit Solver"),
    "65 steps": ({"steps": "65"}, "Set steps of Fit Solver"),
    "guidance without a negative": ({"cfg": 4.0}, "Connect negative"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_can_not_be_fitted_is_named_and_the_server_lives(server: Server, what: str) -> None:
    changed, sentence = BAD[what]
    graph, fit = of_tiny_model(server, name="bad")
    inputs = graph[fit]["inputs"]
    inputs.update(changed)
    graph[fit]["inputs"] = {name: value for name, value in inputs.items() if value is not None}
    run = server.run(graph)
    assert run.end == "execution_error" and sentence in run.error, run
    assert server.json("/system_stats") and written(server, "bad") == []
