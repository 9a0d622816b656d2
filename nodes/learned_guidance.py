"""Whether the guidance that a file learned can run here, and how strong it is at the cfg of the sampler."""

import math
from typing import Any

from ..dyweight import Plan
from ..dyweight.placement import Placement
from . import messages, notes

_FUNCTIONS = ("sampler_cfg_function", "sampler_pre_cfg_function", "sampler_post_cfg_function")


def with_guidance_of(
    guider: Any, placement: Placement, model_options: dict[str, Any], plain: type
) -> tuple[Plan, float]:
    """(plan, cfg) for the guider at hand; cfg is 1 where the plan has no guidance of its own.

    plain: ComfyUI's CFGGuider, the only guider whose two predictions are the ones that guidance was learned of.
    Raises ValueError where another guider, a cfg function or cfg 1 rules the learned guidance out.
    """
    plan = placement.plan
    if plan.guidance is None or placement.guided_at is None:
        return plan, 1.0
    other = getattr(type(guider), "predict_noise", None) is not getattr(plain, "predict_noise", None)
    if other or "negative" not in getattr(guider, "conds", {}):
        raise notes.refusal(messages.OTHER_GUIDER, guider=type(guider).__name__)
    functions = [function for kind in _FUNCTIONS for function in _listed(model_options.get(kind))]
    if functions:
        raise notes.refusal(messages.OTHER_GUIDANCE, functions=", ".join(map(_name, functions)))
    cfg = float(guider.cfg)
    if math.isclose(cfg, 1.0):
        raise notes.refusal(messages.GUIDANCE_OFF, there=f"{placement.guided_at:g}")
    notes.info(
        "{evaluations} network evaluations: {rows} steps, of which {guided} ask for the unconditional prediction too",
        evaluations=plan.evaluations,
        rows=plan.rows,
        guided=len(plan.guided),
    )
    return plan.with_guidance_times((cfg - 1) / (placement.guided_at - 1)), cfg


def _listed(found: Any) -> list[Any]:
    return found if isinstance(found, list) else [found] if found is not None else []


def _name(function: Any) -> str:
    """Of the node that made it, where Python tells."""
    return str(getattr(function, "__qualname__", type(function).__name__)).partition(".")[0]
