"""The workflows in example_workflows/: what they must hold by themselves, and what comfy-cli says of them."""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from dyweight import SolverFile
from tests.comfy.checkouts import ROOT
from tests.comfy.server import Server

FOLDER = ROOT / "example_workflows"
NAMES = [
    "1 FLUX.1-dev in 5 steps",
    "2 FLUX.1-dev, one file",
    "3 SD 1.5 in 8 steps",
    "4 SD 1.5 image to image",
    "5 FLUX.1-dev, KSampler",
    "6 FLUX.1-dev, custom sampler",
    "7 FLUX.1-dev beside euler",
    "8 Fit a solver for your model",
]
FILES = {
    ("CheckpointLoaderSimple", "ckpt_name"): ["v1-5-pruned-emaonly-fp16.safetensors", "flux1-dev-fp8.safetensors"],
    ("UNETLoader", "unet_name"): ["flux1-dev.safetensors"],
    ("DualCLIPLoader", "clip_name1"): ["clip_l.safetensors", "t5xxl_fp16.safetensors"],
    ("DualCLIPLoader", "clip_name2"): ["clip_l.safetensors", "t5xxl_fp16.safetensors"],
    ("VAELoader", "vae_name"): ["ae.safetensors"],
    ("LoadImage", "image"): ["example.png"],
}
"""Lists of files that someone has who followed the notes; example.png comes with ComfyUI."""
NOT_AN_INPUT = {"noise_seed": 1, "seed": 1, "image": 1}
"""Widgets without an input of their own that follow these: control after generate, the upload button."""
OPTIONAL = 7
"""LiteGraph's shape of a socket that may stay free."""
TITLE_HEIGHT = 30
COMFY = shutil.which("comfy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")

Workflow = dict[str, Any]
Node = dict[str, Any]

every_workflow = pytest.mark.parametrize("name", NAMES)


def read(name: str) -> Workflow:
    content: Workflow = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return content


def of_type(workflow: Workflow, *types: str) -> list[Node]:
    return [node for node in workflow["nodes"] if node["type"] in types]


def notes(workflow: Workflow) -> str:
    return "\n".join(node["widgets_values"][0] for node in of_type(workflow, "MarkdownNote", "Note"))


def widgets(node: Node) -> dict[str, Any]:
    """Value of each widget by its input's name."""
    named: dict[str, Any] = {}
    values = iter(node.get("widgets_values", []))
    for entry in node["inputs"]:
        if "widget" in entry and entry["name"] != "upload":
            named[entry["name"]] = next(values)
            for _ in range(0 if node["type"] == "DyWeightFit" else NOT_AN_INPUT.get(entry["name"], 0)):
                next(values)
    assert list(values) == [], f"{node['type']} has more values than widgets"
    return named


def solver_file(workflow: Workflow) -> SolverFile:
    (loader,) = of_type(workflow, "DyWeightLoadSolver", "DyWeightKSampler")
    name = widgets(loader)["solver_name"]
    assert name.startswith("preset: ")
    return SolverFile.read(ROOT / "dyweight" / "presets" / f"{name.removeprefix('preset: ')}.safetensors")


def test_the_workflows_are_there_and_their_titles_fit_the_template_browser() -> None:
    assert all(len(name) <= 30 for name in NAMES)
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == NAMES


@every_workflow
def test_a_picture_of_the_same_name_lies_beside_it(name: str) -> None:
    image = pytest.importorskip("PIL.Image")
    path = FOLDER / f"{name}.jpg"
    assert path.stat().st_size < 250_000
    with image.open(path) as picture:
        assert picture.format == "JPEG" and 400 <= picture.width == picture.height <= 1000, "thumbnails are square"


