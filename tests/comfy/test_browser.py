"""ComfyUI's page with the pack, in a real browser."""

import json
from collections.abc import Iterator

import pytest

from tests.comfy.browser import MISSING_BROWSER, ComfyPage, browsing
from tests.comfy.checkouts import ROOT
from tests.comfy.graphs import STEPS, with_ksampler, write_solver
from tests.comfy.server import PACK, Server

FOLDER = ROOT / "example_workflows"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.json"))
SHOWN = {
    "DyWeightLoadSolver": ([], ["DYWEIGHT_SOLVER"], ["solver_name"]),
    "DyWeightSampler": (["solver"], ["SAMPLER"], []),
    "DyWeightScheduler": (["model", "solver"], ["SIGMAS"], ["denoise"]),
    "DyWeightApply": (["model", "solver"], ["MODEL"], []),
    "DyWeightPlot": (["solver"], ["IMAGE"], []),
    "DyWeightSaveSolver": (["sigmas", "model"], ["DYWEIGHT_SOLVER"], ["sampler_name", "name", "made_for"]),
}


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
        assert shown["title"].startswith("DyWeight ") and shown["outputs"] == outputs
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


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_runs_to_its_end_on_a_tiny_model(empty: ComfyPage, name: str) -> None:
    if "flux" not in empty.server.families and "flux" in (FOLDER / f"{name}.json").read_text("utf-8"):
        pytest.skip("this ComfyUI detects FLUX at its full width only")
    empty.open_template(PACK, name)
    empty.shrink(128)  # a CPU needs minutes for 512
    assert empty.pictures() == 0
    history = empty.finish(empty.run())
    assert history["status"]["status_str"] == "success", history["status"]
    assert empty.complaints() == []
    assert empty.pictures() >= 1


def test_another_number_of_steps_pops_up_and_says_which(empty: ComfyPage) -> None:
    name = write_solver(empty.server, "browser-error", "sd3", seed=21)
    empty.load(with_ksampler(name, "sd3", steps=STEPS + 3, scheduler="simple"))
    assert empty.complaints() == []
    empty.finish(empty.run())
    assert empty.complaints()
    details = empty.page.get_by_test_id("error-overlay-see-errors")
    if details.count():
        details.click()
    empty.page.get_by_text(f"set steps to {STEPS}").first.wait_for()


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
