"""The pictures of ComfyUI in the docs: `python -m tools.pictures.screenshots` writes docs/images/comfyui-*.jpg.

It needs Chromium and takes the newest ComfyUI of `checkouts()`; the models are tiny ones under the official names.
"""

import sys
import tempfile
from pathlib import Path

from tests.comfy.browser import ComfyPage, browsing
from tests.comfy.checkouts import MISSING, ROOT, checkouts, version
from tests.comfy.server import PACK, Graph, started

IMAGES = ROOT / "docs" / "images"
EXAMPLE = "flux_ksampler_advanced"
SOLVER = "preset: flux1-dev-5-steps"
PLACES = {
    "UNETLoader": (0, 0, 330, 82),
    "DyWeightLoadSolver": (0, 200, 330, 60),
    "DyWeightApply": (420, 0, 440, 50),
    "DyWeightSampler": (420, 110, 440, 30),
    "DyWeightScheduler": (420, 200, 440, 80),
    "DyWeightPlot": (420, 340, 440, 560),
    "KSamplerAdvanced": (950, 0, 330, 340),
    "SamplerCustomAdvanced": (950, 420, 330, 120),
}


def graph_of_all_nodes() -> Graph:
    """The two ways from a solver to an image, and the plot."""
    graph = Graph()
    model = graph.add("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="default")
    solver = graph.add("DyWeightLoadSolver", solver_name=SOLVER)
    applied = graph.add("DyWeightApply", model=model, solver=solver)
    settings = {"add_noise": "enable", "noise_seed": 20, "steps": 5, "cfg": 1.0, "sampler_name": "dyweight"}
    part = {"start_at_step": 0, "end_at_step": 10000, "return_with_leftover_noise": "disable"}
    graph.add("KSamplerAdvanced", model=applied, scheduler="dyweight", **settings, **part)
    sampler = graph.add("DyWeightSampler", solver=solver)
    sigmas = graph.add("DyWeightScheduler", model=model, solver=solver, denoise=1.0)
    graph.add("SamplerCustomAdvanced", sampler=sampler, sigmas=sigmas)
    graph.add("DyWeightPlot", solver=solver)
    return graph


def take(page: ComfyPage, folder: Path) -> None:
    """All three pictures."""
    page.open()
    page.load(graph_of_all_nodes())
    page.finish(page.run())
    page.place(PLACES)
    page.show_all()
    page.screenshot(folder / "comfyui-nodes.jpg")

    page.show("KSamplerAdvanced", scale=1.5)
    page.open_list("KSamplerAdvanced", "scheduler")
    page.screenshot(folder / "comfyui-lists.jpg")

    page.open()
    page.open_template(PACK, EXAMPLE)
    page.show_all()
    page.screenshot(folder / "comfyui-template.jpg")


def main() -> None:
    found = sorted(checkouts(), key=lambda path: tuple(int(part) for part in version(path).split(".")))
    if not found:
        sys.exit(MISSING)
    options = ("--preview-method", "none")
    with (
        tempfile.TemporaryDirectory() as folder,
        started(found[-1], Path(folder) / "base", *options) as server,
        browsing(1700, 1000) as window,
    ):
        take(window(server), IMAGES)


if __name__ == "__main__":
    main()
