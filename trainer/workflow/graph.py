"""A workflow in the API's format, with the fit in the place of its sampler."""

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from comfyui import schedulers
from comfyui.prompts import lines

from ..checkpoints.comfy.prompt_files import read_prompts
from ..options.workflow import WorkflowOptions
from ..run.errors import TrainerError

Graph = dict[str, dict[str, Any]]
"""Id -> class_type and inputs; an input is a value or a link, [id, output]."""
FIT, PROMPTS = "DyWeightFit", "DyWeightPrompts"
SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustomAdvanced", "DyWeightKSampler")
NO_SCHEDULER = {"", "dyweight"}
OF_A_NEW_FIT = ("steps", "effort", "seed", "name", "prompts", "count")


def read(path: Path) -> Graph:
    """Raises TrainerError where the file is no workflow in API format."""
    try:
        graph = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise TrainerError(f"--workflow {path}: it can't be read ({error})") from error
    nodes = graph.values() if isinstance(graph, dict) else []
    if not nodes or not all(isinstance(node, dict) and isinstance(node.get("inputs"), dict) for node in nodes):
        raise TrainerError(f"--workflow {path}: export it in API format (in ComfyUI's menu: Export (API))")
    return graph  # type: ignore[no-any-return]


def with_fit(graph: Graph, options: WorkflowOptions) -> tuple[Graph, str]:
    """(only what the fit needs, with the fit in the place of the sampler; the id of the fit).

    Two samplers that hand over, each with a model, become one fit of both. A workflow that has a fit is run as it is.
    Raises TrainerError where it is not clear which sampler is meant.
    """
    if fits := [name for name, node in graph.items() if node.get("class_type") == FIT]:
        name = options.node or fits[0]
        own = [one for one in fields(options) if one.name in OF_A_NEW_FIT]
        unread = [one.name for one in own if getattr(options, one.name) != one.default]
        if unread or name not in fits:
            wanted = ", ".join(f"--{one}" for one in unread) or f"--node {name}"
            raise TrainerError(f"{wanted}: leave it out, or set it in the workflow, whose Fit Solver is node {fits[0]}")
        return graph, name
    name, low = _sampler(graph, options)
    sampler = graph[name]["inputs"]
    given: dict[str, Any] = {
        "latent_image": sampler.get("latent_image"),
        "steps": ",".join(map(str, options.steps)) or str(_found(graph, name, "steps") or ""),
        "scheduler": _scheduler(graph, name),
        "effort": options.effort,
        "seed": options.seed,
        "name": options.name,
        "cfg": 1.0,
    }
    for field in ("model", "positive", "negative", "cfg", "guider"):
        if field in sampler:
            given[field] = sampler[field]
    if "guider" in given:
        given["positive"] = _positive(graph, given["guider"])
    if not given["steps"]:
        raise TrainerError(f"--steps: node {name} says no number of steps; give them here")
    if low is not None:
        given |= _second_half(graph, name, low)
    if (vae := _vae(graph, low or name)) is not None:
        given["vae"] = vae
    made = {**graph, name: {"class_type": FIT, "inputs": {key: one for key, one in given.items() if one is not None}}}
    return _needed(_several_prompts(made, name, options), name), name


def _sampler(graph: Graph, options: WorkflowOptions) -> tuple[str, str | None]:
    """The sampler, and the one to which it hands over, where they are those of a workflow with two models."""
    found = [name for name, node in graph.items() if node.get("class_type") in SAMPLERS]
    listed = ", ".join(f"{name} ({graph[name]['class_type']})" for name in found)
    if options.node is not None:
        if options.node not in found:
            raise TrainerError(f"--node {options.node}: give the id of a sampler: {listed or 'there is none'}")
        return options.node, None
    if len(found) == 2:
        for first, second in (found, found[::-1]):
            if _hands_over(graph, first, second):
                return first, second
    if len(found) != 1:
        raise TrainerError(f"--node: the workflow has {listed or 'no sampler that a fit knows'}; give the id of one")
    return found[0], None


def _hands_over(graph: Graph, first: str, second: str) -> bool:
    """Whether these are KSampler (Advanced) for the first and the last steps, with two models, as for Wan 2.2."""
    one, other = graph[first]["inputs"], graph[second]["inputs"]
    return (
        {graph[first]["class_type"], graph[second]["class_type"]} == {"KSamplerAdvanced"}
        and other.get("latent_image") == [first, 0]
        and one.get("return_with_leftover_noise") == "enable"
        and other.get("add_noise") == "disable"
        and _value(graph, first, "end_at_step") == _value(graph, second, "start_at_step")
        and one.get("model") != other.get("model")
    )


