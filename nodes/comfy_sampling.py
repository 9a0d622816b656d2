"""ComfyUI's side of sampling: the entries in its lists and the sampler function; the only user of comfy.samplers."""

import copy
from typing import Any

import comfy.k_diffusion.sampling
import comfy.patcher_extension
import comfy.samplers
import torch
from torch import Tensor

from ..comfyui.asking import Denoiser
from ..comfyui.facts import family_of, prediction_type
from ..comfyui.predictions import Predictions
from ..comfyui.schedulers import names_there
from ..dyweight import Plan, Solver, SolverFile
from ..dyweight import sample as run_plan
from ..dyweight.between import between
from ..dyweight.solver_set import in_words
from . import handover, messages, notes
from .applied import SOLVER, Applied
from .choose import (
    base_schedule,
    placed,
    placed_with_best_match,
    refuse_other_family,
    schedule_of,
    warn_of_the_other_half,
)
from .learned_guidance import with_guidance_of
from .masks import noise_left, restore_unmasked
from .model_facts import ModelFacts, facts
from .progress import progress
from .samples import read_samples
from .wrapped import Hidden, callers, hidden

NAME = "dyweight"


def register() -> None:
    """Add `dyweight` to ComfyUI's sampler and scheduler lists; safe to call again.

    Appends to the existing lists, since other packs hold them too, and reloads nothing.
    """
    setattr(comfy.k_diffusion.sampling, f"sample_{NAME}", sample_dyweight)
    comfy.samplers.SCHEDULER_HANDLERS[NAME] = comfy.samplers.SchedulerHandler(schedule, use_ms=True)
    for names in (
        comfy.samplers.SAMPLER_NAMES,
        comfy.samplers.KSampler.SAMPLERS,
        comfy.samplers.SCHEDULER_NAMES,
        comfy.samplers.KSampler.SCHEDULERS,
    ):
        if NAME not in names:
            names.append(NAME)


def sampler(solver: SolverFile) -> Any:
    """ComfyUI's SAMPLER that runs this solver."""
    return comfy.samplers.KSAMPLER(sample_dyweight, extra_options={"solver": solver})


def with_solver(model: Any, solver: SolverFile) -> Any:
    """A clone of a MODEL that carries the solver, for the sampler and the scheduler `dyweight`."""
    clone = model.clone()
    clone.model_options[SOLVER] = solver
    wrappers = clone.model_options.setdefault("transformer_options", {}).setdefault("wrappers", {})
    kind = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
    wrappers.setdefault(kind, {})[NAME] = [Applied(solver, again=SOLVER in model.model_options)]
    # A scheduler gets only the model-sampling object, so that carries the solver too.
    model_sampling = copy.deepcopy(clone.get_model_object("model_sampling"))
    model_sampling.__dict__[SOLVER] = solver  # not an attribute: a module would register it as its own weights
    clone.add_object_patch("model_sampling", model_sampling)
    return clone


@torch.no_grad()
def sample_dyweight(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Any = None,
    disable: bool | None = None,
    solver: SolverFile | None = None,
) -> Tensor:
    """What ComfyUI calls for the sampler `dyweight`: its contract for samplers, with the solver as an option.

    model: denoise(x [B, ...], sigma [B]) with the guider as `inner_model`. x: [B, ...] noise at sigmas[0].
    sigmas: [steps + 1]. Without a solver: that of DyWeightApply, or the one matching file, or the untrained one.
    Raises ValueError where the solver is for one other number of steps, or for another model family.
    """
    Applied.sampled += 1
    if len(sigmas) < 2:
        return x
    extra_args = extra_args or {}
    solver = solver or extra_args.get("model_options", {}).get(SOLVER)
    around = hidden(model, comfy.samplers.KSamplerX0Inpaint)
    known = facts(around.guider, x, extra_args.get("model_options", {}))
    start = _start(around, x, sigmas)

    def read(solver: Solver) -> dict[str, Tensor | None]:
        return read_samples(solver, around, x)

    if solver is None:
        placement = placed_with_best_match(sigmas, known, start, read, handover.left_by(x))
    else:
        placement = placed(solver, sigmas, known, start, read)
        if start is None and around.noise is not None and not bool(around.noise.any()):
            warn_of_the_other_half(solver, placement)
    options = extra_args.get("model_options", {})
    plan, cfg = with_guidance_of(around.guider, placement, options, comfy.samplers.CFGGuider)
    denoise = _denoiser(model, extra_args, plan, sigmas, cfg)
    with progress(plan, x, denoise.sample_sigmas, callback, disable, cfg) as report:
        end = run_plan(denoise, x, plan, report)
    end = restore_unmasked(end, x, plan, around, extra_args, sigmas)
    if noise_left(around.guider, sigmas) > 0:
        handover.leave(end, plan.sigmas[..., -1], None if solver is None else solver.name)
    return end


