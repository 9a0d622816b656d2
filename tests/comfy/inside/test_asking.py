"""What everything in ComfyUI that reads a noise level is shown: that of the state, as it stands in `sample_sigmas`."""

import gc
import importlib
import weakref

import pytest
import tiny_models
import torch
from sample_solvers import KINDS, for_model
from sampling_tools import (
    FAMILIES,
    call,
    custom,
    difference,
    guided,
    latent,
    model,
    random_solver,
    select,
    sigmas_of,
    watch_network,
    wrapping,
)
from test_presets import PRESETS

pytestmark = pytest.mark.usefixtures("pack")
FLUX_PRESETS = [name for name, family, _ in PRESETS if family == "flux"]


class Watch:
    """What stands around the network and what reaches it, call by call."""

    def __init__(self, tiny):
        self.seen, self.asked, self.options, self.tables = [], [], [], []
        tiny.set_model_unet_function_wrapper(self.around)
        watch_network(tiny, lambda x, sigma: self.asked.append(sigma.clone()))

    def around(self, apply, args):
        options = args["c"]["transformer_options"]
        assert torch.equal(options["sigmas"].repeat(len(args["cond_or_uncond"])), args["timestep"])
        self.seen.append(options["sigmas"].clone())
        self.tables.append(options["sample_sigmas"].clone())
        self.options.append(id(options["sample_sigmas"]))
        return apply(args["input"], args["timestep"], **args["c"])


def preset_of(name, family):
    """(MODEL, solver, SAMPLER, SIGMAS) of a preset."""
    tiny, solver = model(family), call("DyWeightLoadSolver", solver_name=name)
    sigmas = call("DyWeightScheduler", model=tiny, solver=solver, denoise=1.0)
    return tiny, solver, call("DyWeightSampler", solver=solver), sigmas


def look_ups(sigma, table):
    """The step by the three ways in which packs look it up."""
    exact = (table == sigma).nonzero().flatten().tolist()
    close = torch.isclose(table, sigma, rtol=1e-4).nonzero().flatten().tolist()
    between = [i for i in range(len(table) - 1) if table[i] >= sigma > table[i + 1]]
    return exact, close, between


@pytest.mark.parametrize(("name", "family", "cfg"), PRESETS)
def test_every_preset_is_seen_to_do_its_steps_in_order(name, family, cfg):
    tiny, solver, sampler, sigmas = preset_of(name, family)
    watch = Watch(tiny)
    custom(tiny, family, sampler, sigmas, cfg=cfg)
    assert len(watch.seen) == solver.steps
    for step, (sigma, table) in enumerate(zip(watch.seen, watch.tables, strict=True)):
        assert len(table) == solver.steps + 1
        assert table[-1] == sigmas[-1]
        assert look_ups(sigma[0], table) == ([step], [step], [step])
    assert len(set(watch.options)) == 1  # packs take another table for another run
    asked = torch.stack([sigma[0] for sigma in watch.asked])
    assert torch.equal(asked, solver.plan().query_sigmas.float())


