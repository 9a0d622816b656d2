"""Graphs with a mistake that people make, and right ones: each with what the page has to say in its run."""

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.comfy.graphs import DYWEIGHT, STEPS, loaded, saved, with_ksampler, write_solver
from tests.comfy.server import Graph, Server

FAMILY = "sd3"
MADE_FOR = {"model_family": "SD3", "prediction_type": "flow", "cfg": 1.0, "shape": [16, 8, 8]}
RIGHT = "right.safetensors"


class Case(NamedTuple):
    graph: Callable[[Server], Graph]
    said: tuple[str, ...] = ()
    """The beginning of each sentence on the page, in any order."""
    family: str = FAMILY


def write_files(server: Server) -> None:
    """The files that the graphs load, and no other."""
    folder = server.base / "models" / "dyweight"
    for old in folder.glob("*.safetensors"):
        old.unlink()
    write_solver(server, "right", "sd3", seed=1, **MADE_FOR)
    write_solver(server, "for-3", "sd3", seed=2, steps=3, **MADE_FOR)
    write_solver(server, "for-7", "sd3", seed=3, steps=7, **MADE_FOR)
    write_solver(server, "one-of-two", "sd3", seed=4, steps=6, **MADE_FOR)
    write_solver(server, "two-of-two", "sd3", seed=6, steps=6, **MADE_FOR)
    write_solver(server, "guided", "flux", seed=5, **{**MADE_FOR, "model_family": "Flux", "guidance": 3.5})


def _ksampler(solver: str = RIGHT, family: str = FAMILY, **changed: object) -> Graph:
    """Model -> Load Solver, Apply Solver -> KSampler, all as the file says."""
    graph = Graph()
    model = loaded(graph, family)
    model = graph.add("DyWeightApply", model=model, solver=graph.add("DyWeightLoadSolver", solver_name=solver))
    return _sampled(graph, model, family, **changed)


def _sampled(graph: Graph, model: tuple[str, int], family: str = FAMILY, **changed: object) -> Graph:
    inputs, _ = graph.add("TestInputs", family=family)
    links = {"model": model, "positive": (inputs, 0), "negative": (inputs, 1), "latent_image": (inputs, 2)}
    settings = {"seed": 7, "steps": STEPS, "cfg": 1.0, "denoise": 1.0, **DYWEIGHT}
    return saved(graph, graph.add("KSampler", **{**settings, **links, **changed}))


def _damaged(server: Server, graph: Graph) -> Graph:
    """With half a file in the folder of solvers."""
    file = server.base / "models" / "dyweight" / write_solver(server, "damaged", FAMILY, seed=6)
    file.write_bytes(file.read_bytes()[:-9])
    return graph


def _without_apply(steps: int = STEPS, **changed: object) -> Graph:
    graph = Graph()
    return _sampled(graph, loaded(graph, FAMILY), steps=steps, **changed)


def _two_applies(first: str = RIGHT, second: str = RIGHT) -> Graph:
    graph = Graph()
    model = loaded(graph, FAMILY)
    for name in (first, second):
        model = graph.add("DyWeightApply", model=model, solver=graph.add("DyWeightLoadSolver", solver_name=name))
    return _sampled(graph, model)


def _model_sampling(after: bool) -> Graph:
    graph = Graph()
    model, solver = loaded(graph, FAMILY), graph.add("DyWeightLoadSolver", solver_name=RIGHT)
    for turn in (False, True):
        if turn is after:
            model = graph.add("ModelSamplingSD3", model=model, shift=3.0)
        else:
            model = graph.add("DyWeightApply", model=model, solver=solver)
    return _sampled(graph, model)


