"""Ask a network through ComfyUI: ComfyUI sees the noise level of the state, only the network its scaled time."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .predictions import Predictions

_APPLY_MODEL = "apply_model"  # comfy.patcher_extension.WrappersMP.APPLY_MODEL
_KEY = "dyweight"


class TimeScaling:
    """An APPLY_MODEL wrapper: the network is asked at a different noise level than everything around it sees.

    The paper multiplies the time that the network is fed (DyWeight, equation 9), and nothing else. So conditions,
    ranges, masks, ControlNets, caches and guidance see the level of the state. Where something between the sampler and
    the network changes that level, the network's level changes by the same factor.
    """

    def __init__(self) -> None:
        self._state = self._query = torch.ones(1)

    def at(self, state: Tensor, query: Tensor) -> None:
        """For the following calls: [B] noise levels of the states, and [B] those at which the network is asked."""
        self._state, self._query = state, query

    def within(self, model_options: dict[str, Any], sample_sigmas: Tensor) -> dict[str, Any]:
        """A copy of ComfyUI's model options with this as the innermost wrapper and with these sample_sigmas.

        Nothing of it is kept here: a wrapper that holds the options that hold it would keep the model in memory.
        """
        transformer = dict(model_options.get("transformer_options", {}))
        wrappers = dict(transformer.get("wrappers", {}))
        others = {key: found for key, found in wrappers.get(_APPLY_MODEL, {}).items() if key != _KEY}
        wrappers[_APPLY_MODEL] = {**others, _KEY: [self]}
        transformer.update(wrappers=wrappers, sample_sigmas=sample_sigmas)
        return {**model_options, "transformer_options": transformer}

    def __call__(
        self, apply_model: Callable[..., Tensor], x: Tensor, sigma: Tensor, *args: Any, **conds: Any
    ) -> Tensor:
        """Raises ValueError where levels differ by sample and the batch is not a multiple of the samples."""
        state, query = (level.to(sigma.device) for level in (self._state, self._query))
        if len(sigma) != len(state):  # the prompts of a batch come one after the other, each with all samples
            if len(sigma) % len(state) and bool((state != state[0]).any() or (query != query[0]).any()):
                raise ValueError(
                    f"{len(sigma)} samples in one call, but the solver has noise levels for {len(state)}: sample them "
                    "one by one, or with a solver that gives all samples one schedule"
                )
            sample = torch.arange(len(sigma), device=sigma.device) % len(state)
            state, query = state[sample], query[sample]
        # not sigma * query / state, which would be an ulp off where sigma is unchanged
        return apply_model(x, query + (sigma - state) * (query / state), *args, **conds)


class Denoiser:
    """denoise(x [B, ...], sigma [B]) for the rows of a plan, one call per row; with predictions (x, sigma, guided) too.

    ComfyUI is given the noise level of each row's state and finds it, bit for bit, in `sample_sigmas`.
    """

    def __init__(
        self,
        model: Callable[..., Tensor],
        extra_args: dict[str, Any],
        states: Tensor,
        end: float,
        *,
        row: int = 0,
        calls: int = 1,
        predictions: Predictions | None = None,
    ) -> None:
        """model, extra_args: as ComfyUI hands them to a sampler.

        states: [rows] or [B, rows], the noise levels of the states; end: the last sigma of the schedule.
        row: of the first call. calls: rows per step of the schedule; `sample_sigmas` holds the first level of each.
        predictions: for a plan with guidance.
        """
        self._predictions = predictions
        self.states, self._row = states, row
        self._states = states.detach().float()
        self._time = TimeScaling()
        shown = self._states if states.ndim == 1 else self._states[0]  # ComfyUI looks up the first sample's
        sample_sigmas = torch.cat([shown[::calls], shown.new_tensor([end])])
        given = extra_args.get("model_options", {})
        before = given.get("transformer_options", {}).get("sample_sigmas")
        options = self._time.within(given, sample_sigmas if before is None else sample_sigmas.to(before.device))
        if predictions is not None:
            options = predictions.within(options)
        self._model, self._extra_args = model, {**extra_args, "model_options": options}

    @property
    def sample_sigmas(self) -> Tensor:
        """[steps + 1] float32: the noise levels that ComfyUI sees."""
        sigmas: Tensor = self._extra_args["model_options"]["transformer_options"]["sample_sigmas"]
        return sigmas

    def at(self, row: int) -> "Denoiser":
        """The same, with this row of the plan as the next one."""
        self._row = row
        return self

    def __call__(self, x: Tensor, sigma: Tensor, guided: bool | None = None) -> Any:
        state = self._states[..., self._row].to(sigma.dtype).to(sigma.device).expand_as(sigma)
        self._row += 1
        self._time.at(state, sigma)
        if guided is None or self._predictions is None:
            return self._model(x, state, **self._extra_args)
        return self._predictions.ask(guided, lambda: self._model(x, state, **self._extra_args))