@pytest.mark.parametrize("cfg", [1.0, 4.0])
@pytest.mark.parametrize("kind", KINDS)
def test_samples_with_schedules_of_their_own_are_shown_their_own_levels(pack, kind, cfg):
    """And all look the step up by the first of them, as ComfyUI does."""
    tiny = model("sd3")
    solver = for_model(pack, kind, "sd3", tiny, condition_width=0)
    watch = Watch(tiny)
    noise = torch.randn(3, 16, 8, 8, generator=torch.Generator().manual_seed(4))
    guided(tiny, "sd3", call("DyWeightSampler", solver=solver), solver.sigmas.float(), noise, cfg)
    plan = solver.plan(noise=noise)
    for step, sigma in enumerate(watch.seen):
        assert torch.equal(sigma, plan.sigmas[:, step].float())
        assert look_ups(sigma[0], watch.tables[step])[0] == [step]
    rows = [sigma for sigma in watch.asked]
    assert [len(row) for row in rows] == [3 * (1 + (cfg > 1))] * solver.steps
    for step, row in enumerate(rows):
        torch.testing.assert_close(row, plan.query_sigmas[:, step].float().repeat(len(row) // 3), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("name", "family", "cfg"), PRESETS)
def test_a_range_of_all_percents_changes_nothing(name, family, cfg):
    tiny, _, sampler, sigmas = preset_of(name, family)
    noise = torch.randn(latent(family)["samples"].shape, generator=torch.Generator().manual_seed(1))
    ranged = call("ConditioningSetTimestepRange", conditioning=tiny_models.conditioning(family), start=0.0, end=1.0)
    ends = []
    for positive in (tiny_models.conditioning(family), ranged):
        guider = call("CFGGuider", model=tiny, positive=positive, negative=tiny_models.conditioning(family, 2), cfg=cfg)
        with torch.inference_mode():
            ends.append(guider.sample(noise, noise * 0, sampler, sigmas, disable_pbar=True, seed=3))
    assert difference(*ends) < 1e-6


@pytest.mark.parametrize("name", FLUX_PRESETS)
def test_a_controlnet_from_0_percent_runs_in_every_step(name):
    tiny, solver, sampler, sigmas = preset_of(name, "flux")
    net, levels = tiny_models.control_net_flux(tiny), []
    net.control_model.register_forward_hook(lambda *args, **kwargs: levels.append(args))
    positive, negative = (tiny_models.conditioning("flux", seed) for seed in (1, 2))
    image = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    run = {"control_net": net, "image": image, "strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
    controlled = call("ControlNetApplyAdvanced", positive=positive, negative=negative, **run)
    noise = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(1))
    ends = []
    for condition in (controlled, positive):
        guider = call("BasicGuider", model=tiny, conditioning=condition)
        with torch.inference_mode():
            ends.append(guider.sample(noise, noise * 0, sampler, sigmas, disable_pbar=True, seed=3))
    assert len(levels) == solver.steps
    assert difference(*ends) > 0.01


@pytest.mark.parametrize(("name", "family", "cfg"), PRESETS[1:4])
def test_temporal_score_rescaling_is_finite(name, family, cfg):
    tiny, _, sampler, sigmas = preset_of(name, family)
    rescaled = call("TemporalScoreRescaling", model=tiny, tsr_k=0.95, tsr_sigma=1.0)
    end = custom(rescaled, family, sampler, sigmas, cfg=cfg)
    assert torch.isfinite(end).all()
    assert difference(end, custom(tiny, family, sampler, sigmas, cfg=cfg)) > 1e-6


def test_context_windows_move_from_step_to_step(pack):
    """As with euler: the windows of the uniform schedule are others in each step."""
    import comfy.context_windows as windows

    tiny = model("wan")
    solver, steps = random_solver(pack, sigmas_of(tiny, 4)), {}
    windowed = call(
        "ContextWindowsManual",
        model=tiny,
        context_length=4,
        context_overlap=2,
        context_schedule=windows.ContextSchedules.UNIFORM_STANDARD,
        context_stride=1,
        closed_loop=False,
        fuse_method=windows.ContextFuseMethods.PYRAMID,
        dim=2,
        freenoise=False,
    )
    handler, long = windowed.model_options["context_handler"], {"samples": torch.zeros(1, 16, 9, 8, 8)}
    found = handler.context_schedule.func
    for name, sampler in (("euler", select("euler")), ("learned", call("DyWeightSampler", solver=solver))):
        steps[name] = []

        def told(*args, name=name):
            steps[name].append((handler._step, found(*args)))
            return found(*args)

        object.__setattr__(handler.context_schedule, "func", told)
        end = custom(windowed, "wan", sampler, solver.sigmas.float(), latent_image=long)
        assert torch.isfinite(end).all()
    assert [step for step, _ in steps["learned"]] == [0, 1, 2, 3]
    assert steps["learned"] == steps["euler"]


@pytest.mark.parametrize("learned", [True, False])
def test_a_mean_flow_network_is_told_the_next_level_in_every_step(pack, learned):
    tiny = model("hunyuan")
    solver, told = random_solver(pack, sigmas_of(tiny, 5)), []
    hook = tiny.model.diffusion_model.time_r_in.register_forward_hook(lambda *args: told.append(1))
    sampler = call("DyWeightSampler", solver=solver) if learned else select("euler")
    custom(tiny, "hunyuan", sampler, solver.sigmas.float())
    hook.remove()
    assert len(told) == 5


@pytest.mark.parametrize(("name", "family", "cfg"), PRESETS)
def test_guidance_by_step_of_another_pack_finds_its_step(name, family, cfg):
    """CFG-Zero's zero initialisation: the first step's prediction is dropped, and only that."""
    tiny, _, sampler, sigmas = preset_of(name, family)
    zeroed = []

    def first_step_to_zero(args):
        table = args["model_options"]["transformer_options"]["sample_sigmas"]
        (step,) = (table == args["sigma"][0]).nonzero().flatten().tolist()
        zeroed.append(step == 0)
        return args["denoised"] * (step > 0)

    tiny.set_model_sampler_post_cfg_function(first_step_to_zero)
    custom(tiny, family, sampler, sigmas, cfg=cfg)
    assert zeroed == [True] + [False] * (len(sigmas) - 2)


@pytest.mark.parametrize("node", ["EasyCache", "LazyCache"])
def test_caches_reuse_as_many_steps_as_with_euler(pack, node):
    """A solver with Euler's weights, asked off its states, so that only what the cache is shown can differ."""
    tiny = model("flux")
    solver = pack.dyweight.DyWeight(sigmas_of(tiny, 8).double(), initial="euler").requires_grad_(False)
    settings = {"reuse_threshold": 0.2, "start_percent": 0.0, "end_percent": 0.95, "verbose": False}
    calls = {}
    for name, sampler in (("euler", select("euler")), ("learned", call("DyWeightSampler", solver=solver))):
        cached, count = call(node, model=tiny, **settings), []
        hook = tiny.model.diffusion_model.final_layer.register_forward_hook(lambda *args, count=count: count.append(1))
        end = custom(cached, "flux", sampler, solver.sigmas.float())
        hook.remove()
        assert torch.isfinite(end).all()
        calls[name] = len(count)
    assert calls["learned"] == calls["euler"] < 8


@pytest.mark.parametrize("factor", [0.95, 1.0, 1.03])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_sampler_that_wraps_this_one_changes_what_the_network_is_asked_by_the_same_factor(pack, family, factor):
    tiny = model(family)
    solver = random_solver(pack, sigmas_of(tiny, 4))
    watch = Watch(tiny)
    custom(tiny, family, wrapping(call("DyWeightSampler", solver=solver), factor), solver.sigmas.float())
    plan = solver.plan()
    shown, asked = (torch.stack([sigma[0] for sigma in sigmas]) for sigmas in (watch.seen, watch.asked))
    torch.testing.assert_close(shown, factor * plan.sigmas[:-1].float(), rtol=1e-6, atol=0)
    torch.testing.assert_close(asked, factor * plan.query_sigmas.float(), rtol=1e-6, atol=0)


def test_nothing_stays_behind_on_the_model(pack):
    tiny = model("sd3")
    solver, before = random_solver(pack, sigmas_of(tiny, 3)), repr(tiny.model_options)
    custom(tiny, "sd3", call("DyWeightSampler", solver=solver), solver.sigmas.float())
    assert repr(tiny.model_options) == before
    assert not tiny.wrappers.get("apply_model")
    assert "sample_sigmas" not in tiny.model_options.get("transformer_options", {})


@pytest.mark.parametrize("learned", [True, False])
def test_a_model_goes_when_its_last_user_goes(pack, learned):
    """Without the garbage collector: ComfyUI calls a model that only a cycle holds a memory leak."""
    import comfy.model_management
    import comfy.sd

    tiny = comfy.sd.load_diffusion_model_state_dict(tiny_models.state_dict("sd3"))
    sampler = select("euler")
    if learned:
        sampler = call("DyWeightSampler", solver=random_solver(pack, sigmas_of(tiny, 3)))
    custom(tiny, "sd3", sampler, sigmas_of(tiny, 3))
    comfy.model_management.unload_all_models()
    gc.collect()
    gc.disable()
    try:
        custom(tiny, "sd3", sampler, sigmas_of(tiny, 3))
        network = weakref.ref(tiny.model)
        comfy.model_management.unload_all_models()
        del tiny
        assert network() is None
    finally:
        gc.enable()


def test_the_wrapper_refuses_a_batch_that_is_no_multiple_of_the_samples_with_levels_of_their_own(pack):
    asking = importlib.import_module(f"{pack.__name__}.comfyui.asking")
    time, seen = asking.TimeScaling(), []
    time.at(torch.tensor([1.0, 0.5]), torch.tensor([0.9, 0.4]))
    time(lambda x, sigma: seen.append(sigma), torch.zeros(4, 1), torch.tensor([1.0, 0.5, 1.0, 0.5]))
    assert torch.equal(seen[0], torch.tensor([0.9, 0.4, 0.9, 0.4]))
    with pytest.raises(ValueError, match="3 samples in one call, but the solver has noise levels for 2: sample them"):
        time(lambda x, sigma: x, torch.zeros(3, 1), torch.ones(3))
    time.at(torch.tensor([1.0, 1.0]), torch.tensor([0.9, 0.9]))
    time(lambda x, sigma: seen.append(sigma), torch.zeros(3, 1), torch.ones(3))
    assert torch.equal(seen[1], torch.full((3,), 0.9))