@every_workflow
def test_the_values_are_those_that_the_preset_was_made_for(name: str) -> None:
    workflow = read(name)
    file = solver_file(workflow)
    checked = 0
    for node in workflow["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        values = widgets(node)
        made_for = file.member(int(values.get("steps", 0))).provenance
        if values.get("sampler_name") == "dyweight":
            assert values["steps"] == file.member().solver.steps, "which Load Solver gives"
            assert values["scheduler"] == "dyweight"
            checked += 1
        if node["type"] in ("DyWeightScheduler", "DyWeightKSampler"):
            given = values["steps"] or file.member().solver.steps  # 0 is the middle one
            steps = given * values["denoise"]
            assert given in file.solvers.steps and steps == round(steps) > 0
            checked += 1
        if "cfg" in values:
            assert values["cfg"] == made_for["cfg"]
        if "guidance" in values:
            assert values["guidance"] == made_for["guidance"]
        if {"width", "height"} <= values.keys():
            assert [values["height"], values["width"]] == [8 * size for size in made_for["shape"][1:]]
            checked += 1
    assert checked == 2, "one sampler or scheduler and one size"


@every_workflow
def test_every_link_joins_slots_of_its_type(name: str) -> None:
    workflow = read(name)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    assert workflow["links"]
    for link, source, output, target, entry, kind in workflow["links"]:
        leaves, enters = nodes[source]["outputs"][output], nodes[target]["inputs"][entry]
        assert leaves["type"] == enters["type"] == kind
        assert link in leaves["links"] and link == enters["link"]
    linked = [entry["link"] for node in workflow["nodes"] for entry in node["inputs"] if entry.get("link") is not None]
    assert sorted(linked) == sorted(link[0] for link in workflow["links"])


def test_each_opening_of_a_fit_is_a_workflow_of_its_own() -> None:
    """The page gives an id where there is none, and what a fit says stays with the id."""
    with_fit = [name for name in NAMES if of_type(read(name), "DyWeightFit")]
    assert with_fit and not any("id" in read(name) for name in with_fit)


@every_workflow
def test_nothing_that_a_pack_node_takes_or_gives_hangs_loose(name: str) -> None:
    """Solver, sampler and sigmas reach something, and no node lacks an input that has no widget."""
    workflow = read(name)
    for node in workflow["nodes"]:
        for output in node["outputs"]:
            if output["type"] in ("DYWEIGHT_SOLVER", "SIGMAS", "SAMPLER"):
                assert output["links"], f"{node['type']} gives {output['name']} to nobody"
        for entry in node["inputs"]:
            needed = "widget" not in entry and entry.get("shape") != OPTIONAL
            assert not needed or entry["link"] is not None, f"{node['type']} lacks {entry['name']}"


@every_workflow
def test_the_notes_name_every_model_file_its_folder_and_where_it_comes_from(name: str) -> None:
    workflow = read(name)
    text = notes(workflow)
    used, hinted = set(), set()
    for node in workflow["nodes"]:
        values = {str(value) for value in node.get("widgets_values", [])}
        used |= {value for value in values if value.endswith(".safetensors")}
        for model in node["properties"].get("models", []):
            hinted.add(model["name"])
            assert model["name"] in values
            assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith("/" + model["name"])
            assert f"models/{model['directory']}" in text
    assert used and used == hinted
    assert all(file in text for file in used)
    sources = {
        m["url"].split("/resolve/")[0] for node in workflow["nodes"] for m in node["properties"].get("models", [])
    }
    assert set(re.findall(r"https://[^)]+", text)) == sources, "the note sends to where the page downloads from"
    assert "512 x 512" in text


@every_workflow
def test_the_nodes_name_the_pack_as_the_registry_does(name: str) -> None:
    """By this name the page looks for a pack whose nodes are missing."""
    published = tomlkit.parse((ROOT / "pyproject.toml").read_text("utf-8")).unwrap()["project"]["name"]
    nodes = [node for node in read(name)["nodes"] if node["type"].startswith("DyWeight")]
    assert nodes and all(node["properties"]["cnr_id"] == published for node in nodes)


@every_workflow
def test_no_node_covers_another(name: str) -> None:
    boxes = [
        (node["type"], x, y - TITLE_HEIGHT, x + width, y + height)
        for node in read(name)["nodes"]
        for (x, y), (width, height) in [(node["pos"], node["size"])]
    ]
    for (one, left, top, right, bottom), (other, left2, top2, right2, bottom2) in combinations(boxes, 2):
        apart = right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top
        assert apart, f"{one} and {other}"


@pytest.fixture
def object_info(server: Server) -> dict[str, Any]:
    """The server's own, with the model files of the notes in its lists."""
    info: dict[str, Any] = server.json("/object_info")
    for (node, entry), files in FILES.items():
        listed = info[node]["input"]["required"][entry][0]
        assert isinstance(listed, list), f"{node} offers {entry} in another form"
        listed += [file for file in files if file not in listed]
    return info


def validate(workflow: Workflow, info: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What `comfy workflow validate` says."""
    if COMFY is None:
        pytest.skip("NO COMFY-CLI: the workflows are NOT validated. Install comfy-cli")
    (folder / "object_info.json").write_text(json.dumps(info), "utf-8")
    (folder / "workflow.json").write_text(json.dumps(workflow), "utf-8")
    command = [COMFY, "--skip-prompt", "--json", "workflow", "validate", "--input", "object_info.json"]
    own = {"HOME": str(folder), "DO_NOT_TRACK": "1"}
    done = subprocess.run(
        [*command, "--workflow", "workflow.json"],
        cwd=folder,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        timeout=60,
    )
    answer: dict[str, Any] = json.loads(done.stdout)["data"]
    assert (done.returncode == 0) == answer["valid"], done.stdout
    return answer


@every_workflow
def test_comfy_cli_accepts_it(name: str, object_info: dict[str, Any], tmp_path: Path) -> None:
    workflow = read(name)
    answer = validate(workflow, object_info, tmp_path)
    assert answer["valid"] and answer["errors"] == answer["warnings"] == []
    assert answer["converted_node_count"] == len(workflow["nodes"]) - len(of_type(workflow, "MarkdownNote"))


@pytest.mark.parametrize("fault", ["unknown node", "unknown value", "wrong type", "missing file"])
def test_comfy_cli_rejects_a_broken_one(fault: str, object_info: dict[str, Any], tmp_path: Path) -> None:
    workflow = read("5 FLUX.1-dev, KSampler")
    (apply,), (sampler,) = of_type(workflow, "DyWeightApply"), of_type(workflow, "KSampler")
    if fault == "unknown node":
        apply["type"] = "DyWeightAply"
        named = "DyWeightAply"
    elif fault == "unknown value":
        place = sampler["widgets_values"].index("dyweight")
        sampler["widgets_values"][place] = "dyweigth"
        named = "dyweigth"
    elif fault == "wrong type":
        link = apply["inputs"][1]["link"]
        row = next(row for row in workflow["links"] if row[0] == link)
        (latent,) = of_type(workflow, "EmptySD3LatentImage")
        row[1] = latent["id"]
        named = "DYWEIGHT_SOLVER"
    else:
        object_info["UNETLoader"]["input"]["required"]["unet_name"][0].remove("flux1-dev.safetensors")
        named = "flux1-dev.safetensors"
    answer = validate(workflow, object_info, tmp_path)
    assert not answer["valid"]
    assert any(named in json.dumps(error) for error in answer["errors"]), answer["errors"]