def _one_node(**changed: object) -> Graph:
    """KSampler (DyWeight), all as the file says."""
    graph = Graph()
    inputs, _ = graph.add("TestInputs", family=FAMILY)
    links = {"positive": (inputs, 0), "negative": (inputs, 1), "latent_image": (inputs, 2)}
    settings = {"model": loaded(graph, FAMILY), "solver_name": RIGHT, "steps": 0, "seed": 7, "cfg": 1.0, "denoise": 1.0}
    return saved(graph, graph.add("DyWeightKSampler", **{**settings, **links, **changed}))


def _larger(solver: str = RIGHT) -> Graph:
    """At twice the size of the file."""
    graph = _ksampler(solver)
    size = graph.add("EmptySD3LatentImage", width=128, height=128, batch_size=1)
    _only(graph, "KSampler")["latent_image"] = size
    return graph


def _guidance(value: float) -> Graph:
    graph = _ksampler("guided.safetensors", "flux")
    sampler = _only(graph, "KSampler")
    sampler["positive"] = graph.add("FluxGuidance", conditioning=sampler["positive"], guidance=value)
    return graph


def _custom(
    sampler: str = RIGHT, sigmas: str = RIGHT, basic: tuple[str, int] | None = None, select: str | None = None
) -> Graph:
    """SamplerCustomAdvanced with the nodes of the pack. basic: scheduler and steps of BasicScheduler instead.

    select: the name of a sampler in KSamplerSelect instead, with Apply Solver.
    """
    graph = Graph()
    model = loaded(graph, FAMILY)
    load = {name: graph.add("DyWeightLoadSolver", solver_name=name) for name in {sampler, sigmas}}
    if select:
        model = graph.add("DyWeightApply", model=model, solver=load[sampler])
    inputs, _ = graph.add("TestInputs", family=FAMILY)
    if basic:
        schedule = graph.add("BasicScheduler", model=model, scheduler=basic[0], steps=basic[1], denoise=1.0)
    else:
        # Without a value for steps the page would take that of a node of the same number in the graph before.
        schedule = graph.add("DyWeightScheduler", model=model, solver=load[sigmas], denoise=1.0, steps=0)
    chosen = graph.add("KSamplerSelect", sampler_name=select) if select else None
    links = {
        "noise": graph.add("RandomNoise", noise_seed=7),
        "guider": graph.add("CFGGuider", model=model, positive=(inputs, 0), negative=(inputs, 1), cfg=1.0),
        "sampler": chosen or graph.add("DyWeightSampler", solver=load[sampler]),
        "sigmas": schedule,
        "latent_image": (inputs, 2),
    }
    return saved(graph, graph.add("SamplerCustomAdvanced", **links))


def _split() -> Graph:
    """Two halves with KSampler (Advanced)."""
    graph = with_ksampler(RIGHT, FAMILY, cfg=1.0, end_at_step=2, return_with_leftover_noise="enable")
    name = next(name for name, node in graph.items() if node["class_type"] == "KSamplerAdvanced")
    first = graph[name]["inputs"]
    changed = {"add_noise": "disable", "start_at_step": 2, "end_at_step": 10000, "latent_image": (name, 0)}
    second = graph.add("KSamplerAdvanced", **{**first, **changed, "return_with_leftover_noise": "disable"})
    return saved(graph, second)


def _only(graph: Graph, kind: str) -> dict[str, Any]:
    """The inputs of the one node of a type."""
    (inputs,) = [node["inputs"] for node in graph.values() if node["class_type"] == kind]
    found: dict[str, Any] = inputs
    return found


