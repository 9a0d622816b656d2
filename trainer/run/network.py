"""The checkpoint's network with every call counted and checked."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recompute

import dyweight
from dyweight import Plan
from dyweight.sampling import Call, Predict

from ..checkpoints.protocol import Checkpoint, FullCheckpoint, full
from .errors import CheckpointError, NonFiniteError


class Network:
    """Counts network calls by sample, forward and backward, and stops at the first value that is not finite."""

    def __init__(self, checkpoint: Checkpoint | FullCheckpoint, per_call: int = 1) -> None:
        """per_call: what a guided call counts: 2 where guidance is learned and network calls are evaluations."""
        self.checkpoint = full(checkpoint)
        self.per_call = per_call
        self.forward = 0
        self.backward = 0
        self.on_calls: Callable[[int], object] | None = None
        """Called at each network call with its number of forward-equivalents."""

    @property
    def total(self) -> int:
        """In forward-equivalents: a backward call costs two."""
        return self.forward + 2 * self.backward

    def evaluations(self, sampler: Any) -> int:
        """What one sample of a plan, a solver or other sampler counts here."""
        if getattr(sampler, "guided", ()):
            return int(sampler.evaluations)
        return int(sampler.network_calls) * self.per_call

    @property
    def unit(self) -> str:
        """What it counts, for texts."""
        return "calls" if self.per_call == 1 else "evaluations"

    def condition(self, cond: Any) -> Tensor | None:
        """[B, width] of a condition, for solvers that read it; None if the checkpoint has none."""
        return self.checkpoint.condition(cond)

    def count(self, calls: int) -> None:
        """Count forward calls that other code has made."""
        self.forward += calls
        self._tell(calls)

    def bound(
        self,
        cond: Any,
        pair: int = 0,
        step: int | None = None,
        who: str = "student",
        recomputed: bool = False,
        plan: Plan | None = None,
    ) -> Predict:
        """denoise(x, sigma) with the condition filled in, or for a plan with guidance denoise(x, sigma, guided).

        plan: the plan that is run; a checkpoint with `denoise_at` gets the noise levels of its states. pair: the first
        pair of the batch, for errors. step: the row of the first call, by default the plan's first row with a call.
        recomputed: recompute the activations of a call in the backward pass instead of keeping them.
        """
        step = int(plan is not None and plan.analytic_first_step) if step is None else step
        states = None if plan is None else plan.sigmas[..., :-1].detach()
        ask = self._asked_at(states)

        def denoise(x: Tensor, sigma: Tensor, guided: bool | None = None) -> Any:
            nonlocal step
            call = partial(answer, step, guided)
            found = recompute(call, x, sigma, use_reentrant=False) if recomputed else call(x, sigma)
            for prediction in found if guided else (found,):
                self._check(prediction, x, pair, step, who)
                if prediction.requires_grad:
                    prediction.register_hook(count_backward if guided is None else partial(count_backward, each=1))
            step += 1
            return found

        def answer(row: int, guided: bool | None, x: Tensor, sigma: Tensor) -> Any:
            self.count(x.shape[0] * (self.per_call if guided is None else 1 + guided))
            if guided is None or states is None:
                return ask(x, sigma, cond, row)
            found = self.checkpoint.predictions(x, sigma, cond, guided, states, row)
            return found if guided else found[0]

        def count_backward(gradient: Tensor, each: int = self.per_call) -> None:
            self.backward += each * gradient.shape[0]
            self._tell(2 * each * gradient.shape[0])

        return denoise

    def sample(
        self,
        noise: Tensor,
        cond: Any,
        plan: Plan,
        pair: int = 0,
        who: str = "student",
        callback: Callable[[Call], None] | None = None,
    ) -> Tensor:
        """The endpoints [B, *shape] of a plan from noise [B, *shape], without gradients; the rest is as `bound` and
        `dyweight.sample` have it. A run may begin again, where the memory is too small for the whole batch."""

        def run() -> Tensor:
            return dyweight.sample(self.bound(cond, pair, who=who, plan=plan), noise, plan, callback)

        with torch.inference_mode():
            return self.checkpoint.prepared(noise, cond, run)

    def _asked_at(self, states: Tensor | None) -> Callable[[Tensor, Tensor, Any, int], Tensor]:
        at = self.checkpoint.denoise_at
        if states is None or at is None:
            return lambda x, sigma, cond, row: self.checkpoint.denoise(x, sigma, cond)
        return lambda x, sigma, cond, row: at(x, sigma, cond, states, row)

    def _tell(self, calls: int) -> None:
        if self.on_calls is not None:
            self.on_calls(calls)

    @staticmethod
    def _check(denoised: Tensor, x: Tensor, pair: int, step: int, who: str) -> None:
        if not isinstance(denoised, Tensor) or denoised.shape != x.shape:
            found = f"shape {tuple(denoised.shape)}" if isinstance(denoised, Tensor) else type(denoised).__name__
            raise CheckpointError(f"denoise gave {found} for x of shape {tuple(x.shape)}: return a tensor like x")
        if not math.isfinite(float(denoised.detach().sum())):  # quick, and false where a sum of finite values overflows
            finite = torch.isfinite(denoised.detach()).flatten(1).all(1)
            if bool(finite.all()):
                return
            bad = pair + int((~finite).nonzero()[0])
            raise NonFiniteError(
                "pair {pair}, step {step} of the {who}: the network gave a value that is not finite",
                pair=bad,
                step=step,
                who=who,
            )
