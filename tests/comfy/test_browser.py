"""ComfyUI's page with the pack, in a real browser."""

import json
import re
from collections.abc import Iterator

import pytest

from tests.comfy.browser import MISSING_BROWSER, ComfyPage, browsing
from tests.comfy.checkouts import ROOT
from tests.comfy.graphs import STEPS, with_ksampler, write_solver
from tests.comfy.looks import narrow_titles
from tests.comfy.server import PACK, Graph, Server

FOLDER = ROOT / "example_workflows"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.json"))
FIELDS = ["solver_name", "steps", "seed", "control_after_generate", "cfg", "denoise"]
SHOWN = {
    "DyWeightKSampler": (["model", "positive", "negative", "latent_image", "solver"], ["LATENT"], FIELDS),
    "DyWeightLoadSolver": ([], ["DYWEIGHT_SOLVER", "INT", "FLOAT", "STRING"], ["solver_name"]),
    "DyWeightSampler": (["solver"], ["SAMPLER"], []),
    "DyWeightScheduler": (["model", "solver"], ["SIGMAS"], ["denoise", "steps"]),
    "DyWeightApply": (["model", "solver"], ["MODEL"], []),
    "DyWeightPlot": (["solver"], ["IMAGE"], ["steps"]),
    "DyWeightSaveSolver": (["sigmas", "model"], ["DYWEIGHT_SOLVER"], ["sampler_name", "name", "made_for"]),
}

NODES = ("CheckpointLoaderSimple", "CLIPTextEncode", "EmptyLatentImage", "DyWeightKSampler", "VAEDecode", "SaveImage")
LINKS = (
    ("CheckpointLoaderSimple", 0, "DyWeightKSampler", "model"),
    ("CheckpointLoaderSimple", 1, "CLIPTextEncode", "clip"),
    ("CLIPTextEncode", 0, "DyWeightKSampler", "positive"),
    ("CLIPTextEncode", 0, "DyWeightKSampler", "negative"),
    ("EmptyLatentImage", 0, "DyWeightKSampler", "latent_image"),
    ("DyWeightKSampler", 0, "VAEDecode", "samples"),
    ("CheckpointLoaderSimple", 2, "VAEDecode", "vae"),
    ("VAEDecode", 0, "SaveImage", "images"),
)


@pytest.fixture(scope="module")
def page(server: Server) -> Iterator[ComfyPage]:
    """One page for all tests of a version; skips where there is no browser."""
    try:
        with browsing() as window:
            opened = window(server)
            opened.open()
            yield opened
    except (ImportError, FileNotFoundError):
        pytest.skip(MISSING_BROWSER)


@pytest.fixture
def empty(page: ComfyPage) -> ComfyPage:
    """The page with an empty graph and no pop-up of an earlier test."""
    page.open() if page.complaints() else page.clear()
    return page


def test_the_page_loads_without_an_error_of_the_pack(empty: ComfyPage) -> None:
    assert not [error for error in empty.errors if "dyweight" in error.lower()]
    assert empty.complaints() == []


def test_each_node_can_be_added_and_shows_its_inputs(empty: ComfyPage) -> None:
    for row, (node, (links, outputs, widgets)) in enumerate(SHOWN.items()):
        shown = empty.add(node, 100, 150 * row)
        assert shown["title"].endswith(" (DyWeight)") and shown["outputs"] == outputs
        assert [name for name in shown["inputs"] if name not in shown["widgets"]] == links
        assert list(shown["widgets"]) == widgets
    assert empty.unknown_nodes() == []


def test_dyweight_can_be_chosen_in_both_lists(empty: ComfyPage) -> None:
    empty.add("KSamplerAdvanced", 0, 0)
    empty.show("KSamplerAdvanced")
    for widget in ("sampler_name", "scheduler"):
        assert empty.widget("KSamplerAdvanced", widget) != "dyweight"
        empty.choose("KSamplerAdvanced", widget, "dyweight")
        assert empty.widget("KSamplerAdvanced", widget) == "dyweight"


