"""More models for `--ckpt benchmarks.models:NAME`: variants of the built-in ones."""

import importlib
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dyweight import schedules
from tools.models.real_size import ARCHITECTURES, conditioning, patcher
from trainer.checkpoints.builtin import digits, gmm, photographs
from trainer.checkpoints.comfy.canvas import CanvasCheckpoint
from trainer.checkpoints.comfy.installation import find_comfyui, start

from .harness.bench import use_stand_ins


class DigitsFlow:
    """`digits` with a shifted schedule and classifier-free guidance, as with FLUX and SD3."""

    shape = (1, 8, 8)

    def __init__(self, shift: float = 1.0, guidance: float = 1.0) -> None:
        self.model, self.shift, self.guidance = digits.checkpoint(), shift, guidance
        self.cfg = guidance
        self.fingerprint = f"{self.model.fingerprint}, shift {shift}, guidance {guidance}"

    def schedule(self, steps: int) -> Tensor:
        return schedules.flow(steps, self.shift)

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, Any]:
        return self.model.draw(generator, batch)

    def denoise(self, x: Tensor, sigma: Tensor, cond: Any) -> Any:
        """The pair (conditional, unconditional) where there is guidance."""
        conditional = self.conditional(x, sigma, cond)
        return conditional if self.guidance == 1 else (conditional, self.model.denoise(x, sigma, None))

    def conditional(self, x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        return self.model.denoise(x, sigma, cond)


class DigitsRounded(DigitsFlow):
    """`digits` with the input and the output of the network rounded to bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.fingerprint += ", bfloat16"

    def denoise(self, x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        return self.conditional(x.bfloat16().to(x.dtype), sigma, cond).bfloat16().to(x.dtype)


class DigitsExploding:
    """`digits` as a variance-exploding model: x / (1 + sigma) is the flow's x at time sigma / (1 + sigma)."""

    shape = (1, 8, 8)

    def __init__(self) -> None:
        self.model = digits.checkpoint()
        self.fingerprint = f"{self.model.fingerprint}, exploding"

    def schedule(self, steps: int) -> Tensor:
        return schedules.polynomial(steps)

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, Any]:
        noise, cond = self.model.draw(generator, batch)
        return noise * float(self.schedule(1)[0]), cond

    def denoise(self, x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        return self.model.denoise(x / (1 + sigma).reshape(-1, 1, 1, 1), sigma / (1 + sigma), cond)


class Karras:
    """A variance-exploding model at the noise levels of SD 1.5 and SDXL, on ComfyUI's schedule karras for them: down to
    the smallest, then to 0."""

    smallest, largest = 0.0292, 14.61

    def __init__(self, model: Any) -> None:
        self.model, self.shape = model, model.shape
        self._began = float(model.schedule(1)[0])
        self.fingerprint = f"{model.fingerprint}, karras"

    def schedule(self, steps: int) -> Tensor:
        levels = schedules.polynomial(max(1, steps - 1), self.smallest, self.largest)
        return torch.cat([levels if steps > 1 else levels[:1], levels.new_zeros(1)])

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, Any]:
        noise, cond = self.model.draw(generator, batch)
        return noise * (self.largest / self._began), cond

    def denoise(self, x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        answer: Tensor = self.model.denoise(x, sigma, cond)
        return answer


class MixtureFlow:
    """A Gaussian mixture in the plane as a flow model."""

    shape = (2,)
    fingerprint = "mixture flow"

    def __init__(self) -> None:
        self.model = gmm.checkpoint(dimension=2, components=6, seed=3)

    def schedule(self, steps: int) -> Tensor:
        return schedules.flow(steps)

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, Any]:
        return torch.randn(batch, 2, generator=generator), None

    def denoise(self, x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        sigma = sigma.clamp(max=0.9999)
        return self.model.denoise(x / (1 - sigma)[:, None], sigma / (1 - sigma))


def digits_karras() -> Karras:
    return Karras(DigitsExploding())


def photographs_karras() -> Karras:
    return Karras(photographs.checkpoint())


def tiny_sd15(prompts: int = 16) -> CanvasCheckpoint:
    """SD 1.5's network in ComfyUI at a tenth of the width, with random weights, at cfg 7.5."""
    use_stand_ins()
    start(find_comfyui(None))
    model, (negative, *positive) = patcher("sd15", "fp32", small=True), conditioning("sd15", 1 + prompts, small=True)
    told = ARCHITECTURES["sd15"]
    guider = importlib.import_module("comfy.samplers").CFGGuider(model)
    guider.set_conds(positive[0], negative)
    guider.set_cfg(told.cfg)
    return CanvasCheckpoint(told.family, guider, positive, {"samples": torch.zeros(1, 4, 8, 8)}, told.scheduler)


digits_exploding = DigitsExploding
digits_shifted = partial(DigitsFlow, shift=3.0)
digits_guided = partial(DigitsFlow, guidance=3.0)
digits_rounded = DigitsRounded
mixture_flow = MixtureFlow
photographs_guided = partial(photographs.checkpoint, cfg=2.0)
