"""ComfyUI's page in a headless Chromium, driven by what a user sees where that is the same in all versions."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.comfy.server import Graph, Server

MISSING_BROWSER = (
    "NO BROWSER: ComfyUI's page is NOT tested. Install Chromium (or set CHROMIUM to its path) and "
    "the Python package playwright"
)
CALM = {
    "Comfy.TutorialCompleted": True,  # else the template browser opens by itself
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Workflow.Persist": False,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,  # nodes keep their text when the whole graph is in view
}
TOASTS = '.p-toast-message-error, .p-toast-message-warn, [data-testid="toast"]'
CLOSE = '.p-toast-close-button, [data-testid="toast-close"]'
LEAVING = '.p-toast-message-leave-active, [data-testid="toast"][data-state="closed"]'
"""Messages that are taken away and still fade."""
LISTEN = """() => {
    window.endedRuns = new Set()
    for (const end of ["execution_success", "execution_error", "execution_interrupted"])
        comfyAPI.api.api.addEventListener(end, ({ detail }) => endedRuns.add(detail.prompt_id))
}"""
RUN = re.compile("^(Run|运行|执行)$")
SECONDS = 1000.0


class ComfyPage:
    """The page of one server."""

    def __init__(self, server: Server, page: Any) -> None:
        self.server, self.page = server, page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error.stack or error)))
        page.on("requestfailed", lambda request: self.errors.append(f"{request.url} {request.failure}"))
        page.on("response", lambda r: self.errors.extend([f"{r.url} {r.status}"] if r.status >= 400 else []))
        page.set_default_timeout(90 * SECONDS)  # a busy machine is slow to start the page

    def open(self) -> None:
        """Load the page, with an empty graph."""
        self.page.goto(self.server.url)
        self.page.wait_for_function("window.app?.vueAppReady && window.app.graph")
        self.page.get_by_role("button", name=RUN).first.wait_for()
        self.page.evaluate(LISTEN)
        self.clear()

    @contextlib.contextmanager
    def speaking(self, language: str) -> Iterator["ComfyPage"]:
        """Another page of this server, opened in a language: one that is switched over loads its graph again, later."""
        self.server.post("/settings", {"Comfy.Locale": language})
        page = ComfyPage(self.server, self.page.context.browser.new_page())
        try:
            page.open()
            yield page
        finally:
            page.page.close()
            self.server.post("/settings", {"Comfy.Locale": "en"})

    def clear(self) -> None:
        """Start an empty workflow."""
        self.command("Comfy.NewBlankWorkflow")
        self.page.wait_for_function("app.graph.nodes.length == 0")

    def command(self, name: str) -> None:
        """What a menu entry or a key does."""
        self.page.evaluate("name => app.extensionManager.command.execute(name)", name)

    def load(self, graph: Graph) -> None:
        """Open a workflow of the API's format."""
        self.page.evaluate("graph => app.loadApiJson(graph, 'test')", graph)
        self.page.wait_for_function("count => app.graph.nodes.length == count", arg=len(graph))

    def load_workflow(self, workflow: dict[str, Any]) -> None:
        """Open a workflow as the page saves it."""
        self.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)

    def search(self, words: str) -> list[str]:
        """Titles of the nodes that the page's search finds, best first."""
        script = """words => document.querySelector("#vue-app").__vue_app__.config.globalProperties.$pinia._s
            .get("nodeDef").nodeSearchService.searchNode(words).map(node => node.display_name)"""
        return list(self.page.evaluate(script, words))

    def open_template(self, pack: str, name: str) -> None:
        """Choose an example in the template browser."""
        self.command("Comfy.BrowseTemplates")
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_text(pack, exact=True).first.click()
        dialog.get_by_text(name, exact=True).first.click()
        dialog.wait_for(state="hidden")
        self.page.wait_for_function("app.graph.nodes.length > 0")

    def add(self, node: str, x: int, y: int) -> dict[str, Any]:
        """Add a node; the answer is its title, its inputs and its widgets."""
        script = """([type, x, y]) => {
            const node = LiteGraph.createNode(type)
            node.pos = [x, y]
            app.graph.add(node)
            return {title: node.title, inputs: node.inputs.map(i => i.name), outputs: node.outputs.map(o => o.type),
                    widgets: Object.fromEntries((node.widgets ?? []).map(w => [w.name, w.value]))}
        }"""
        return dict(self.page.evaluate(script, [node, x, y]))

    def link(self, source: str, output: int, target: str, entry: str) -> None:
        """Link an output to the input of this name; nodes by type."""
        script = """([source, output, target, entry]) => {
            const [from, to] = [source, target].map(type => app.graph.nodes.find(node => node.type == type))
            from.connect(output, to, to.inputs.findIndex(input => input.name == entry))
        }"""
        self.page.evaluate(script, [source, output, target, entry])

    def put_into_subgraph(self, types: tuple[str, ...]) -> None:
        """Make one node of all nodes of these types."""
        script = """types => {
            app.graph.convertToSubgraph(new Set(app.graph.nodes.filter(node => types.includes(node.type))))
        }"""
        self.page.evaluate(script, list(types))

    def place(self, places: dict[str, tuple[int, int, int, int]]) -> None:
        """Move nodes, by type, to (x, y) and give them (width, height)."""
        script = """places => app.graph.nodes.forEach(node => {
            const [x, y, width, height] = places[node.type]
            node.pos = [x, y]
            node.setSize([width, height])
        })"""
        self.page.evaluate(script, places)
        self.page.wait_for_timeout(0.5 * SECONDS)  # until it is drawn

    def show(self, node: str, scale: float = 1.0) -> None:
        """Select the first node of a type and move it to the middle."""
        script = """([type, scale]) => {
            const node = app.graph.nodes.find(node => node.type == type), view = app.canvas.ds
            const [width, height] = [innerWidth / scale, innerHeight / scale]
            view.scale = scale
            view.offset = [width / 2 - node.pos[0] - node.size[0] / 2, height / 2 - node.pos[1] - node.size[1] / 2]
            app.canvas.deselectAll()
            app.canvas.selectNode(node)
            app.canvas.setDirty(true, true)
        }"""
        self.page.evaluate(script, [node, scale])

    def show_all(self) -> None:
        """Move the whole graph into view."""
        script = """() => {
            const nodes = app.graph.nodes, view = app.canvas.ds
            const left = Math.min(...nodes.map(n => n.pos[0])), top = Math.min(...nodes.map(n => n.pos[1] - 50))
            const width = Math.max(...nodes.map(n => n.pos[0] + n.size[0])) - left
            const height = Math.max(...nodes.map(n => n.pos[1] + n.size[1])) - top
            view.scale = Math.min((innerWidth - 200) / width, (innerHeight - 180) / height)
            view.offset = [innerWidth / 2 / view.scale - left - width / 2, 130 / view.scale - top]
            app.canvas.deselectAll()
            app.canvas.setDirty(true, true)
        }"""
        self.page.evaluate(script)

    def open_list(self, node: str, widget: str) -> Any:
        """Click on a list of the node that `show` has put into the middle; the answer is the open menu."""
        script = """([type, name]) => {
            const node = app.graph.nodes.find(node => node.type == type)
            const widget = node.widgets.find(widget => widget.name == name)
            const at = [node.pos[0] + node.size[0] / 2, node.pos[1] + widget.last_y + 10]
            const box = app.canvas.canvas.getBoundingClientRect(), point = app.canvas.ds.convertOffsetToCanvas(at)
            return [box.left + point[0], box.top + point[1]]
        }"""
        self.page.wait_for_function(
            "([type, name]) => app.graph.nodes.find(n => n.type == type).widgets.find(w => w.name == name).last_y > 0",
            arg=[node, widget],
        )
        self.page.mouse.click(*self.page.evaluate(script, [node, widget]))
        menu = self.page.locator(".litecontextmenu")
        menu.wait_for()
        return menu

    def choose(self, node: str, widget: str, value: str) -> None:
        """Choose an entry of a list with the mouse."""
        self.open_list(node, widget).get_by_text(value, exact=True).click()

    def widget(self, node: str, widget: str) -> Any:
        script = "([t, name]) => app.graph.nodes.find(n => n.type == t).widgets.find(w => w.name == name).value"
        return self.page.evaluate(script, [node, widget])

    def label(self, node: str, widget: str) -> Any:
        """What stands before the value of a widget."""
        script = "([t, name]) => app.graph.nodes.find(n => n.type == t).widgets.find(w => w.name == name).label"
        return self.page.evaluate(script, [node, widget])

    def set_widget(self, node: str, widget: str, value: object) -> None:
        """Give a widget a value, as both canvases do when a user chose it."""
        script = """([type, name, value]) => {
            const widget = app.graph.nodes.find(n => n.type == type).widgets.find(w => w.name == name)
            widget.value = value
            widget.callback(value)
        }"""
        self.page.evaluate(script, [node, widget, value])

    def shrink(self, pixels: int) -> None:
        """Set every width and height in the graph."""
        script = """pixels => app.graph.nodes.flatMap(node => node.widgets ?? []).forEach(widget => {
            if (["width", "height"].includes(widget.name)) widget.value = pixels
        })"""
        self.page.evaluate(script, pixels)

    def run(self) -> str:
        """Press Run; the answer is the run's name, empty where the server refused it."""
        with self.page.expect_response(lambda response: response.url.endswith("/prompt")) as answer:
            self.page.get_by_role("button", name=RUN).first.click()
        return str(answer.value.json().get("prompt_id") or "")

    def finish(self, run: str, seconds: float = 300) -> dict[str, Any]:
        """Wait until the page knows that a run is over, and shows it; the answer is the run's entry in the history."""
        self.page.wait_for_function("run => endedRuns.has(run)", arg=run, timeout=seconds * SECONDS)
        self.settle()
        while not (history := self.server.json(f"/history/{run}")):  # written a moment after the last message
            self.page.wait_for_timeout(0.1 * SECONDS)
        return dict(history[run])

    def settle(self) -> None:
        """Wait until what the page was told is drawn, and what it takes away is gone."""
        self.page.evaluate("() => new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        self.page.wait_for_function("selector => !document.querySelector(selector)", arg=LEAVING)

    def complaints(self) -> list[str]:
        """What pops up beside `notes`: dialogs and messages of an error."""
        pop_ups = f'[role="dialog"], {TOASTS}, [data-testid="error-overlay"]'
        texts = self.page.locator(pop_ups).all_inner_texts()
        return [text for text in texts if text.strip() and not text.startswith("DyWeight\n")]

    def notes(self) -> list[str]:
        """The sentences of the pack's message; it must be one."""
        texts = [text.split("\n") for text in self.page.locator(TOASTS).all_inner_texts()]
        shown = [[line for line in lines[1:] if line.strip()] for lines in texts if lines[0] == "DyWeight"]
        assert len(shown) < 2, shown
        return shown[0] if shown else []

    def close_pop_ups(self) -> None:
        """Close what covers the page after an error."""
        self.page.keyboard.press("Escape")
        self.close_messages()

    def close_messages(self) -> None:
        """Close the messages at the edge of the page."""
        self.page.evaluate("selector => document.querySelectorAll(selector).forEach(one => one.click())", CLOSE)
        self.page.wait_for_function("selector => !document.querySelector(selector)", arg=CLOSE)

    def nodes(self) -> list[str]:
        """The type of each node in the graph."""
        return list(self.page.evaluate("app.graph.nodes.map(node => node.type)"))

    def unknown_nodes(self) -> list[str]:
        """Types in the graph that ComfyUI does not have."""
        known = set(self.page.evaluate("Object.keys(LiteGraph.registered_node_types)"))
        return [node for node in self.nodes() if node not in known]

    def pictures(self) -> int:
        """How many pictures the nodes show, those from the input folder left out."""
        script = "Object.values(app.nodeOutputs).flatMap(o => o.images ?? []).filter(i => i.type != 'input').length"
        return int(self.page.evaluate(script))

    def screenshot(self, path: Path) -> None:
        """JPEG of the page."""
        self.page.mouse.move(self.page.viewport_size["width"] / 2, 5)  # where nothing has a tooltip
        self.page.wait_for_timeout(4 * SECONDS)  # until the page stands still
        self.page.screenshot(path=path, type="jpeg", quality=75)


def chromium() -> str | None:
    """A Chromium that is installed, or None."""
    named = os.environ.get("CHROMIUM")
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return named or next(filter(None, found), None)


@contextlib.contextmanager
def browsing(width: int = 1400, height: int = 900) -> Iterator[Any]:
    """A Chromium window: called with a server, it gives that server's page. Raises ImportError, FileNotFoundError."""
    from playwright.sync_api import sync_playwright

    path = chromium()
    if path is None:
        raise FileNotFoundError(MISSING_BROWSER)
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)

        def page_of(server: Server) -> ComfyPage:
            server.post("/settings", CALM)
            return ComfyPage(server, browser.new_page(viewport={"width": width, "height": height}))

        yield page_of
        browser.close()