def _second_half(graph: Graph, first: str, second: str) -> dict[str, Any]:
    """What a fit of two models is given for the second one. Raises TrainerError where it needs what a fit has once."""
    for field in ("steps", "scheduler", "cfg", "positive", "negative"):
        if _value(graph, first, field) != _value(graph, second, field):
            raise TrainerError(
                f"--node: give nodes {first} and {second} the same {field} for a fit of both models, or the id of one "
                "here for a fit of its model alone"
            )
    step, steps = _value(graph, first, "end_at_step"), _value(graph, first, "steps")
    if isinstance(step, list) or isinstance(steps, list):
        raise TrainerError(f"--workflow: set steps and end_at_step of node {first} to numbers in the node itself")
    print(f"one fit for the models of nodes {first} and {second}, which change at step {step} of {steps}")
    return {"model_low": graph[second]["inputs"]["model"], "boundary": f"{step}/{steps}"}


def _value(graph: Graph, name: str, field: str) -> Any:
    """An input of a node; of one that is linked to a primitive node the value of that, of others the link."""
    value = graph[name]["inputs"].get(field)
    if isinstance(value, list) and value and value[0] in graph:
        return graph[value[0]]["inputs"].get("value", value)
    return value


def _links(node: dict[str, Any]) -> Iterator[str]:
    for value in node["inputs"].values():
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
            yield value[0]


def _upstream(graph: Graph, name: str) -> list[str]:
    """Nodes on which one depends, the nearest first."""
    found, waiting = list[str](), [*_links(graph[name])]
    while waiting:
        source = waiting.pop(0)
        if source in graph and source not in found:
            found.append(source)
            waiting += _links(graph[source])
    return found


def _found(graph: Graph, name: str, field: str) -> Any:
    """A value of the sampler, or of the nodes of its sigmas."""
    sigmas = graph[name]["inputs"].get("sigmas")
    around = [name] if sigmas is None else [sigmas[0], *_upstream(graph, sigmas[0])]
    values = [_value(graph, one, field) for one in around]
    return next((value for value in values if value is not None and not isinstance(value, list)), None)


def _scheduler(graph: Graph, name: str) -> str:
    kinds = {graph[one]["class_type"] for one in _upstream(graph, name)}
    for scheduler, one in schedulers.NODES.items():
        if one.node in kinds:
            return scheduler
    found = str(_found(graph, name, "scheduler") or "")
    return "simple" if found in NO_SCHEDULER else found


def _positive(graph: Graph, guider: list[Any]) -> Any:
    """The prompt of a guider that has one by this name, so that others can take its place."""
    inputs = graph[guider[0]]["inputs"]
    return inputs.get("positive") or inputs.get("conditioning")


def _vae(graph: Graph, name: str) -> Any:
    """The VAE that decodes what the sampler gives."""
    for node in graph.values():
        if node["class_type"].startswith("VAEDecode") and name in _links(node):
            return node["inputs"].get("vae")
    return None


def _several_prompts(graph: Graph, name: str, options: WorkflowOptions) -> Graph:
    """With many prompts in the place of the one text of the positive condition, where that has one plain encoder."""
    positive = graph[name]["inputs"].get("positive")
    if positive is None:
        return graph
    around = (positive[0], *_upstream(graph, positive[0]))
    encoders = [one for one in around if graph[one]["class_type"] == "CLIPTextEncode"]
    if len(encoders) != 1:
        print("warning: the prompts stay as they are: connect Prompts (DyWeight) in the workflow for several")
        return graph
    found = read_prompts(options.prompts) if options.prompts else []
    text = "\n".join(" ".join(lines(prompt)) for prompt in found)  # the node has a prompt a line
    inputs = {"clip": graph[encoders[0]]["inputs"]["clip"], "text": text, "count": options.count}
    return {**graph, encoders[0]: {"class_type": PROMPTS, "inputs": inputs}}


def _needed(graph: Graph, name: str) -> Graph:
    kept = {name, *_upstream(graph, name)}
    return {one: node for one, node in graph.items() if one in kept}
