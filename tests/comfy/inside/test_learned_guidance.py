"""Learned guidance in ComfyUI: what is skipped is really skipped, and what guides otherwise is refused by name."""

import pytest
import tiny_models
import torch
from sampling_tools import (
    advanced,
    call,
    custom,
    difference,
    in_file,
    latent,
    model,
    random_solver,
    sigmas_of,
    watch_network,
    wrapping,
)

pytestmark = pytest.mark.usefixtures("pack")
CFG, STEPS, GUIDED = 7.5, 5, [0, 1, 3]
FAMILIES = ("sd15", "sd3")


def learned(pack, tiny, guided=GUIDED, tied=False, **settings):
    """A solver of STEPS whose guidance is as far from its slopes as learned ones are."""
    guidance = {"cfg": CFG, "guided": list(guided)}
    solver = random_solver(pack, sigmas_of(tiny, STEPS), learned_guidance=guidance, **settings)
    with torch.no_grad():
        solver.tie_guidance()
        if not tied:
            noise = torch.randn(solver.weights.shape, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
            solver.guidance_weights += 0.2 * noise * (solver.guidance_weights != 0)
    return solver


def plain(pack, solver):
    """The same without guidance of its own."""
    other = random_solver(pack, solver.sigmas, order=solver.order, slope=solver.slope)
    other.load_state_dict({name: solver.state_dict()[name] for name in other.state_dict()})
    return other


def textbook(solver, cfg):
    """SAMPLER in plain words; the guider tells its two predictions at the scales 1 and 0."""
    import comfy.samplers

    weights, guidance, scale = (w.tolist() for w in (solver.weights, solver.guidance_weights, solver.time_scale))

    @torch.no_grad()
    def loop(model, x, sigmas, extra_args=None, callback=None, disable=None):
        base, guider = [float(sigma) for sigma in sigmas], model.inner_model

        def predicted(strength, sigma):
            guider.cfg, before = strength, guider.cfg
            answer = model(x, x.new_full((x.shape[0],), sigma), **(extra_args or {}))
            guider.cfg = before
            return answer

        time, slopes, directions = base[0], [], []
        for n in range(len(base) - 1):
            query = time * scale[n]
            divisor = time if solver.slope == "state" else query
            conditional = predicted(1.0, query)
            slopes = [(x - conditional) / divisor, *slopes][: solver.order]
            if n in solver.guided:
                direction = (conditional - predicted(0.0, query)) / divisor
                directions = [direction, *directions][: solver.order]
            step, used = base[n + 1] - time, weights[n][: len(slopes)]
            x = x + step * sum(w * g for w, g in zip(used, slopes, strict=True))
            x = x - step * (cfg - 1) * sum(v * e for v, e in zip(guidance[n], directions, strict=False))
            time = time + step * sum(used)
        return x

    return comfy.samplers.KSAMPLER(loop)


def evaluations(tiny):
    """A list that gets the number of samples of each call of the network."""
    rows = []
    watch_network(tiny, lambda x, sigma: rows.append(len(x)))
    return rows


@pytest.mark.parametrize("cfg", [CFG, 4.0])
@pytest.mark.parametrize("slope", ["state", "query"])
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_textbook_loop_in_both_samplers(pack, family, slope, cfg):
    """At another cfg the second table is (cfg - 1) / (its cfg - 1) times as strong, as a constant scale is."""
    tiny = model(family)
    solver = learned(pack, tiny, slope=slope)
    sigmas = call("DyWeightScheduler", model=tiny, solver=solver, denoise=1.0)
    expected = custom(tiny, family, textbook(solver, cfg), sigmas, cfg=cfg)
    found = custom(tiny, family, call("DyWeightSampler", solver=solver), sigmas, cfg=cfg)
    in_ksampler = advanced(call("DyWeightApply", model=tiny, solver=solver), family, STEPS, cfg=cfg)
    print(f"parity {family} {slope} {cfg}: {difference(found, expected):.1e} {difference(in_ksampler, expected):.1e}")
    assert difference(found, expected) < 2e-5 and difference(in_ksampler, expected) < 2e-5
    constant = custom(tiny, family, call("DyWeightSampler", solver=plain(pack, solver)), sigmas, cfg=cfg)
    assert difference(found, constant) > 1e-3


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_network_is_evaluated_once_for_each_row_and_once_more_for_each_guided_one(pack, family, batch):
    tiny = model(family)
    solver, rows = learned(pack, tiny), evaluations(tiny)
    custom(
        tiny,
        family,
        call("DyWeightSampler", solver=solver),
        solver.sigmas.float(),
        cfg=CFG,
        latent_image=latent(family, batch),
    )
    assert sum(rows) == batch * solver.evaluations == batch * (STEPS + len(GUIDED))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_tied_and_guided_in_every_row_it_is_guidance_of_constant_scale(pack, family, masked):
    tiny = model(family)
    solver, image = learned(pack, tiny, range(STEPS), tied=True), latent(family, image=True)
    if masked:
        image["noise_mask"] = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8)
    run = {"cfg": CFG, "latent_image": image}
    ends = [
        custom(tiny, family, call("DyWeightSampler", solver=one), solver.sigmas.float(), **run)
        for one in (solver, plain(pack, solver))
    ]
    print(f"tied {family} masked {masked}: {difference(*ends):.1e}")
    assert difference(*ends) < 2e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_two_parts_are_the_whole_run(pack, family):
    """Tied, so that the directions which the second part lacks change nothing but rounding... of one slope."""
    tiny = model(family)
    solver = learned(pack, tiny, range(STEPS), tied=True, order=1)
    first, second = call("SplitSigmas", sigmas=solver.sigmas.float(), step=2), solver.sigmas.float()[2:]
    sampler = call("DyWeightSampler", solver=solver)
    whole = custom(tiny, family, sampler, solver.sigmas.float(), cfg=CFG)
    half = custom(tiny, family, sampler, first, cfg=CFG)
    none = call("DisableNoise")
    end = custom(tiny, family, sampler, second, cfg=CFG, noise=none, latent_image={"samples": half})
    assert difference(end, whole) < 1e-4


