"""The authors' FLUX files: torch.save of weights and time scales."""

from typing import Any

from .archive import read_archive
from .tensors import matrix, newest_first


def entry(content: bytes, name: str) -> dict[str, Any]:
    """The entry in the layout of the reference. Model, guidance and teacher are their settings; the file has none."""
    saved = read_archive(content)
    missing = {"dyweight_weights_raw", "dyweight_t_scales", "window_size", "dyweight_meta"} - set(saved)
    if missing:
        raise ValueError(f"no FLUX file of the authors: {', '.join(sorted(missing))} missing")
    steps, window = saved["dyweight_meta"]["K"], saved["window_size"]
    if type(steps) is not int or type(window) is not int or steps < 1 or window < 0:
        raise ValueError("its number of steps or its window is no whole number")
    weights = matrix(saved["dyweight_weights_raw"], "dyweight_weights_raw", (steps, steps))
    order = min(window or steps, steps)  # 0 is all of the history
    return {
        "source": name,
        "model": "flux1-dev",
        "steps": steps,
        "order": order,
        "analytic_first_step": False,
        "guidance": {"type": "embedded", "scale": 3.5},
        "slope_divides_by": "query_sigma",
        "base_schedule": {"kind": "flux_shift"},
        "teacher_steps": 28,
        "loss": "latent mse",
        "weights_newest_first": newest_first(weights, order),
        "time_scale": matrix(saved["dyweight_t_scales"], "dyweight_t_scales", (steps,)).tolist(),
    }
