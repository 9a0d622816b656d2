"""What a user sees while it runs: guidance, progress, preview, cancelling, prompts in a row."""

import pytest
import torch
from sampling_tools import advanced, call, custom, difference, guided, latent, model, random_solver, sigmas_of, textbook

ROUNDING = 2e-6
STEPS = 5


@pytest.fixture
def solver(pack):
    return random_solver(pack, sigmas_of(model("sd3"), STEPS))


@pytest.fixture
def bar_hook(monkeypatch):
    """Sets what ComfyUI's progress bar calls, as the server does; put back afterwards."""
    import comfy.utils

    for name in ("PROGRESS_THROTTLE_MIN_INTERVAL", "PROGRESS_THROTTLE_MIN_PERCENT"):
        monkeypatch.setattr(comfy.utils, name, 0, raising=False)  # newer ones leave out what comes too fast to see
    before = comfy.utils.PROGRESS_BAR_HOOK
    yield comfy.utils.set_progress_bar_global_hook
    comfy.utils.set_progress_bar_global_hook(before)


@pytest.mark.parametrize("family", ["sd3", "sd15"])
def test_guidance_asks_for_both_prompts_in_every_step(pack, family):
    tiny, asked = model(family), []
    solver = random_solver(pack, sigmas_of(tiny, STEPS))
    expected = custom(tiny, family, textbook(solver), sigmas_of(tiny, STEPS), cfg=7.5)
    unguided = custom(tiny, family, textbook(solver), sigmas_of(tiny, STEPS))

    def count(apply, args):
        asked.append((float(args["timestep"].flatten()[0]), *args["cond_or_uncond"]))
        return apply(args["input"], args["timestep"], **args["c"])

    tiny.set_model_unet_function_wrapper(count)
    end = advanced(call("DyWeightApply", model=tiny, solver=solver), family, STEPS, cfg=7.5)
    assert difference(end, expected) < 10 * ROUNDING
    assert difference(end, unguided) > 1e-3
    kinds = {}
    for sigma, *prompts in asked:
        kinds.setdefault(sigma, []).extend(prompts)
    assert [sorted(prompts) for prompts in kinds.values()] == [[0, 1]] * STEPS
    assert list(kinds) == solver.plan().sigmas[:-1].float().tolist()


@pytest.mark.parametrize("family", ["sd3", "wan"])
@pytest.mark.parametrize("analytic", [False, True])
def test_progress_and_preview_come_once_a_step(pack, analytic, family):
    tiny, told = model(family), []
    sigmas = sigmas_of(tiny, STEPS)
    sampler = call("DyWeightSampler", solver=random_solver(pack, sigmas, analytic_first_step=analytic))
    noise = torch.randn(latent(family)["samples"].shape, generator=torch.Generator().manual_seed(1))
    guided(tiny, family, sampler, sigmas, noise, callback=lambda *step: told.append(step))
    assert [(i, total) for i, _, _, total in told] == [(i, STEPS) for i in range(STEPS)]
    for _, denoised, x, _ in told:
        assert denoised.shape == x.shape == noise.shape
        assert torch.isfinite(denoised).all()
    assert difference(told[0][2], noise) < ROUNDING


def test_the_preview_is_the_prediction_of_the_network(pack, solver):
    tiny, told, answers = model("sd3"), [], []
    noise = torch.randn(latent("sd3")["samples"].shape, generator=torch.Generator().manual_seed(1))
    tiny.set_model_sampler_post_cfg_function(lambda args: answers.append(args["denoised"]) or args["denoised"])
    sampler, sigmas = call("DyWeightSampler", solver=solver), sigmas_of(tiny, STEPS)
    guided(tiny, "sd3", sampler, sigmas, noise, callback=lambda *step: told.append(step))
    assert len(answers) == STEPS
    for (_, denoised, _, _), answer in zip(told, answers, strict=True):
        assert torch.equal(denoised, answer)


def test_the_progress_bar_of_ksampler_goes_to_its_end(solver, bar_hook):
    shown = []
    bar_hook(lambda value, total, *rest, **options: shown.append((value, total)))
    advanced(call("DyWeightApply", model=model("sd3"), solver=solver), "sd3", STEPS)
    assert [shown_now for shown_now in shown if shown_now[0]] == [(i + 1, STEPS) for i in range(STEPS)]


def test_cancelling_raises_comfyuis_own_interrupt_and_the_next_run_is_as_before(solver, bar_hook):
    import comfy.model_management as management

    applied, shown = call("DyWeightApply", model=model("sd3"), solver=solver), []
    before = advanced(applied, "sd3", STEPS)

    def cancel_at_two(value, total, *rest, **options):
        shown.append(value)
        if value == 2:
            management.interrupt_current_processing()
        management.throw_exception_if_processing_interrupted()

    bar_hook(cancel_at_two)
    with pytest.raises(management.InterruptProcessingException):
        advanced(applied, "sd3", STEPS)
    assert max(shown) == 2
    bar_hook(None)
    assert torch.equal(advanced(applied, "sd3", STEPS), before)


def test_no_steps_leave_the_latent_as_it_is(solver):
    tiny, image = model("sd3"), latent("sd3", image=True)
    sigmas = call("DyWeightScheduler", model=tiny, solver=solver, denoise=0.0)
    assert len(sigmas) == 0
    end = custom(tiny, "sd3", call("DyWeightSampler", solver=solver), sigmas, latent_image=image)
    assert torch.equal(end, image["samples"])


def test_one_seed_gives_one_picture(solver):
    applied = call("DyWeightApply", model=model("sd3"), solver=solver)
    assert torch.equal(advanced(applied, "sd3", STEPS), advanced(applied, "sd3", STEPS))
    assert difference(advanced(applied, "sd3", STEPS, noise_seed=4), advanced(applied, "sd3", STEPS)) > 0.1
