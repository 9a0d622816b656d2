"""The pictures in example_workflows/: open each workflow in a running ComfyUI and take a picture of its whole graph.

    python tools/pictures/workflow_pictures.py [--server http://127.0.0.1:8188] [--chromium PATH] [NAME ...]

It needs playwright and Pillow. Only the plots of solvers are run, since they need no model. It stops at a workflow with
missing nodes.
"""

import argparse
import io
import json
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

WORKFLOWS = Path(__file__).parents[2] / "example_workflows"
WIDTH, MARGIN = 1280, 24
LEFT, TOP, RIGHT, BOTTOM = 110, 160, 60, 260
"""Room around the graph for the bars of the page, which are cut off."""

MISSING = "app.graph._nodes.filter(n => !LiteGraph.registered_node_types[n.type]).map(n => n.type)"
PLOTS = "app.graph._nodes.filter(n => n.type === 'DyWeightPlot').map(n => String(n.id))"
RUN = "nodes => app.queuePrompt(0, 1, nodes)"
SHOWN = "nodes => nodes.every(id => app.graph.getNodeById(id).imgs?.length)"
BOUNDS = """(() => {
  const groups = app.graph._groups.map(g => [...g.pos, ...g.size]);
  const boxes = [...app.graph._nodes.map(n => [...n.getBounding()]), ...groups];
  const [x, y] = [0, 1].map(i => Math.min(...boxes.map(b => b[i])));
  return [x, y, ...[0, 1].map(i => Math.max(...boxes.map(b => b[i] + b[i + 2])) - [x, y][i])];
})()"""
SHOW_AT = """([x, y]) => {
  const page = app.canvas.canvas.getBoundingClientRect(), view = app.canvas.ds;
  view.scale = 1;
  [view.offset[0], view.offset[1]] = [x - page.x, y - page.y];
  app.canvas.setDirty(true, true);
}"""


def picture(page: Page, server: str, workflow: Path) -> Image.Image:
    """The graph of a workflow, WIDTH pixels wide. The page is loaded again, since previews outlive their workflow."""
    page.goto(server)
    page.wait_for_function("window.app?.vueAppReady && app.graph", timeout=120_000)
    page.wait_for_timeout(2000)
    page.evaluate("app.extensionManager.setting.set('Comfy.TutorialCompleted', true)")
    page.keyboard.press("Escape")  # the template browser, which opens for new users
    page.evaluate("graph => app.loadGraphData(graph)", json.loads(workflow.read_text("utf-8")))
    page.wait_for_timeout(1500)
    if missing := page.evaluate(MISSING):
        raise SystemExit(f"{workflow.name}: this ComfyUI has no node {', '.join(missing)}")
    if plots := page.evaluate(PLOTS):
        page.evaluate(RUN, plots)
        page.wait_for_function(SHOWN, arg=plots)
    x, y, width, height = page.evaluate(BOUNDS)
    width, height = int(width) + 2 * MARGIN, int(height) + 2 * MARGIN
    page.set_viewport_size({"width": LEFT + width + RIGHT, "height": TOP + height + BOTTOM})
    page.wait_for_timeout(500)
    page.evaluate(SHOW_AT, [LEFT + MARGIN - x, TOP + MARGIN - y])
    page.wait_for_timeout(1500)
    shot = page.screenshot(clip={"x": LEFT, "y": TOP, "width": width, "height": height})
    return Image.open(io.BytesIO(shot)).convert("RGB").resize((WIDTH, round(height * WIDTH / width)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="workflows without .json; all by default")
    parser.add_argument("--server", default="http://127.0.0.1:8188", help="address of the running ComfyUI")
    parser.add_argument("--chromium", default=None, help="browser to use instead of playwright's")
    parser.add_argument("--out", type=Path, default=WORKFLOWS, help="folder for the pictures")
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox", "--disable-gpu"])
        for workflow in sorted(WORKFLOWS.glob("*.json")):
            if options.names and workflow.stem not in options.names:
                continue
            page = browser.new_page(viewport={"width": 1600, "height": 1000})
            taken = picture(page, options.server, workflow)
            taken.save(options.out / f"{workflow.stem}.jpg", quality=88, optimize=True)
            page.close()
            print(f"{workflow.stem}.jpg", *taken.size)
        browser.close()


if __name__ == "__main__":
    main()
