"""The fit in the place of a workflow's sampler."""

import json

import pytest

from comfyui import schedulers
from trainer.options.workflow import WorkflowOptions
from trainer.run.errors import TrainerError
from trainer.workflow.graph import read, with_fit


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def with_ksampler(**changed):
    return {
        "1": node("CheckpointLoaderSimple", ckpt_name="mine.safetensors"),
        "2": node("LoraLoader", model=["1", 0], clip=["1", 1], lora_name="style.safetensors"),
        "3": node("CLIPTextEncode", clip=["2", 1], text="a fox"),
        "4": node("CLIPTextEncode", clip=["2", 1], text="blurred"),
        "5": node("FluxGuidance", conditioning=["3", 0], guidance=3.5),
        "6": node("EmptyLatentImage", width=512, height=512, batch_size=1),
        "7": node(
            "KSampler",
            **{"model": ["2", 0], "positive": ["5", 0], "negative": ["4", 0], "latent_image": ["6", 0], "seed": 3},
            **{"steps": 8, "cfg": 4.0, "sampler_name": "euler", "scheduler": "karras", "denoise": 1.0, **changed},
        ),
        "8": node("VAEDecode", samples=["7", 0], vae=["1", 2]),
        "9": node("SaveImage", images=["8", 0]),
    }


def with_guider():
    graph = with_ksampler()
    graph["10"] = node("CFGGuider", model=["2", 0], positive=["5", 0], negative=["4", 0], cfg=4.0)
    graph["11"] = node("BasicScheduler", model=["2", 0], scheduler="beta", steps=6, denoise=1.0)
    sampler = {"noise": ["12", 0], "guider": ["10", 0], "sampler": ["13", 0], "sigmas": ["11", 0]}
    graph["7"] = node("SamplerCustomAdvanced", **sampler, latent_image=["6", 0])
    graph["12"], graph["13"] = node("RandomNoise", noise_seed=1), node("KSamplerSelect", sampler_name="euler")
    return graph


def with_two_models(first=None, second=None):
    """As ComfyUI's template for Wan 2.2 has them."""
    graph = {name: one for name, one in with_ksampler().items() if name != "7"}
    graph["10"] = node("UNETLoader", unet_name="wan-high.safetensors")
    graph["11"] = node("UNETLoader", unet_name="wan-low.safetensors")
    links = {"positive": ["3", 0], "negative": ["4", 0]}
    common = {**links, "steps": 20, "cfg": 3.5, "sampler_name": "euler", "scheduler": "simple", "noise_seed": 1}
    high = {"model": ["10", 0], "latent_image": ["6", 0], "add_noise": "enable", "start_at_step": 0, "end_at_step": 10}
    low = {"model": ["11", 0], "latent_image": ["12", 0], "add_noise": "disable"}
    low |= {"start_at_step": 10, "end_at_step": 10000, "return_with_leftover_noise": "disable"}
    high["return_with_leftover_noise"] = "enable"
    graph["7"] = node("KSamplerAdvanced", **{**common, **low, **(second or {})})
    graph["12"] = node("KSamplerAdvanced", **{**common, **high, **(first or {})})
    return graph


def options(**given):
    return WorkflowOptions(workflow="unused", **given)


def test_a_ksampler_becomes_a_fit_of_its_model_with_several_prompts():
    graph, name = with_fit(with_ksampler(), options(effort="draft", seed=5))
    fit = graph[name]
    expected = {"model": ["2", 0], "positive": ["5", 0], "negative": ["4", 0], "latent_image": ["6", 0], "cfg": 4.0}
    expected |= {"steps": "8", "scheduler": "karras", "effort": "draft", "seed": 5, "vae": ["1", 2]}
    assert fit == node("DyWeightFit", **expected, name="%model%-%steps%")
    assert graph["3"] == node("DyWeightPrompts", clip=["2", 1], text="", count=16)
    assert graph["4"] == with_ksampler()["4"] and graph["5"] == with_ksampler()["5"]
    assert set(graph) == {"1", "2", "3", "4", "5", "6", "7"}, "what the fit does not need is left out"


def test_a_guider_stays_and_its_sigmas_name_scheduler_and_steps():
    graph, name = with_fit(with_guider(), options())
    inputs = graph[name]["inputs"]
    assert inputs["guider"] == ["10", 0] and inputs["positive"] == ["5", 0] and "model" not in inputs
    assert (inputs["steps"], inputs["scheduler"]) == ("6", "beta")
    assert {"12", "13", "11"}.isdisjoint(graph)


def test_steps_and_prompts_of_the_command_line_come_first(tmp_path):
    (tmp_path / "mine.txt").write_text("one\ntwo\n")
    graph, name = with_fit(with_ksampler(), options(steps=(4, 6), prompts=tmp_path / "mine.txt"))
    assert graph[name]["inputs"]["steps"] == "4,6" and graph["3"]["inputs"]["text"] == "one\ntwo"


def test_a_caption_of_several_lines_stays_one_prompt(tmp_path):
    (tmp_path / "mine.jsonl").write_text('{"prompt": "a fox\\nin snow"}\n{"prompt": "two\\u2028hares"}\n')
    graph, _ = with_fit(with_ksampler(), options(prompts=tmp_path / "mine.jsonl"))
    assert graph["3"]["inputs"]["text"] == "a fox in snow\ntwo\u2028hares"