STEPS_ERROR = f"Set steps to {STEPS} and scheduler to dyweight: right is not for "
CASES = {
    "right": Case(lambda server: _ksampler()),
    "euler, simple": Case(lambda s: _ksampler(sampler_name="euler", scheduler="simple"), ("Set sampler_name to",)),
    "euler, dyweight": Case(lambda s: _ksampler(sampler_name="euler"), ("Set sampler_name to dyweight",)),
    "two applies": Case(lambda s: _two_applies(), ("Remove one Apply Solver",)),
    "two applies, other steps": Case(
        lambda s: _two_applies(second="for-3.safetensors"), ("Remove one Apply Solver", "Set steps to 3 and")
    ),
    "model sampling after apply": Case(lambda s: _model_sampling(after=True), ("Move the ModelSampling node",)),
    "model sampling before apply": Case(lambda s: _model_sampling(after=False)),
    "no apply, one file": Case(lambda s: _without_apply()),
    "no apply, two files": Case(lambda s: _without_apply(6), ("Choose a file with Load Solver",)),
    "no apply, no file": Case(lambda s: _without_apply(9), ("Set steps to those of a file", "Give the model its file")),
    "another family": Case(
        lambda s: _ksampler("preset: sd15-8-steps", steps=8), ("Choose another file: sd15 is for SD15",)
    ),
    "a preset at another size": Case(
        lambda s: _ksampler("preset: sd15-8-steps", "sd15", steps=8, cfg=7.5), ("Set the size to 512 x 512 px",), "sd15"
    ),
    "another size": Case(lambda s: _larger(), ("Set the size to 64 x 64 px: right was made for it, not for 128",)),
    "another cfg": Case(lambda s: _ksampler(cfg=3.0), ("Set cfg to 1: right was made with it, not with 3",)),
    "another guidance": Case(lambda s: _guidance(1.0), ("Set guidance to 3.5",), "flux"),
    "the guidance of the file": Case(lambda s: _guidance(3.5), (), "flux"),
    "scheduler normal": Case(lambda s: _ksampler(scheduler="normal"), ("Set scheduler to dyweight",)),
    "scheduler karras": Case(lambda s: _ksampler(scheduler="karras"), ("Set scheduler to dyweight",)),
    "denoise 0.5": Case(lambda s: _ksampler(denoise=0.5), (f"Set steps so that steps / denoise is {STEPS}",)),
    "denoise 0.6 at 3 steps": Case(lambda s: _ksampler(denoise=0.6, steps=3)),
    "20 steps": Case(lambda s: _ksampler(steps=20), (f"{STEPS_ERROR}20",)),
    "6 steps": Case(lambda s: _ksampler(steps=6), (f"{STEPS_ERROR}6",)),
    "4 steps": Case(lambda s: _ksampler(steps=4), (f"{STEPS_ERROR}4",)),
    "sampler and scheduler of two files": Case(lambda s: _custom(sigmas="for-7.safetensors"), (f"{STEPS_ERROR}7",)),
    "8 basic steps": Case(lambda s: _custom(basic=("simple", 8)), (f"{STEPS_ERROR}8",)),
    "5 basic steps": Case(lambda s: _custom(basic=("simple", STEPS))),
    "custom": Case(lambda s: _custom()),
    "custom, euler behind apply": Case(lambda s: _custom(select="euler"), ("Set sampler_name to dyweight",)),
    "custom, dyweight behind apply": Case(lambda s: _custom(select="dyweight")),
    "split steps": Case(lambda s: _split()),
    "one node": Case(lambda s: _one_node()),
    "one node, denoise 0.5": Case(lambda s: _one_node(denoise=0.5)),
    "one node, another cfg": Case(lambda s: _one_node(cfg=3.0), ("Set cfg to 1",)),
    "one node, another family": Case(
        lambda s: _one_node(solver_name="preset: sd15-8-steps", cfg=7.5), ("Choose another file: sd15",)
    ),
    "one node, a missing file": Case(lambda s: _one_node(solver_name="lost"), ("Choose another file",)),
    "a missing file": Case(
        lambda s: _ksampler("missing.safetensors"), ("Choose another file: there is no coefficient file",)
    ),
    "a damaged file": Case(lambda s: _damaged(s, _ksampler("damaged.safetensors")), ("Choose another file: ",)),
    "a damaged file beside the one that fits": Case(
        lambda s: _damaged(s, _without_apply()), ("Remove or replace a file in models/dyweight",)
    ),
}
