"""What a ComfyUI server does with the pack: nodes, lists, pages and pictures."""

import json
import urllib.parse

import pytest

from tests.comfy.checkouts import ROOT
from tests.comfy.graphs import write_solver
from tests.comfy.server import PACK, Graph, Server

NAMES = ("KSampler", "LoadSolver", "Sampler", "Scheduler", "Apply", "Plot", "SaveSolver")
TRAINING = {"DyWeightFit", "DyWeightPrompts"}
IDS = {f"DyWeight{name}" for name in NAMES} | TRAINING
EXAMPLES, HELP = ROOT / "example_workflows", ROOT / "web" / "docs"


def test_all_nodes_are_there_and_the_samplers_lists_have_dyweight(server: Server) -> None:
    nodes = server.json("/object_info")
    assert {name for name in nodes if name.startswith("DyWeight")} == IDS
    for sampler in ("KSampler", "KSamplerAdvanced"):
        for field in ("sampler_name", "scheduler"):
            assert nodes[sampler]["input"]["required"][field][0].count("dyweight") == 1
    assert "dyweight" in json.dumps(nodes["KSamplerSelect"]["input"]["required"]["sampler_name"])
    assert "dyweight" in json.dumps(nodes["BasicScheduler"]["input"]["required"]["scheduler"])


def test_the_pack_loads_without_a_complaint(server: Server) -> None:
    start_up, served, _ = server.log.read_text().partition("To see the GUI")
    assert served, "the log does not say that the server runs"
    lines = [line for line in start_up.splitlines() if PACK in line]
    assert lines, "the log does not name the pack"
    assert not [line for line in lines if "FAILED" in line or "Error" in line or "Cannot" in line], lines


def test_people_find_the_nodes_beside_comfyuis_samplers_and_by_what_they_do(server: Server) -> None:
    nodes = server.json("/object_info")
    assert {nodes[name]["category"] for name in IDS - TRAINING} == {f"{nodes['KSampler']['category']}/DyWeight"}
    assert {nodes[name]["category"] for name in TRAINING} == {"model/training"}
    if "search_aliases" in nodes["KSampler"]:
        words = {"few step", "fewer steps", "distill", "turbo"}
        assert all(words <= set(nodes[name]["search_aliases"]) for name in ("DyWeightKSampler", "DyWeightLoadSolver"))


def test_a_new_file_is_in_the_list_without_a_restart(server: Server) -> None:
    name = write_solver(server, "arrived-later", "sd3", seed=1)
    options = json.dumps(server.json("/object_info/DyWeightLoadSolver")["DyWeightLoadSolver"]["input"])
    assert name in options


def test_the_plot_is_shown_in_the_node(server: Server) -> None:
    from PIL import Image

    graph = Graph()
    name = write_solver(server, "plotted", "sd3", seed=2)
    graph.add("DyWeightPlot", solver=graph.add("DyWeightLoadSolver", solver_name=name))
    (path,) = server.files(server.run(graph), "images")
    with Image.open(path) as picture:
        assert picture.width >= 512 and picture.height >= 256
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 10


def test_every_help_page_is_served_and_each_node_has_one(server: Server) -> None:
    pages = sorted(path for path in HELP.rglob("*") if path.is_file())
    assert {path.stem for path in HELP.glob("*.md")} >= IDS
    for page in pages:
        served = server.get(f"/extensions/{PACK}/docs/{page.relative_to(HELP).as_posix()}")
        assert served == page.read_bytes() and len(served) > 200


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_input_has_a_name_and_a_tooltip_in_each_language(server: Server, language: str) -> None:
    nodes = server.json("/object_info")
    texts = server.json("/i18n")[language]["nodeDefs"]
    for node in IDS:
        assert texts[node]["display_name"]
        for group in ("required", "optional"):
            for field in nodes[node]["input"].get(group, {}):
                assert texts[node]["inputs"][field]["tooltip"], f"{language}: {node}.{field} has no tooltip"


def test_every_example_workflow_is_a_template_with_its_picture(server: Server) -> None:
    examples = sorted(EXAMPLES.glob("*.json"))
    assert examples
    assert sorted(server.json("/workflow_templates").get(PACK, [])) == [example.stem for example in examples]
    for path in (*examples, *(example.with_suffix(".jpg") for example in examples)):
        served = server.get(f"/api/workflow_templates/{PACK}/{urllib.parse.quote(path.name)}")
        assert served == path.read_bytes()
