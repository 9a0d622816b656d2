"""Small workflows and coefficient files for a server."""

import torch

from dyweight import DyWeight, save_solver, schedules
from tests.comfy.server import Graph, Server

STEPS = 5
DYWEIGHT = {"sampler_name": "dyweight", "scheduler": "dyweight"}


def write_solver(server: Server, name: str, family: str, seed: int, steps: int = STEPS, **made_for: object) -> str:
    """A coefficient file with seeded weights near the untrained ones; the answer is its name in the loader's list."""
    sigmas = schedules.vp_discrete(steps) if family == "sd15" else schedules.flow(steps, shift=3.0)
    if family == "sd15":
        sigmas = torch.cat([sigmas[:-1], sigmas.new_zeros(1)])
    solver = DyWeight(sigmas, order=3)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in (solver.weights, solver.time_scale):
            values += 0.02 * torch.randn(values.shape, generator=generator)
    save_solver(solver, server.base / "models" / "dyweight" / f"{name}.safetensors", made_for)
    return f"{name}.safetensors"


def loaded(graph: Graph, family: str, slow: float = 0.0) -> tuple[str, int]:
    """The link to a tiny model."""
    model = graph.add("UNETLoader", unet_name=f"tiny-{family}.safetensors", weight_dtype="default")
    return graph.add("TestSlowModel", model=model, seconds=slow) if slow else model


def with_ksampler(solver: str, family: str, steps: int = STEPS, slow: float = 0.0, **changed: object) -> Graph:
    """Model -> DyWeightApply -> KSamplerAdvanced -> picture and latent saved."""
    graph = Graph()
    model = loaded(graph, family, slow)
    applied = graph.add("DyWeightApply", model=model, solver=graph.add("DyWeightLoadSolver", solver_name=solver))
    inputs, _ = graph.add("TestInputs", family=family)
    settings = {"add_noise": "enable", "noise_seed": 7, "steps": steps, "cfg": 3.0, **DYWEIGHT}
    part = {"start_at_step": 0, "end_at_step": 10000, "return_with_leftover_noise": "disable"}
    links = {"model": applied, "positive": (inputs, 0), "negative": (inputs, 1), "latent_image": (inputs, 2)}
    return saved(graph, graph.add("KSamplerAdvanced", **{**settings, **part, **links, **changed}))


def with_custom_sampler(solver: str, family: str) -> Graph:
    """The same with DyWeightSampler, DyWeightScheduler and SamplerCustomAdvanced."""
    graph = Graph()
    model, solver_link = loaded(graph, family), graph.add("DyWeightLoadSolver", solver_name=solver)
    inputs, _ = graph.add("TestInputs", family=family)
    guider = graph.add("CFGGuider", model=model, positive=(inputs, 0), negative=(inputs, 1), cfg=3.0)
    links = {
        "noise": graph.add("RandomNoise", noise_seed=7),
        "guider": guider,
        "sampler": graph.add("DyWeightSampler", solver=solver_link),
        "sigmas": graph.add("DyWeightScheduler", model=model, solver=solver_link, denoise=1.0),
        "latent_image": (inputs, 2),
    }
    return saved(graph, graph.add("SamplerCustomAdvanced", **links))


def saved(graph: Graph, samples: tuple[str, int]) -> Graph:
    """With the picture and the latent written to the output folder."""
    graph.add("SaveImage", images=graph.add("TestPicture", samples=samples), filename_prefix="picture")
    graph.add("SaveLatent", samples=samples, filename_prefix="latent")
    return graph
