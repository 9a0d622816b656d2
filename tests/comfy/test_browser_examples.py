"""The example workflows on the page, with live previews: they run, nothing covers anything, and notes can be read."""

import json
from collections.abc import Iterator
from itertools import combinations

import pytest

from tests.comfy.browser import MISSING_BROWSER, SECONDS, ComfyPage, browsing
from tests.comfy.checkouts import ROOT
from tests.comfy.looks import boxes, contrasts, wait_for_notes, wait_for_preview
from tests.comfy.server import PACK, Server

FOLDER = ROOT / "example_workflows"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.json"))
SAMPLED = [name for name in EXAMPLES if "Fit" not in name]
"""At their size; a fit takes minutes on a CPU, and has a test of its own."""
LEAST_CONTRAST = 4.5
"""For text of this size: WCAG 2.1, 1.4.3."""
SAMPLERS = {"KSampler", "DyWeightKSampler", "SamplerCustomAdvanced"}
Boxes = list[tuple[str, float, float, float, float]]
"""Title, left, top, width, height of each node."""


@pytest.fixture(scope="module", params=["classic", "Nodes 2.0"])
def opened(request: pytest.FixtureRequest, server: Server) -> Iterator[ComfyPage]:
    """The page with one of its two ways to draw a graph."""
    if request.param != "classic" and server.version < (0, 9):
        pytest.skip("this page has one canvas")
    try:
        with browsing(1700, 1000) as window:
            page = window(server)
            page.open()
            page.page.evaluate(
                "on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", request.param != "classic"
            )
            yield page
            page.page.evaluate("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")
    except (ImportError, FileNotFoundError):
        pytest.skip(MISSING_BROWSER)


@pytest.fixture
def page(opened: ComfyPage) -> ComfyPage:
    opened.close_pop_ups()
    return opened


def layouts(page: ComfyPage, name: str) -> dict[str, Boxes]:
    """Open an example, and run it small: a CPU needs minutes for its size. The boxes of all nodes while each sampler
    shows its preview, by the sampler's id, and at the end."""
    if "flux" in (FOLDER / f"{name}.json").read_text("utf-8"):
        page.server.needs("flux")
    page.open_template(PACK, name)
    page.shrink(256)
    page.server.forget()  # else a run like an earlier one shows no preview
    page.show_all()
    found: dict[str, Boxes] = {}
    page.server.post("/testing/preview", {"hold": True})
    try:
        run = page.run()
        while not page.page.evaluate("run => endedRuns.has(run)", run):
            if sampler := page.server.json("/testing/preview")["node"]:
                wait_for_preview(page, sampler)
                found[sampler] = boxes(page)
                page.server.post("/testing/preview", {"hold": True})
            page.page.wait_for_timeout(0.05 * SECONDS)
    finally:
        page.server.post("/testing/preview", {"hold": False})
    history = page.finish(run)
    assert history["status"]["status_str"] == "success", history["status"]
    return {**found, "end": boxes(page)}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLED)
def test_nothing_covers_anything_while_previews_are_shown(page: ComfyPage, name: str) -> None:
    shown = layouts(page, name)
    assert page.notes() and all(note.startswith("Set the size to 512 x 512") for note in page.notes())
    assert page.complaints() == [] and page.pictures() >= 1
    workflow = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    samplers = {str(node["id"]) for node in workflow["nodes"] if node["type"] in SAMPLERS}
    assert samplers and {*shown} == {*samplers, "end"}
    for moment, drawn in shown.items():
        assert len(drawn) == len(page.nodes())
        for (one, x, y, width, height), (other, x2, y2, width2, height2) in combinations(drawn, 2):
            apart = x + width <= x2 or x2 + width2 <= x or y + height <= y2 or y2 + height2 <= y
            assert apart, f"{one} and {other}, {moment}"


@pytest.mark.slow
def test_a_fit_is_sampled_with_in_its_graph_and_after_a_reload_of_the_page(page: ComfyPage) -> None:
    """Both canvases fit the same, so the second one finds the file of the first."""
    if "flux" not in page.server.families:
        pytest.skip("this ComfyUI detects FLUX at its full width only")
    name = "flux1-dev-fp8-1"
    page.open_template(PACK, "8 Fit a solver for your model")
    page.shrink(64)
    page.set_widget("DyWeightFit", "steps", "1")
    page.show_all()
    history = page.finish(page.run())
    assert history["status"]["status_str"] == "success", history["status"]
    assert page.page.get_by_text(f"{name} is").first.is_visible(), "what came out is shown on the node"
    assert page.notes() == page.complaints() == [] and page.pictures() >= 1
    page.command("Comfy.RefreshNodeDefinitions")  # the key R
    page.page.wait_for_function(
        "name => app.graph.nodes.flatMap(node => node.widgets ?? [])"
        ".some(widget => widget.name == 'solver_name' && widget.options.values.includes(name))",
        arg=f"{name}.safetensors",
    )
    page.open()
    page.open_template(PACK, "2 FLUX.1-dev, one file")
    page.shrink(64)
    page.set_widget("DyWeightKSampler", "solver_name", f"{name}.safetensors")
    assert page.widget("DyWeightKSampler", "steps") == 1
    history = page.finish(page.run())
    assert history["status"]["status_str"] == "success", history["status"]
    assert page.notes() == page.complaints() == [] and page.pictures() >= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_notes_can_be_read(page: ComfyPage, name: str) -> None:
    page.open_template(PACK, name)
    page.show_all()
    wait_for_notes(page)
    workflow = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    found = contrasts(page)
    assert len(found) == len([node for node in workflow["nodes"] if node["type"] == "MarkdownNote"])
    assert all(contrast >= LEAST_CONTRAST for contrast in found), found
