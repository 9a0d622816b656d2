"""Fit Solver in a ComfyUI server: through its API, cancelled, headless, and with what can't be fitted."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from dyweight import SolverFile
from tests.comfy.checkouts import ROOT, environment
from tests.comfy.graphs import saved
from tests.comfy.server import Graph, Server
from tests.comfy.test_workflows import COMFY
from trainer.distill import fit_workflow
from trainer.options.workflow import WorkflowOptions

SETTINGS = {"steps": "3", "scheduler": "simple", "effort": "draft", "seed": 0, "cfg": 1.0}
TRAINED = ROOT / "tools" / "models" / "tiny-flux.safetensors"


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


def needed(graph: Graph, node: str) -> set[str]:
    """The node and all on which it depends."""
    links = [value[0] for value in graph[node]["inputs"].values() if isinstance(value, tuple)]
    return {node}.union(*(needed(graph, link) for link in links))


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
            server.post("/interrupt", {})

    graph, fit = of_tiny_model(server, name="cancelled", seed=1)
    run = server.run(graph, cancel)
    assert run.end == "execution_interrupted"
    assert run.progress[fit][-1][0] < run.progress[fit][-1][1]
    resumed = server.run(graph)
    assert resumed.end == "execution_success", resumed.error
    assert resumed.progress[fit][-1][1] < 0.9 * run.progress[fit][0][1]


@pytest.mark.slow
def test_fits_that_are_queued_run_one_after_the_other(server: Server) -> None:
    """Among them one step, and cfg 0, where the negative prompt alone counts."""
    graphs = []
    for name, changed in {"one-step": {"steps": "1"}, "no-cfg": {"cfg": 0.0}}.items():
        graph, fit = of_tiny_model(server, name=name, **changed)
        inputs = graph[fit]["inputs"]
        inputs["negative"] = inputs["positive"]
        graphs.append(graph)
    with ThreadPoolExecutor() as queue:
        runs = list(queue.map(server.run, graphs))
    assert [run.end for run in runs] == ["execution_success"] * 2, [run.error for run in runs]
    assert not any("nothing was fitted" in str(run.outputs) for run in runs)


@pytest.mark.slow
def test_a_model_that_is_another_than_before_is_noticed(server: Server) -> None:
    """The file of the model has the same name, and all settings are the same."""
    family = "flux" if "flux" in server.families else "sd3"
    models = server.base / "models" / "diffusion_models"
    weights = load_file(TRAINED if family == "flux" else models / f"tiny-{family}.safetensors")
    graph, fit = of_tiny_model(server, name="swapped", steps="1")
    mine, _ = graph.add("UNETLoader", unet_name="mine.safetensors", weight_dtype="default")
    graph[fit]["inputs"]["model"] = (mine, 0)
    graph = Graph({node: graph[node] for node in needed(graph, fit)})

    def fitted(last_layer: float) -> str:
        last = {name: last_layer * value for name, value in weights.items() if name.startswith("final_layer.linear.")}
        assert last
        save_file({**weights, **last}, models / "mine.safetensors")
        server.forget()
        run = server.run(graph)
        assert run.end == "execution_success", run.error
        return str(run.outputs[fit]["text"])

    assert "nothing was fitted" not in fitted(1.0)
    assert "nothing was fitted" not in fitted(1.05)
    if family == "flux":
        assert [path.name for path in written(server, "swapped")] == ["swapped-2.safetensors", "swapped.safetensors"]
        assert "swapped is for this model" in fitted(1.0)


def test_64_steps_are_many_calls_and_can_be_cancelled(server: Server) -> None:
    def cancel(calls: int) -> None:
        if calls > 50:
            server.post("/interrupt", {})

    graph, fit = of_tiny_model(server, name="many", steps="64")
    run = server.run(graph, cancel)
    assert run.end == "execution_interrupted" and run.progress[fit][0][1] > 20_000
    assert server.json("/system_stats") and written(server, "many") == []


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
    stops = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # a shell's & leaves it ignored
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True, **stops) as stopped:
        assert stopped.stdout is not None and any("network calls" in line for line in stopped.stdout)
        stopped.send_signal(signal.SIGINT)
        assert stopped.wait(60) == 130
    end = time.monotonic() + 60
    while server.json("/queue")["queue_running"] and time.monotonic() < end:
        time.sleep(0.1)
    assert server.json("/queue") == {"queue_running": [], "queue_pending": []}, "it goes on without its command"
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("headless is saved in models/dyweight") == 1 and "network calls" in done.stdout
    (path,) = written(server, "headless")
    assert SolverFile.read(path).solver.settings()["schedule"]["scheduler"] == "beta"


@pytest.mark.slow
def test_headless_two_models_that_hand_over_are_fitted_as_one(server: Server, tmp_path: Path) -> None:
    """The workflow of Wan 2.2, small, sampled with the file too."""
    models = server.base / "models" / "diffusion_models"
    high = load_file(models / "tiny-wan.safetensors")
    low = {name: (0.8 if name.startswith("head.head.") else 1.0) * value for name, value in high.items()}
    save_file(low, models / "tiny-wan-low.safetensors")
    graph = Graph()
    inputs, _ = graph.add("TestInputs", family="wan")
    loaded = [
        graph.add("UNETLoader", unet_name=name, weight_dtype="default")
        for name in ("tiny-wan.safetensors", "tiny-wan-low.safetensors")
    ]
    common = {"positive": (inputs, 0), "negative": (inputs, 1), "noise_seed": 1, "steps": 4, "cfg": 1.0}
    common |= {"sampler_name": "euler", "scheduler": "beta"}
    first = {"start_at_step": 0, "end_at_step": 2, "add_noise": "enable", "return_with_leftover_noise": "enable"}
    half = graph.add("KSamplerAdvanced", model=loaded[0], latent_image=(inputs, 2), **common, **first)
    second = {"start_at_step": 2, "end_at_step": 9, "add_noise": "disable", "return_with_leftover_noise": "disable"}
    end = graph.add("KSamplerAdvanced", model=loaded[1], latent_image=half, **common, **second)
    graph.add("SaveLatent", samples=end, filename_prefix="two")
    (tmp_path / "wan_api.json").write_text(json.dumps(graph))
    command = [
        sys.executable,
        "-m",
        "trainer.distill",
        "--workflow",
        str(tmp_path / "wan_api.json"),
        "--name",
        "both-halves",
    ]
    command += ["--server", server.url, "--steps", "3", "--effort", "draft"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = written(server, "both-halves")
    file = SolverFile.read(path)
    assert file.provenance["model_low"] == "tiny-wan-low.safetensors" and file.solver.handover == 2


@pytest.mark.slow
def test_the_fit_workflow_runs_by_comfy_cli(server: Server, tmp_path: Path) -> None:
    """The example, small, as the page saves it."""
    if COMFY is None:
        pytest.skip("NO COMFY-CLI: the fit is NOT run by it. Install comfy-cli")
    if "flux" not in server.families:
        pytest.skip("this ComfyUI detects FLUX at its full width only")
    workflow = json.loads((ROOT / "example_workflows" / "8 Fit a solver for your model.json").read_text("utf-8"))
    values = {node["type"]: node.get("widgets_values") for node in workflow["nodes"]}
    values["EmptySD3LatentImage"][:2] = [64, 64]
    values["DyWeightFit"][0] = "1"
    (tmp_path / "workflow.json").write_text(json.dumps(workflow))
    command = [COMFY, "--skip-prompt", "--json", "run", "--workflow", "workflow.json", "--wait"]
    command += ["--host", "127.0.0.1", "--port", str(server.port)]
    own = {**os.environ, "HOME": str(tmp_path), "DO_NOT_TRACK": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"status": "completed"' in done.stdout and ".png" in done.stdout
    assert len(written(server, "flux1-dev-fp8-1")) == 1


@pytest.mark.slow
def test_a_server_is_started_where_none_runs(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a ComfyUI that has not installed the pack: the same code and none of its files."""
    if "flux" not in server.families:
        pytest.skip("this ComfyUI detects FLUX at its full width only")
    comfyui = tmp_path / "ComfyUI"
    for folder in ("models", "input", "output", "custom_nodes"):
        (comfyui / folder).mkdir(parents=True)
    for one in server.checkout.iterdir():
        if not one.name.startswith(".") and not (comfyui / one.name).exists():
            (comfyui / one.name).symlink_to(one) if one.is_dir() else shutil.copy(one, comfyui)
    (comfyui / "custom_nodes" / "testing_nodes").symlink_to(Path(__file__).parent / "testing_nodes")
    graph = Graph()
    source, _ = graph.add("TestTrainedFlux")
    links = {"model": (source, 0), "positive": (source, 1), "latent_image": (source, 3)}
    graph.add("DyWeightFit", **{**SETTINGS, **links, "steps": "1", "name": "own-server"})
    (tmp_path / "fit_api.json").write_text(json.dumps(graph))
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("trainer.workflow.server.DEFAULT", "http://127.0.0.1:9")
    fit_workflow(WorkflowOptions(workflow=tmp_path / "fit_api.json", comfyui=comfyui))
    assert (comfyui / "models" / "dyweight" / "own-server.safetensors").is_file()


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