def test_a_part_that_begins_in_a_row_without_its_own_direction_asks_for_one(pack):
    tiny = model("sd3")
    solver, rows = learned(pack, tiny, [0, 1, 3]), evaluations(tiny)
    end = custom(tiny, "sd3", call("DyWeightSampler", solver=solver), solver.sigmas.float()[2:], cfg=CFG)
    assert torch.isfinite(end).all()
    assert sum(rows) == 3 + 2


def test_the_preview_is_guided(pack):
    """What SamplerCustomAdvanced gives as denoised_output: along the newest direction, at the sampler's cfg."""
    tiny = model("sd3")
    shown = {}
    for name, solver in (("learned", learned(pack, tiny, range(STEPS), tied=True)), ("plain", None)):
        one = plain(pack, learned(pack, tiny, range(STEPS), tied=True)) if solver is None else solver
        positive, negative = tiny_models.conditioning("sd3"), tiny_models.conditioning("sd3", 2)
        guider = call("CFGGuider", model=tiny, positive=positive, negative=negative, cfg=CFG)
        noise, seen = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(1)), []
        run = (noise, noise * 0, call("DyWeightSampler", solver=one), one.sigmas.float())
        with torch.inference_mode():
            guider.sample(*run, callback=lambda i, x0, x, n, seen=seen: seen.append(x0), disable_pbar=True, seed=3)
        shown[name] = torch.stack(seen)
    assert difference(shown["learned"], shown["plain"]) < 1e-4


def refused(tiny, family, solver, **options):
    with pytest.raises(ValueError) as error:
        custom(tiny, family, call("DyWeightSampler", solver=solver), solver.sigmas.float(), **options)
    return str(error.value)


def test_cfg_1_is_an_error(pack):
    tiny = model("sd15")
    assert refused(tiny, "sd15", learned(pack, tiny), cfg=1.0).startswith("Set cfg to 7.5: this file learned")


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        ("RescaleCFG", {"multiplier": 0.7}),
        ("PerturbedAttentionGuidance", {"scale": 3.0}),
        ("APG", {"eta": 1.0, "norm_threshold": 5.0, "momentum": 0.0}),
    ],
)
def test_a_function_of_the_users_between_is_named(pack, node, inputs):
    tiny = model("sd15")
    patched = call(node, model=tiny, **inputs)
    message = refused(patched, "sd15", learned(pack, tiny), cfg=CFG)
    assert message.startswith(f"Remove {node}") and "learned its own guidance" in message


@pytest.mark.parametrize("cfg", [1.0, CFG + 1])
def test_another_cfg_within_the_run_is_said(pack, cfg):
    """As CFG Override of ComfyUI 0.33 sets it."""
    import comfy.patcher_extension

    def override(executor, *args):
        guider, executor.class_obj.cfg = executor.class_obj, cfg
        try:
            return executor(*args)
        finally:
            guider.cfg = CFG

    tiny = model("sd15")
    tiny.add_wrapper(comfy.patcher_extension.WrappersMP.PREDICT_NOISE, override)
    message = refused(tiny, "sd15", learned(pack, tiny), cfg=CFG)
    assert f"it sets cfg to {cfg:g} in the place of {CFG:g}" in message


