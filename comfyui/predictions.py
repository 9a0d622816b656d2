"""Both predictions of classifier-free guidance, asked through ComfyUI for the rows of a plan that want them."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

_EVALUATE = "sampler_calc_cond_batch_function"
_MASK, _BEFORE = "denoise_mask_function", "sampler_pre_cfg_function"


class Predictions:
    """A `sampler_calc_cond_batch_function` of one run: it leaves the unconditional evaluation out where none is wanted,
    and keeps both predictions where it is.

    ComfyUI is given the conditional prediction as both, so whatever scale it guides with leaves that as it is.
    """

    def __init__(self, evaluate: Callable[..., list[Tensor]], cfg: float | None = None) -> None:
        """evaluate: ComfyUI's calc_cond_batch. cfg: of the guider, where nothing may change it within the run."""
        self._evaluate, self._cfg = evaluate, cfg
        self._users: Callable[[dict[str, Any]], list[Tensor]] | None = None
        self._users_mask: Callable[..., Tensor] | None = None
        self._both = self._answered = False
        self._direction: Tensor | None = None
        self._mask: Tensor | None = None

    def within(self, model_options: dict[str, Any]) -> dict[str, Any]:
        """A copy of ComfyUI's model options with this in it; a user's own function of the kind is called by this."""
        self._users, self._users_mask = model_options.get(_EVALUATE), model_options.get(_MASK)
        own = {_EVALUATE: self, _MASK: self._masked, _BEFORE: [*model_options.get(_BEFORE, []), self._scaled]}
        return {**model_options, **own, "disable_cfg1_optimization": True}

    def ask(self, both: bool, call: Callable[[], Tensor]) -> Any:
        """(conditional, unconditional) of a call of the model, or the conditional prediction alone.

        Raises ValueError where something between the sampler and the network answered in its place.
        """
        self._both, self._answered, self._direction = both, False, None
        conditional = call()
        if not self._answered:
            raise ValueError(
                "take out what is around the model, such as a step cache, or take a file without learned guidance: it "
                "answered without asking for both predictions"
            )
        if self._direction is None:
            return conditional
        # a mask keeps the latent in both, so there they do not differ
        direction = self._direction if self._mask is None else self._direction * self._mask
        return conditional, conditional - direction

    def __call__(self, args: dict[str, Any]) -> list[Tensor]:
        """What ComfyUI calls: {conds, input, sigma, model, model_options} -> a prediction for each of conds."""
        conditional = args["conds"][0]
        conds = args["conds"] if self._both else [conditional, None]
        if self._users is not None:
            found = self._users({**args, "conds": conds})
        else:
            found = self._evaluate(args["model"], conds, args["input"], args["sigma"], args["model_options"])
        self._answered = True
        self._direction = found[0] - found[1] if self._both else None
        return [found[0], found[0]]

    def _scaled(self, args: dict[str, Any]) -> list[Tensor]:
        """Between the predictions and the guidance of them. Raises ValueError where another cfg than the run's acts."""
        if self._cfg is not None and float(args["cond_scale"]) != self._cfg:
            raise ValueError(
                f"take out what changes cfg within the run, such as CFG Override, or take a file without learned "
                f"guidance: it sets cfg to {args['cond_scale']:g} in the place of {self._cfg:g}"
            )
        found: list[Tensor] = args["conds_out"]
        return found

    def _masked(self, sigma: Tensor, mask: Tensor, **more: Any) -> Tensor:
        self._mask = mask if self._users_mask is None else self._users_mask(sigma, mask, **more)
        return self._mask