@pytest.mark.parametrize(("name", "scheduler"), [(one.node, name) for name, one in schedulers.NODES.items()])
def test_a_scheduler_that_is_a_node_has_the_trainers_name(name, scheduler):
    sigmas = {"11": node(name, steps=6, width=512, height=512)}
    graph, fit = with_fit({**with_guider(), **sigmas}, options())
    assert graph[fit]["inputs"]["scheduler"] == scheduler


def test_a_scheduler_of_this_pack_is_none_to_begin_with():
    graph, name = with_fit(with_ksampler(scheduler="dyweight"), options())
    assert graph[name]["inputs"]["scheduler"] == "simple"


def test_a_workflow_with_a_fit_is_run_as_it_is():
    graph = {**with_ksampler(), "20": node("DyWeightFit", model=["2", 0])}
    assert with_fit(graph, options()) == (graph, "20")
    two = {**graph, "21": node("DyWeightFit", model=["2", 0])}
    assert with_fit(two, options(node="21")) == (two, "21")
    with pytest.raises(TrainerError, match=r"--steps, --effort: leave it out, or set it .* node 20"):
        with_fit(graph, options(steps=(4,), effort="draft"))
    with pytest.raises(TrainerError, match="--node 7: leave it out"):
        with_fit(graph, options(node="7"))


def test_which_sampler_is_meant_must_be_clear():
    two = {**with_ksampler(), "17": with_ksampler()["7"]}
    with pytest.raises(TrainerError, match=r"--node: the workflow has 7 \(KSampler\), 17 \(KSampler\)"):
        with_fit(two, options())
    assert with_fit(two, options(node="17"))[1] == "17"
    with pytest.raises(TrainerError, match="--node 8: give the id of a sampler: 7"):
        with_fit(with_ksampler(), options(node="8"))
    with pytest.raises(TrainerError, match="no sampler that a fit knows"):
        with_fit({"1": node("LoadImage", image="a.png")}, options())


def test_two_models_that_hand_over_become_one_fit_of_both(capsys):
    graph, name = with_fit(with_two_models(), options(steps=(4,)))
    inputs = graph[name]["inputs"]
    assert (inputs["model"], inputs["model_low"], inputs["boundary"]) == (["10", 0], ["11", 0], "10/20")
    assert (inputs["latent_image"], inputs["vae"], inputs["cfg"]) == (["6", 0], ["1", 2], 3.5)
    assert (inputs["steps"], inputs["scheduler"]) == ("4", "simple")
    assert {"10", "11"} <= set(graph) and "7" not in graph
    assert "nodes 12 and 7, which change at step 10 of 20" in capsys.readouterr().out
    alone = with_fit(with_two_models(), options(node="7"))[0]["7"]["inputs"]
    assert alone["model"] == ["11", 0] and not {"model_low", "boundary"} & alone.keys()


def test_steps_of_a_primitive_node_count_as_if_they_stood_in_the_sampler():
    primitives = {"30": node("PrimitiveInt", value=6), "31": node("PrimitiveInt", value=3)}
    linked = {"steps": ["30", 0]}
    two = with_two_models({**linked, "end_at_step": ["31", 0]}, {**linked, "start_at_step": ["31", 0]})
    graph, name = with_fit({**two, **primitives}, options())
    assert (graph[name]["inputs"]["steps"], graph[name]["inputs"]["boundary"]) == ("6", "3/6")
    with pytest.raises(TrainerError, match="set steps and end_at_step of node 12 to numbers"):
        with_fit(two, options(steps=(4,)))


@pytest.mark.parametrize(
    ("field", "other"),
    [("steps", 8), ("scheduler", "beta"), ("cfg", 1.0), ("positive", ["4", 0]), ("negative", ["3", 0])],
)
def test_what_a_fit_has_once_must_be_the_same_for_both_models(field, other):
    with pytest.raises(TrainerError, match=f"give nodes 12 and 7 the same {field} for a fit of both"):
        with_fit(with_two_models({}, {field: other}), options())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"end_at_step": 9}, {}),
        ({"return_with_leftover_noise": "disable"}, {}),
        ({}, {"add_noise": "enable"}),
        ({}, {"latent_image": ["6", 0]}),
        ({}, {"model": ["10", 0]}),
    ],
)
def test_two_samplers_that_are_no_two_halves_are_two_samplers(first, second):
    with pytest.raises(TrainerError, match="--node: the workflow has 7"):
        with_fit(with_two_models(first, second), options())


def test_steps_that_another_node_gives_must_be_named():
    with pytest.raises(TrainerError, match="--steps: node 7 says no number of steps"):
        with_fit(with_ksampler(steps=["30", 0]), options())


@pytest.mark.parametrize("content", ["{", "[]", "{}", json.dumps({"nodes": [], "links": []})])
def test_a_file_that_is_no_workflow_in_api_format_says_how_to_get_one(content, tmp_path):
    path = tmp_path / "workflow.json"
    path.write_text(content)
    with pytest.raises(TrainerError, match="--workflow"):
        read(path)
