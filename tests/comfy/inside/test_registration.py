"""What ComfyUI has after it loaded the pack."""

import asyncio

import pytest

IDS = {"DyWeightLoadSolver", "DyWeightSampler", "DyWeightScheduler", "DyWeightApply", "DyWeightPlot"}


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


def test_a_copied_list_of_another_pack_stays_as_it_is_and_a_reloaded_module_keeps_the_sampler(node_classes):
    import importlib

    import comfy.k_diffusion.sampling as sampling
    import comfy.samplers

    importlib.reload(sampling)  # RES4LYF and others do that
    assert callable(comfy.samplers.sampler_object("dyweight").sampler_function)


def test_an_unknown_sampler_is_still_an_error(node_classes):
    import comfy.samplers

    with pytest.raises(AttributeError):
        comfy.samplers.sampler_object("dyweigh")