def schedulers() -> list[str]:
    """The base schedules that a fit may begin with: ComfyUI's, and those that are nodes of their own."""
    return [*(name for name in comfy.samplers.SCHEDULER_NAMES if name != NAME), *names_there()]


def guider_of(model: Any, negative: list[Any] | None, cfg: float) -> Any:
    """ComfyUI's GUIDER as KSampler has it, without a prompt. Raises ValueError where guidance has no negative."""
    if negative is None and cfg != 1:
        raise notes.refusal(messages.FIT_NO_NEGATIVE, cfg=cfg)
    guider = comfy.samplers.CFGGuider(model)
    try:
        guider.set_conds([], negative or [])
    except (TypeError, AttributeError, IndexError):
        raise notes.refusal(messages.CANT_FIT, reason="negative is not CONDITIONING") from None
    guider.set_cfg(cfg)
    return guider


def schedule(model_sampling: Any, steps: int) -> Tensor:
    """What ComfyUI calls for the scheduler `dyweight`: sigmas [steps + 1].

    Those of the solver of DyWeightApply, or of the matching file (or files, if they agree), or ComfyUI's `simple`.
    """
    solver = model_sampling.__dict__.get(SOLVER)
    if solver is not None:
        return schedule_of(solver, steps)
    known = ModelFacts(_asking_family(model_sampling), prediction_type(model_sampling))
    found = base_schedule(known, float(model_sampling.sigma_max), steps)
    return comfy.samplers.calculate_sigmas(model_sampling, "simple", steps) if found is None else found


def partial_schedule(model: Any, solver: SolverFile, steps: int, denoise: float) -> Tensor:
    """The last round(steps * denoise) steps of the solver's own sigmas, float32: at least one, but none at denoise 0.

    steps: 0 for the only number that the solver has, or the middle one. Raises ValueError for a model of another
    family.
    """
    refuse_other_family(solver, ModelFacts(family_of(model.model)))
    steps = steps or solver.solvers.member().steps
    sigmas, left = schedule_of(solver, steps), min(steps, max(1, round(steps * denoise)))
    return sigmas[len(sigmas) - 1 - left :] if denoise > 0 else torch.zeros(0)


def sample(model: Any, solver: SolverFile, steps: int, denoise: float, **inputs: Any) -> Any:
    """LATENT of a run on the last round(steps * denoise) of the solver's own steps, at least one.

    inputs: noise_seed, cfg, positive, negative and latent_image of ComfyUI's SamplerCustom.
    Raises ValueError for a model of another family and for steps that the solver neither has nor can mix.
    """
    from comfy_extras.nodes_custom_sampler import SamplerCustom  # ComfyUI's nodes are loaded beside the pack's

    if steps and steps not in solver.solvers.steps and between(solver.solvers, steps) is None:
        known = in_words(solver.solvers.steps)
        raise notes.refusal(messages.SET_ITS_STEPS, steps=known, file=solver.name, given=steps)
    sigmas = partial_schedule(model, solver, steps, denoise)
    run = {"model": model, "add_noise": True, "sampler": sampler(solver), "sigmas": sigmas}
    return SamplerCustom.execute(**run, **inputs)[0]


def _denoiser(model: Any, extra_args: dict[str, Any], plan: Plan, sigmas: Tensor, cfg: float) -> Denoiser:
    calls = -(-plan.rows // (len(sigmas) - 1))
    return Denoiser(
        model,
        extra_args,
        plan.sigmas[..., :-1],
        float(sigmas[-1]),
        row=int(plan.analytic_first_step),
        calls=calls,
        predictions=None if plan.guidance is None else Predictions(comfy.samplers.calc_cond_batch, cfg),
    )


def _start(around: Hidden, x: Tensor, sigmas: Tensor) -> float | None:
    """The noise level at which an earlier part left x, where no noise was added; None for that of the sigmas."""
    if around.noise is not None and bool(around.noise.any()):
        return None
    start = handover.found(x)
    if start is None and around.noise is not None:
        notes.info(
            "no noise was added, and the latent is not what an earlier part with DyWeight left: it is taken to be at "
            "sigma {sigma:.4g}, where the schedule begins",
            sigma=float(sigmas[0]),
        )
    return start


def _asking_family(model_sampling: Any) -> str | None:
    """Family of the model whose schedule is asked for: a scheduler does not get the model, but its caller has it."""
    for frame in callers():
        models: tuple[Any, ...] = (frame.get("model"), getattr(frame.get("self"), "model", None))
        for model in models:
            if hasattr(model, "get_model_object") and model.get_model_object("model_sampling") is model_sampling:
                return family_of(model.model)
    return None
