"""Preview, progress bar and cancelling: ComfyUI's callback, once for each step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from tqdm.auto import tqdm

from ..dyweight import Call, Plan


@contextmanager
def progress(
    plan: Plan,
    x: Tensor,
    sigmas: Tensor,
    callback: Callable[[dict[str, Any]], None] | None,
    disable: bool | None,
    cfg: float = 1.0,
) -> Iterator[Callable[[Call], None]]:
    """A callback for `dyweight.sample` that tells ComfyUI of each step, the analytic first one too.

    cfg: with learned guidance, the scale at which a step's prediction is shown, along the newest direction.
    A step of two network calls is reported after the first. ComfyUI raises its interrupt from the callback; it passes
    through.
    """
    steps = len(sigmas) - 1
    calls = -(-plan.rows // steps)
    with tqdm(total=steps, disable=disable) as bar:

        def step(row: int, state: Tensor, denoised: Tensor) -> None:
            i, later = divmod(row, calls)
            if later:
                return
            if callback is not None:
                callback({"x": state, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
            bar.update(1)

        if plan.analytic_first_step:
            sigma = float(plan.sigmas[..., 0].max())
            step(0, x, x * (1 - sigma / (1 + sigma**2) ** 0.5))

        def shown(call: Call) -> Tensor:
            return call.denoised if call.direction is None else call.denoised + (cfg - 1) * call.direction

        yield lambda call: step(call.step, call.x, shown(call))
