"""What ComfyUI has after it loaded the pack."""

import asyncio

import pytest
import torch
from sampling_tools import advanced, call, model, random_solver, sigmas_of

NAMES = ("KSampler", "LoadSolver", "Sampler", "Scheduler", "Apply", "Plot", "SaveSolver", "Fit", "Prompts")
IDS = {f"DyWeight{name}" for name in NAMES}


def test_all_nodes_are_registered_with_a_tooltip_on_every_input(node_classes):
    assert {name for name in node_classes if name.startswith("DyWeight")} == IDS
    for name in IDS:
        inputs = node_classes[name].INPUT_TYPES()
        for options in (*inputs.get("required", {}).values(), *inputs.get("optional", {}).values()):
            assert options[1].get("tooltip"), f"{name} has an input without a tooltip: {inputs}"


def test_sampler_and_scheduler_are_listed_once_and_last(node_classes):
    import comfy.samplers

    for names in (comfy.samplers.KSampler.SAMPLERS, comfy.samplers.KSampler.SCHEDULERS):
        assert names.count("dyweight") == 1
        assert names[-1] == "dyweight"


def test_loading_the_pack_again_changes_no_list_and_replaces_none(node_classes, pack):
    import comfy.samplers

    lists = (comfy.samplers.SAMPLER_NAMES, comfy.samplers.SCHEDULER_NAMES)
    before = [list(names) for names in lists]
    asyncio.run(pack.comfy_entrypoint())
    assert [list(names) for names in lists] == before
    assert comfy.samplers.SAMPLER_NAMES is lists[0]
    assert comfy.samplers.SCHEDULER_NAMES is lists[1]


def test_entries_of_other_packs_keep_their_place_before_and_after(pack):
    import comfy.samplers

    for names in (comfy.samplers.SAMPLER_NAMES, comfy.samplers.SCHEDULER_NAMES):
        before = list(names)
        others_copy = list(names)
        names.remove("dyweight")
        names.insert(names.index(before[2]) + 1, "theirs_in_the_middle")  # as RES4LYF does
        names.append("theirs_at_the_end")
        listed = list(names)
        try:
            asyncio.run(pack.comfy_entrypoint())
            names.append("theirs_later")
            asyncio.run(pack.comfy_entrypoint())
            assert names == [*listed, "dyweight", "theirs_later"]
            assert others_copy == before
        finally:
            names[:] = before


def test_a_list_that_another_pack_put_in_the_place_of_comfyuis_gets_the_name_too(pack, monkeypatch):
    import comfy.samplers

    for owner, attribute in ((comfy.samplers.KSampler, "SAMPLERS"), (comfy.samplers.KSampler, "SCHEDULERS")):
        theirs = [name for name in getattr(owner, attribute) if name != "dyweight"]
        monkeypatch.setattr(owner, attribute, theirs)
    asyncio.run(pack.comfy_entrypoint())
    for names in (comfy.samplers.KSampler.SAMPLERS, comfy.samplers.KSampler.SCHEDULERS):
        assert names.count("dyweight") == 1


def test_the_sampler_runs_after_another_pack_reloaded_comfyuis_samplers(pack):
    import importlib

    import comfy.k_diffusion.sampling as sampling
    import comfy.samplers

    tiny = model("sd3")
    applied = call("DyWeightApply", model=tiny, solver=random_solver(pack, sigmas_of(tiny, 4)))
    before = advanced(applied, "sd3", 4)
    importlib.reload(sampling)  # RES4LYF and others do that
    assert callable(comfy.samplers.sampler_object("dyweight").sampler_function)
    assert torch.equal(advanced(applied, "sd3", 4), before)


def test_loading_the_pack_changes_no_sampler_and_no_schedule_of_comfyui(pack):
    import comfy.k_diffusion.sampling
    import comfy.samplers

    functions = {n: f for n, f in vars(comfy.k_diffusion.sampling).items() if n.startswith("sample_")}
    handlers = dict(comfy.samplers.SCHEDULER_HANDLERS)
    asyncio.run(pack.comfy_entrypoint())
    for name, function in functions.items():
        assert getattr(comfy.k_diffusion.sampling, name) is function
        assert name == "sample_dyweight" or function.__module__ != pack.nodes.comfy_sampling.__name__
    others = {name for name in handlers if name != "dyweight"}
    assert all(comfy.samplers.SCHEDULER_HANDLERS[name] is handlers[name] for name in others)


def test_an_unknown_sampler_is_still_an_error(node_classes):
    import comfy.samplers

    with pytest.raises(AttributeError):
        comfy.samplers.sampler_object("dyweigh")