def test_other_guiders_are_named(pack):
    tiny = model("sd15")
    solver, text = learned(pack, tiny), tiny_models.conditioning("sd15")
    against = {"negative": tiny_models.conditioning("sd15", 2)}
    dual = {"cond1": text, "cond2": text, **against, "cfg_conds": 3.0, "cfg_cond2_negative": 3.0}
    guiders = [
        call("PerpNegGuider", model=tiny, positive=text, empty_conditioning=text, cfg=CFG, neg_scale=1.0, **against),
        call("DualCFGGuider", model=tiny, style="regular", **dual),
        call("BasicGuider", model=tiny, conditioning=text),
    ]
    for guider in guiders:
        run = {"noise": call("RandomNoise", noise_seed=3), "guider": guider, "latent_image": latent("sd15")}
        with pytest.raises(ValueError, match=f"Use KSampler or CFGGuider instead of {type(guider).__name__}"):
            call(
                "SamplerCustomAdvanced",
                sampler=call("DyWeightSampler", solver=solver),
                sigmas=solver.sigmas.float(),
                **run,
            )


def test_a_users_own_way_to_evaluate_is_asked_for_what_is_wanted(pack):
    tiny = model("sd3")
    import comfy.samplers

    asked = []

    def own(args):
        asked.append([cond is not None for cond in args["conds"]])
        return comfy.samplers.calc_cond_batch(
            args["model"], args["conds"], args["input"], args["sigma"], args["model_options"]
        )

    tiny.set_model_sampler_calc_cond_batch_function(own)
    solver = learned(pack, tiny)
    found = custom(tiny, "sd3", call("DyWeightSampler", solver=solver), solver.sigmas.float(), cfg=CFG)
    assert asked == [[True, step in GUIDED] for step in range(STEPS)]
    plain_model = model("sd3")
    expected = custom(plain_model, "sd3", call("DyWeightSampler", solver=solver), solver.sigmas.float(), cfg=CFG)
    assert torch.equal(found, expected)


def test_something_that_answers_in_the_networks_place_is_said(pack):
    """As LazyCache does around the guider's prediction."""
    import comfy.patcher_extension

    tiny = model("sd3")
    wrappers = tiny.model_options.setdefault("transformer_options", {}).setdefault("wrappers", {})
    kind = comfy.patcher_extension.WrappersMP.PREDICT_NOISE
    wrappers.setdefault(kind, {})["cache"] = [lambda executor, x, *args: x]
    assert "such as a step cache, or take a file without" in refused(tiny, "sd3", learned(pack, tiny), cfg=CFG)


def test_a_sampler_around_it_is_passed_through(pack):
    tiny = model("sd3")
    solver, rows = learned(pack, tiny), evaluations(tiny)
    sampler = call("DyWeightSampler", solver=solver)
    custom(tiny, "sd3", wrapping(sampler, 1.0), solver.sigmas.float(), cfg=CFG)
    assert sum(rows) == solver.evaluations


def test_nothing_stays_behind(pack):
    tiny = model("sd15")
    solver, before = learned(pack, tiny), repr(tiny.model_options)
    custom(tiny, "sd15", call("DyWeightSampler", solver=solver), solver.sigmas.float(), cfg=CFG)
    assert repr(tiny.model_options) == before


def test_a_set_and_the_node_of_one_file(pack):
    tiny = model("sd15")
    solver, rows = learned(pack, tiny), evaluations(tiny)
    other = random_solver(pack, sigmas_of(tiny, 4))
    file = in_file(pack, pack.dyweight.SolverSet([other, solver]), "pair", {"cfg": CFG})
    positive, negative = tiny_models.conditioning("sd15"), tiny_models.conditioning("sd15", 2)
    inputs = {"positive": positive, "negative": negative, "latent_image": latent("sd15"), "cfg": CFG, "denoise": 1.0}
    ends = []
    for steps in (STEPS, 4):
        rows.clear()
        node = call("DyWeightKSampler", model=tiny, solver_name="", steps=steps, seed=3, solver=file, **inputs)
        ends.append((node["samples"], sum(rows)))
    assert [count for _, count in ends] == [STEPS + len(GUIDED), 2 * 4]
