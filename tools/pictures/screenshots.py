"""The pictures of ComfyUI in the docs: `python -m tools.pictures.screenshots` writes docs/images/comfyui-*.jpg.

It needs the newest ComfyUI of `checkouts()` and Chromium. The tiny FLUX that draws coloured shapes stands in for
FLUX.1-dev.
"""

import sys
import tempfile
from pathlib import Path

from tests.comfy.browser import ComfyPage, browsing
from tests.comfy.checkouts import MISSING, ROOT, checkouts, version
from tests.comfy.server import PACK, Graph, started

IMAGES = ROOT / "docs" / "images"
EXAMPLE = "1 FLUX.1-dev in 5 steps"
BESIDE_EULER = "7 FLUX.1-dev beside euler"
SMALL = 64
"""Pixels, of the size at which the tiny FLUX draws."""
SOLVER = "preset: flux1-dev"
PLACES_OF_FIT = {
    "TestTrainedFlux": (0, 0, 260, 110),
    "DyWeightFit": (340, 0, 420, 860),
    "DyWeightKSampler": (840, 0, 360, 300),
    "VAEDecode": (840, 640, 360, 50),
    "PreviewImage": (1280, 0, 360, 400),
}
PLACES = {
    "UNETLoader": (0, 0, 330, 82),
    "DyWeightLoadSolver": (0, 200, 330, 130),
    "DyWeightApply": (420, 0, 330, 50),
    "DyWeightSampler": (420, 460, 330, 30),
    "DyWeightScheduler": (420, 570, 330, 110),
    "DyWeightPlot": (1250, 0, 440, 700),
    "KSampler": (840, 0, 330, 270),
    "SamplerCustomAdvanced": (840, 460, 330, 120),
}


def graph_of_other_nodes() -> Graph:
    """The two other ways from a solver to an image, and the plot."""
    graph = Graph()
    model = graph.add("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="default")
    solver, _ = graph.add("DyWeightLoadSolver", solver_name=SOLVER)
    applied = graph.add("DyWeightApply", model=model, solver=(solver, 0))
    settings = {"seed": 20, "steps": (solver, 1), "cfg": (solver, 2), "denoise": 1.0}
    graph.add("KSampler", model=applied, sampler_name="dyweight", scheduler="dyweight", **settings)
    sampler = graph.add("DyWeightSampler", solver=(solver, 0))
    sigmas = graph.add("DyWeightScheduler", model=model, solver=(solver, 0), denoise=1.0, steps=5)
    graph.add("SamplerCustomAdvanced", sampler=sampler, sigmas=sigmas)
    graph.add("DyWeightPlot", solver=(solver, 0), steps=5)
    return graph


def run_example(page: ComfyPage, name: str) -> None:
    """Open and run it, and show the whole of it with its previews."""
    page.open()
    page.open_template(PACK, name)
    page.shrink(SMALL)
    page.finish(page.run())
    page.close_pop_ups()
    page.show_all()


def take(page: ComfyPage, folder: Path) -> None:
    """All pictures."""
    page.open()
    page.command("Comfy.BrowseTemplates")
    page.page.get_by_role("dialog").get_by_text(PACK, exact=True).first.click()
    page.screenshot(folder / "comfyui-template.jpg")

    run_example(page, BESIDE_EULER)
    page.screenshot(folder / "comfyui-beside-euler.jpg")

    run_example(page, EXAMPLE)
    page.screenshot(folder / "comfyui-one-node.jpg")

    page.set_widget("DyWeightKSampler", "cfg", 3.5)
    page.show("DyWeightKSampler", scale=1.3)
    page.finish(page.run())
    page.screenshot(folder / "comfyui-note.jpg")

    page.open()
    page.load(graph_of_other_nodes())
    page.finish(page.run())
    page.close_pop_ups()
    page.place(PLACES)
    page.show_all()
    page.screenshot(folder / "comfyui-nodes.jpg")

    page.show("KSampler", scale=1.5)
    page.open_list("KSampler", "scheduler")
    page.screenshot(folder / "comfyui-lists.jpg")


def graph_of_a_fit() -> Graph:
    """The trained tiny FLUX, its fit, and a picture with the solver."""
    graph = Graph()
    source, _ = graph.add("TestTrainedFlux")
    links = {"model": (source, 0), "positive": (source, 1), "vae": (source, 2), "latent_image": (source, 3)}
    settings = {"steps": "5", "scheduler": "simple", "effort": "draft", "seed": 0, "name": "tiny-flux-%steps%"}
    solver = graph.add("DyWeightFit", cfg=1.0, **settings, **links)
    sampled = {"model": (source, 0), "positive": (source, 4), "negative": (source, 4), "latent_image": (source, 3)}
    own = {"solver_name": SOLVER, "steps": 0, "seed": 7, "cfg": 1.0, "denoise": 1.0}
    samples = graph.add("DyWeightKSampler", solver=solver, **own, **sampled)
    graph.add("PreviewImage", images=graph.add("VAEDecode", samples=samples, vae=(source, 2)))
    return graph


def take_fit(page: ComfyPage, folder: Path) -> None:
    """Fit Solver before, while and after it runs."""
    page.open()
    page.load(graph_of_a_fit())
    page.place(PLACES_OF_FIT)
    page.show_all()
    page.screenshot(folder / "comfyui-fit-before.jpg")
    run = page.run()
    page.page.wait_for_function("document.body.innerText.includes('Best so far')")
    page.page.wait_for_timeout(1500)  # for the first picture
    page.page.screenshot(path=folder / "comfyui-fit-while.jpg", type="jpeg", quality=75)
    page.finish(run, seconds=600)
    page.close_pop_ups()
    page.screenshot(folder / "comfyui-fit-after.jpg")


def main() -> None:
    found = sorted(checkouts(), key=lambda path: tuple(int(part) for part in version(path).split(".")))
    if not found:
        sys.exit(MISSING)
    with (
        tempfile.TemporaryDirectory() as folder,
        started(found[-1], Path(folder) / "base") as server,
        browsing(1700, 1000) as window,
    ):
        page = window(server)
        take(page, IMAGES)
        take_fit(page, IMAGES)


if __name__ == "__main__":
    main()