def test_the_help_page_of_each_node_opens(empty: ComfyPage) -> None:
    for node in SHOWN:
        empty.add(node, 0, 0)
        empty.show(node)
        empty.page.get_by_test_id("info-button").click()
        text = (ROOT / "web" / "docs" / f"{node}.md").read_text("utf-8")
        first_sentence = text.splitlines()[2].split(". ")[0]
        empty.page.get_by_text(first_sentence).first.wait_for()


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_opens_from_the_template_browser(empty: ComfyPage, name: str) -> None:
    empty.open_template(PACK, name)
    nodes = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["nodes"]
    assert sorted(empty.nodes()) == sorted(node["type"] for node in nodes)
    assert empty.unknown_nodes() == []
    assert empty.complaints() == []


def settings(page: ComfyPage) -> tuple[int, float]:
    return page.widget("DyWeightKSampler", "steps"), page.widget("DyWeightKSampler", "cfg")


def labels(page: ComfyPage, node: int = 0) -> list[str]:
    """What stands before steps and cfg of a KSampler (DyWeight)."""
    script = """node => ["steps", "cfg"].map(name => app.graph.nodes.filter(one => one.type == "DyWeightKSampler")[node]
        .widgets.find(one => one.name == name).label)"""
    return list(page.page.evaluate(script, node))


def test_choosing_a_file_sets_its_fields_and_another_value_is_marked(empty: ComfyPage) -> None:
    write_solver(empty.server, "guided-7", "sd3", seed=23, steps=7, cfg=4.5)
    empty.open()
    empty.add("DyWeightKSampler", 0, 0)
    empty.show("DyWeightKSampler")
    sd15, guided = ("preset: sd15", 8, 7.5), ("guided-7.safetensors", 7, 4.5)
    for name, steps, cfg in (sd15, guided, sd15):
        empty.set_widget("DyWeightKSampler", "solver_name", name)
        assert settings(empty) == (steps, cfg)
    assert labels(empty) == ["steps (4, 6, 8, 10)", "cfg"]
    empty.set_widget("DyWeightKSampler", "steps", 5)
    empty.set_widget("DyWeightKSampler", "cfg", 3)
    assert labels(empty) == ["steps ≠ 4, 6, 8, 10", "cfg ≠ 7.5"]


def test_a_primitive_that_names_the_file_leaves_the_other_fields_alone(empty: ComfyPage) -> None:
    empty.add("DyWeightKSampler", 0, 0)
    empty.set_widget("DyWeightKSampler", "solver_name", "preset: sd15")
    empty.add("PrimitiveNode", 0, 300)
    empty.link("PrimitiveNode", 0, "DyWeightKSampler", "solver_name")
    empty.set_widget("DyWeightKSampler", "steps", 5)
    empty.set_widget("DyWeightKSampler", "cfg", 3)
    empty.page.evaluate("app.graphToPrompt()")
    assert settings(empty) == (5, 3)
    empty.set_widget("PrimitiveNode", "solver_name", "preset: flux1-dev")
    empty.set_widget("DyWeightKSampler", "cfg", 3)
    saved = empty.page.evaluate("app.graph.serialize()")
    empty.clear()
    empty.load_workflow(saved)
    empty.page.evaluate("app.graphToPrompt()")
    assert settings(empty) == (5, 3), "and in a workflow that is opened"


def test_a_workflow_of_the_apis_format_keeps_its_cfg(empty: ComfyPage) -> None:
    graph = Graph()
    graph.add("DyWeightKSampler", cfg=3.0, steps=5, solver_name="preset: sd15", seed=0, denoise=1.0)
    empty.load(graph)
    assert settings(empty) == (5, 3)
    assert labels(empty) == ["steps ≠ 4, 6, 8, 10", "cfg ≠ 7.5"]


def test_the_settings_of_an_unused_file_are_not_shown(empty: ComfyPage) -> None:
    empty.add("DyWeightKSampler", 0, 0)
    assert settings(empty)[0] == 0, "which is right for every file"
    empty.add("DyWeightLoadSolver", 0, 300)
    empty.link("DyWeightLoadSolver", 0, "DyWeightKSampler", "solver")
    assert labels(empty) == ["steps", "cfg"]
    before = settings(empty)
    empty.set_widget("DyWeightKSampler", "solver_name", "preset: sd15")
    assert settings(empty) == before and labels(empty) == ["steps", "cfg"]
    empty.page.evaluate("app.graph.remove(app.graph.nodes.find(node => node.type == 'DyWeightLoadSolver'))")
    assert labels(empty)[0] == "steps (4, 6, 8, 10)"


