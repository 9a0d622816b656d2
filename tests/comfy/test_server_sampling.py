"""Sampling through the server's API: both sampler nodes, several solvers, files that change, errors, cancelling."""

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tests.comfy.graphs import STEPS, loaded, saved, with_custom_sampler, with_ksampler, write_solver
from tests.comfy.server import Graph, RefusedError, Run, Server

ROUNDING = 1e-5


def latent_of(server: Server, graph: Graph) -> Tensor:
    """The latent that the graph saves."""
    run = server.run(graph)
    assert run.end == "execution_success", run.error
    (path,) = server.files(run, "latents")
    latent = safetensors.torch.load_file(path)["latent_tensor"]
    assert bool(latent.isfinite().all()) and float(latent.std()) > 0.01
    return latent


def same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("family", ["sd3", "sd15", "wan", "flux"])
def test_both_sampler_nodes_give_the_same_latent(server: Server, family: str) -> None:
    server.needs(family)
    name = write_solver(server, f"both-{family}", family, seed=3)
    assert same(latent_of(server, with_ksampler(name, family)), latent_of(server, with_custom_sampler(name, family)))


def test_the_picture_is_saved_and_progress_and_preview_come_once_a_step(server: Server) -> None:
    name = write_solver(server, "progress", "sd3", seed=4)
    run = server.run(with_ksampler(name, "sd3"))
    assert [path.suffix for path in server.files(run, "images")] == [".png"]
    (steps,) = run.progress.values()
    assert steps == [(step + 1, STEPS) for step in range(STEPS)]
    assert run.previews == STEPS


def test_two_solvers_in_a_row_give_what_each_gives_alone(server: Server) -> None:
    graphs = [with_ksampler(write_solver(server, f"row-{seed}", "sd3", seed), "sd3") for seed in (5, 6)]
    alone = []
    for graph in graphs:
        server.forget()
        alone.append(latent_of(server, graph))
    assert not same(*alone)
    server.forget()
    for seed in (7, 8):
        in_a_row = [latent_of(server, with_seed(graph, seed)) for graph in graphs]
        assert [same(a, b) for a, b in zip(alone, in_a_row, strict=True)] == [seed == 7] * 2


def with_seed(graph: Graph, seed: int) -> Graph:
    changed = Graph({name: {**node, "inputs": dict(node["inputs"])} for name, node in graph.items()})
    for node in changed.values():
        if "noise_seed" in node["inputs"]:
            node["inputs"]["noise_seed"] = seed
    return changed


def test_a_rewritten_file_is_read_again(server: Server) -> None:
    graph = with_ksampler(write_solver(server, "rewritten", "sd3", seed=9), "sd3")
    before = latent_of(server, graph)
    write_solver(server, "rewritten", "sd3", seed=10)
    after = latent_of(server, graph)
    assert not same(before, after)
    assert same(after, latent_of(server, with_ksampler(write_solver(server, "as-rewritten", "sd3", seed=10), "sd3")))


def test_a_name_outside_the_list_is_refused_by_name(server: Server) -> None:
    with pytest.raises(RefusedError, match=r"no coefficient file '\.\./outside\.safetensors'"):
        server.run(with_ksampler("../outside.safetensors", "sd3"))


def test_a_damaged_file_and_one_of_another_kind_are_refused_by_name(server: Server) -> None:
    folder = server.base / "models" / "dyweight"
    whole = (folder / write_solver(server, "whole", "sd3", seed=11)).read_bytes()
    (folder / "damaged.safetensors").write_bytes(whole[: len(whole) // 2])
    safetensors.torch.save_file({"weight": torch.zeros(2)}, folder / "a-lora.safetensors")
    for name in ("damaged.safetensors", "a-lora.safetensors"):
        with pytest.raises(RefusedError, match=name):
            server.run(with_ksampler(name, "sd3"))


def test_another_number_of_steps_is_an_error_that_says_which(server: Server) -> None:
    name = write_solver(server, "five-steps", "sd3", seed=12)
    run = server.run(with_ksampler(name, "sd3", steps=STEPS + 3, scheduler="simple"))
    assert run.end == "execution_error"
    assert "five-steps" in run.error and run.error.startswith(f"Set steps to {STEPS} and scheduler to dyweight")


def test_a_name_that_is_not_used_is_not_looked_for(server: Server) -> None:
    """With a solver connected, as in a workflow that somebody shares."""
    graph = Graph()
    inputs, _ = graph.add("TestInputs", family="sd3")
    links = {"positive": (inputs, 0), "negative": (inputs, 1), "latent_image": (inputs, 2)}
    settings = {"solver_name": "theirs.safetensors", "steps": 0, "seed": 7, "cfg": 1.0, "denoise": 1.0}
    own = write_solver(server, "connected", "sd3", seed=14)
    solver = graph.add("DyWeightLoadSolver", solver_name=own)
    node = graph.add("DyWeightKSampler", model=loaded(graph, "sd3"), solver=solver, **links, **settings)
    assert server.run(saved(graph, node)).end == "execution_success"


def test_interrupting_is_no_error_and_the_next_run_works(server: Server) -> None:
    name = write_solver(server, "interrupted", "sd3", seed=13)
    server.forget()
    expected = latent_of(server, with_ksampler(name, "sd3"))
    run = interrupted(server, with_ksampler(name, "sd3", slow=0.3))
    assert run.end == "execution_interrupted"
    kinds = [kind for kind, _ in run.history["status"]["messages"]]
    assert "execution_interrupted" in kinds and "execution_error" not in kinds
    (steps,) = run.progress.values()
    assert len(steps) < STEPS
    server.forget()
    assert same(latent_of(server, with_ksampler(name, "sd3")), expected)


def interrupted(server: Server, graph: Graph) -> Run:
    """The run of a graph that is interrupted in its second step."""
    return server.run(graph, lambda step: server.post("/interrupt", {}) if step == 2 else None)
