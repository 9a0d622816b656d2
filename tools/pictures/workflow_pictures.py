"""Take the thumbnails in example_workflows/: what matters of each workflow, square as the template browser shows it.

    python tools/pictures/workflow_pictures.py [--server http://127.0.0.1:8188] [--chromium PATH] [NAME ...]

Needs playwright, Pillow and a running ComfyUI with the pack. Nothing is run. It stops at a workflow with missing nodes.
"""

import argparse
import io
import json
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

WORKFLOWS = Path(__file__).parents[2] / "example_workflows"
SIZE = 640
SHOWN = ("DyWeightFit", "DyWeightKSampler", "DyWeightApply", "DyWeightSampler")
"""The node in the middle, the first of these that there is."""
AROUND = 1.12
"""Width of the picture, relative to that of the node."""

MISSING = "app.graph.nodes.filter(n => !LiteGraph.registered_node_types[n.type]).map(n => n.type)"
SHOW = """([kinds, size, around]) => {
  const found = kinds.map(kind => app.graph.nodes.find(node => node.type === kind)).find(node => node)
  const page = app.canvas.canvas.getBoundingClientRect(), view = app.canvas.ds
  const [width, left] = [found.size[0] * around, innerWidth / 2 - size / 2]
  view.scale = size / width
  view.offset[0] = (left - page.x) / view.scale - found.pos[0] + (width - found.size[0]) / 2
  view.offset[1] = (innerHeight / 2 - size / 2 - page.y) / view.scale - found.pos[1] + 90
  app.canvas.setDirty(true, true)
}"""


def picture(page: Page, server: str, workflow: Path) -> Image.Image:
    """[SIZE x SIZE] of a workflow; the page is loaded anew, since previews outlive their workflow."""
    page.goto(server, timeout=120_000)
    page.wait_for_function("window.app?.vueAppReady && app.graph", timeout=120_000)
    page.wait_for_timeout(2000)
    page.evaluate("app.extensionManager.setting.set('Comfy.TutorialCompleted', true)")
    page.keyboard.press("Escape")  # the template browser, which opens for new users
    page.evaluate("graph => app.loadGraphData(graph)", json.loads(workflow.read_text("utf-8")))
    page.wait_for_timeout(1500)
    if missing := page.evaluate(MISSING):
        raise SystemExit(f"{workflow.name}: this ComfyUI has no node {', '.join(missing)}")
    page.evaluate(SHOW, [list(SHOWN), SIZE, AROUND])
    page.wait_for_timeout(1500)
    window = page.viewport_size or {"width": SIZE, "height": SIZE}
    left, top = (window["width"] - SIZE) / 2, (window["height"] - SIZE) / 2
    shot = page.screenshot(clip={"x": left, "y": top, "width": SIZE, "height": SIZE})
    return Image.open(io.BytesIO(shot)).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="workflows, without .json; all of them if none is named")
    parser.add_argument("--server", default="http://127.0.0.1:8188", help="the running ComfyUI")
    parser.add_argument("--chromium", default=None, help="a browser to use instead of playwright's own")
    parser.add_argument("--out", type=Path, default=WORKFLOWS, help="folder for the pictures")
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox", "--disable-gpu"])
        for workflow in sorted(WORKFLOWS.glob("*.json")):
            if options.names and workflow.stem not in options.names:
                continue
            page = browser.new_page(viewport={"width": 1200, "height": 900})
            taken = picture(page, options.server, workflow)
            taken.save(options.out / f"{workflow.stem}.jpg", quality=88, optimize=True)
            page.close()
            print(f"{workflow.stem}.jpg", *taken.size)
        browser.close()


if __name__ == "__main__":
    main()