def test_a_pasted_node_shows_the_settings_of_its_file(empty: ComfyPage) -> None:
    empty.add("DyWeightKSampler", 0, 0)
    empty.set_widget("DyWeightKSampler", "solver_name", "preset: sd15")
    empty.set_widget("DyWeightKSampler", "cfg", 3)
    empty.show("DyWeightKSampler")
    empty.page.evaluate("app.canvas.copyToClipboard(), app.canvas.pasteFromClipboard()")
    assert len(empty.nodes()) == 2
    assert labels(empty, 0) == labels(empty, 1) == ["steps (4, 6, 8, 10)", "cfg ≠ 7.5"]


def test_the_search_finds_the_node_that_samples_first(empty: ComfyPage) -> None:
    if empty.server.version < (0, 9):
        pytest.skip("this ComfyUI has no words for the search")
    for words in ("few step", "fewer steps", "distill", "learned sampler", "fast sampler"):
        assert empty.search(words)[0] == "KSampler (DyWeight)", words


def test_a_shared_workflow_offers_the_file_that_is_missing(empty: ComfyPage) -> None:
    workflow = json.loads((FOLDER / "5 FLUX.1-dev, KSampler.json").read_text("utf-8"))
    (loader,) = [node for node in workflow["nodes"] if node["type"] == "DyWeightLoadSolver"]
    name = "shared-5.safetensors"
    loader["widgets_values"] = [name]
    url = f"https://huggingface.co/me/my-model/resolve/main/{name}"
    loader["properties"]["models"] = [{"name": name, "url": url, "directory": "dyweight"}]
    empty.load_workflow(workflow)
    empty.page.get_by_text(name).first.wait_for()
    details = empty.page.get_by_text("View details")
    if details.count():
        details.first.click()
    empty.page.get_by_role("button", name=re.compile("^Download")).first.wait_for()


@pytest.mark.slow
def test_from_an_empty_canvas_to_a_picture_only_the_model_and_its_file_are_chosen(empty: ComfyPage) -> None:
    made_for = {"model_family": "SD15", "prediction_type": "eps", "cfg": 1.0, "shape": [4, 64, 64]}
    name = write_solver(empty.server, "from-empty", "sd15", seed=24, steps=2, **made_for)
    empty.open()
    for column, node in enumerate(NODES):
        empty.add(node, 350 * column, 0)
    for link in LINKS:
        empty.link(*link)
    empty.set_widget("CheckpointLoaderSimple", "ckpt_name", "v1-5-pruned-emaonly-fp16.safetensors")
    empty.set_widget("DyWeightKSampler", "solver_name", name)
    assert empty.finish(empty.run())["status"]["status_str"] == "success"
    assert empty.complaints() == empty.notes() == [] and empty.pictures() == 1


def test_titles_and_names_are_not_cut_off(empty: ComfyPage) -> None:
    for node in SHOWN:
        empty.add(node, 0, 0)
    assert narrow_titles(empty) == []


def test_another_number_of_steps_pops_up_and_says_which(empty: ComfyPage) -> None:
    name = write_solver(empty.server, "browser-error", "sd3", seed=21)
    empty.load(with_ksampler(name, "sd3", steps=STEPS + 3, scheduler="simple"))
    assert empty.complaints() == []
    empty.finish(empty.run())
    assert empty.complaints()
    assert empty.notes() == [
        f"Set steps to {STEPS} and scheduler to dyweight: browser-error is not for {STEPS + 3} steps."
    ]
    empty.close_messages()
    details = empty.page.get_by_test_id("error-overlay-see-errors")
    if details.count():
        details.click()
    empty.page.get_by_text(f"Set steps to {STEPS} and").first.wait_for()


def test_cancelling_pops_nothing_up_and_the_next_run_works(empty: ComfyPage) -> None:
    name = write_solver(empty.server, "browser-cancel", "sd3", seed=22)
    empty.load(with_ksampler(name, "sd3", slow=0.5))
    run = empty.run()
    empty.page.wait_for_function("app.graph.nodes.some(node => node.progress > 0)")
    empty.page.get_by_label("Cancel current run").click()
    history = empty.finish(run)
    assert "execution_interrupted" in [kind for kind, _ in history["status"]["messages"]]
    assert empty.complaints() == []
    empty.load(with_ksampler(name, "sd3"))
    assert empty.pictures() == 0
    assert empty.finish(empty.run())["status"]["status_str"] == "success"
    assert empty.complaints() == []
    assert empty.pictures() >= 1
