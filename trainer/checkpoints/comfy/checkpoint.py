"""A model that ComfyUI loads, sampled through ComfyUI's own guider: what is trained is what is sampled."""

import hashlib
import importlib
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from comfyui.asking import Denoiser
from comfyui.facts import noise_scale, prediction_type
from dyweight import conditions

from ...run.errors import CheckpointError
from ..protocol import Rival
from .families import default_encoders, family_of
from .gradients import differentiable
from .installation import find_file
from .loading import Loaded, file_digest, loaded
from .options import ComfyOptions
from .rivals import found
from .text import OWN_PROMPTS, Conditions, encoded, read_conditions, read_prompts

Inside = Callable[[Any, dict[str, Any]], Tensor]
"""(denoise(x, sigma, **extra), extra arguments) -> result: what runs inside ComfyUI's sampling."""


class ComfyCheckpoint:
    """A checkpoint for the trainer; a condition is the number of a prompt, [B]."""

    worth_timing = True

    def __init__(self, path: Path, options: ComfyOptions, cache: Path | None) -> None:
        """cache: folder for encoded prompts. ComfyUI must be started. Raises CheckpointError with what to do."""
        self.path = path
        self.options, self._cache = options, cache
        self._loaded: Loaded = loaded(self.path, options)
        self.model_family = self._loaded.family
        defaults = family_of(self.model_family)
        self.cfg = defaults.cfg if options.cfg is None else options.cfg
        self.guidance = defaults.guidance if options.guidance is None else options.guidance
        self.shape = self._latent_shape(defaults.size)
        self._encoders: list[Path] = []
        self._conditions, self._negative, self._conditions_digest = self._encode()
        self.prompts = len(self._conditions)
        samplers = importlib.import_module("comfy.samplers")
        self._guider = samplers.CFGGuider(self._loaded.patcher)
        self._guider.set_cfg(self.cfg)
        self._sampling = self._loaded.patcher.get_model_object("model_sampling")
        self._last_sigma = float(self.schedule(1)[-1])
        self.shift = getattr(self._sampling, "shift", None)
        self.prediction_type = prediction_type(self._sampling)
        self.schedule_recipe = {"kind": "comfyui", "scheduler": options.scheduler, "shift": self.shift}
        told = [self._loaded.digest, self._conditions_digest, self.cfg, self.guidance, self.shift, self.shape]
        told += [options.dtype, options.scheduler]
        if getattr(self._loaded.patcher.model.diffusion_model, "time_r_in", None) is not None:
            told.append("told the next level")  # mean flow, whose endpoints were different before it was told
        self.fingerprint = "comfyui-" + hashlib.sha256(repr(told).encode()).hexdigest()[:24]

    @property
    def made_for(self) -> dict[str, Any]:
        """What the coefficient file says besides the fields of every checkpoint."""
        options = self.options
        return {
            "cfg": self.cfg,
            "noise_scale": noise_scale(self._sampling),
            "negative": options.negative,
            "dtype": options.dtype,
            "lora": list(options.lora),
            "width": self.shape[-1] * self._loaded.downscale,
            "height": self.shape[-2] * self._loaded.downscale,
            "frames": options.frames,
            "prompts": self.prompts,
            "prompts_file": (options.conditioning or options.prompts or OWN_PROMPTS).name,
            "conditions_digest": self._conditions_digest,
            "text_encoders": [path.name for path in self._encoders],
            "vae": self._loaded.vae_file and self._loaded.vae_file.name,
        }

    def schedule(self, steps: int) -> Tensor:
        """[steps + 1] of ComfyUI's scheduler on the model's own sampling."""
        samplers = importlib.import_module("comfy.samplers")
        sigmas: Tensor = samplers.calculate_sigmas(self._sampling, self.options.scheduler, steps)
        return sigmas.double().cpu()

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, Tensor]:
        """Noise as ComfyUI scales it for an empty latent, and the numbers of prompts."""
        noise = torch.randn(batch, *self.shape, generator=generator)
        prompts = torch.randint(len(self._conditions), (batch,), generator=generator)
        first = self.schedule(1)[0].float()
        scaled = self._sampling.noise_scaling(first, noise, torch.zeros_like(noise), True)
        return scaled.to(self._loaded.patcher.load_device), prompts

    def condition(self, cond: Tensor) -> Tensor:
        """cond [B], numbers of prompts -> [B, width], what a solver may read of them, the same as in the nodes."""
        cross, pooled = self._conditions.cross_attn, self._conditions.pooled
        return torch.cat([conditions.of_text(cross[i], pooled[i]) for i in cond.tolist()])

    def captions(self, cond: Tensor) -> list[str] | None:
        """cond [B], numbers of prompts -> the prompts, None where a file of conditions does not have them."""
        prompts = self._conditions.prompts
        return None if prompts is None else [prompts[i] for i in cond.tolist()]

    def denoise(self, x: Tensor, sigma: Tensor, cond: Tensor) -> Tensor:
        """x [B, *shape], sigma [B], cond [B] -> [B, *shape], the clean x; in smaller batches where memory runs out."""
        return self.denoise_at(x, sigma, cond, sigma.detach().reshape(-1, 1), 0)

    def denoise_at(self, x: Tensor, sigma: Tensor, cond: Tensor, states: Tensor, row: int) -> Tensor:
        """`denoise` for one row of a plan: x [B, *shape], sigma [B], cond [B] -> [B, *shape].

        states: [rows] or [B, rows], the noise levels of the plan's states, which ComfyUI sees; x is at that of `row`.
        """
        positive = self._positive(cond.tolist())
        if positive is None:
            return self._by_parts(range(len(x) + 1), x, sigma, cond, states, row)
        try:

            def ask(model: Any, extra: dict[str, Any]) -> Tensor:
                return Denoiser(model, extra, states, self._last_sigma, row=row)(x, sigma)

            return self._inside(positive, x, ask)
        except _out_of_memory():
            if len(x) == 1:
                raise CheckpointError(
                    f"out of memory with one sample of {list(self.shape)}: give a smaller --width and --height or "
                    "--dtype fp8_e4m3fn"
                ) from None
        except RuntimeError as error:
            raise CheckpointError(
                f"--ckpt {self.path}: {self.model_family} fails on {list(x.shape)} with a condition of "
                f"{list(positive[0][0].shape)} ({error}); check --clip or --conditioning, --width and --height"
            ) from error
        importlib.import_module("comfy.model_management").soft_empty_cache()
        return self._by_parts((0, len(x) // 2, len(x)), x, sigma, cond, states, row)

    def _by_parts(
        self, cuts: Sequence[int], x: Tensor, sigma: Tensor, cond: Tensor, states: Tensor, row: int
    ) -> Tensor:
        parts = [slice(*ends) for ends in pairwise(cuts)]
        each = [states if states.ndim == 1 else states[part] for part in parts]
        answers = [self.denoise_at(x[p], sigma[p], cond[p], s, row) for p, s in zip(parts, each, strict=True)]
        return torch.cat(answers)

    def sample_with(self, sampler: str, scheduler: str, steps: int, noise: Tensor, cond: Tensor) -> tuple[Tensor, int]:
        """(endpoint, network calls) of one of ComfyUI's own samplers by ComfyUI's code, from noise of `draw`.

        noise: [B, *shape] from `draw`, rescaled where the schedule starts elsewhere than the base schedule. cond: [B].
        """
        samplers = importlib.import_module("comfy.samplers")
        used = samplers.KSampler(self._loaded.patcher, steps, noise.device, sampler, scheduler, 1.0, {}).sigmas
        function, calls = samplers.sampler_object(sampler), 0
        first = float(self.schedule(1)[0])
        x = noise * (float(used[0]) / first) if self.prediction_type != "flow" else noise

        def run(model: Any, extra: dict[str, Any]) -> Tensor:
            def counted(x: Tensor, sigma: Tensor, **more: Any) -> Any:
                nonlocal calls
                calls += 1
                return model(x, sigma, **more)

            counted.inner_model = model.inner_model  # type: ignore[attr-defined]
            given = {"extra_args": extra, "callback": None, "disable": True, **function.extra_options}
            end: Tensor = function.sampler_function(counted, x, used.to(x.device), **given)
            return end

        positive = self._positive(cond.tolist())
        if positive is None:
            singles = [
                self.sample_with(sampler, scheduler, steps, noise[i : i + 1], cond[i : i + 1]) for i in range(len(x))
            ]
            return torch.cat([end for end, _ in singles]), singles[0][1]
        return self._inside(positive, x, run, used), calls

    def images(self, x: Tensor) -> Tensor | None:
        """x [B, *shape] -> [B, height, width, 3] in 0..1, None without a VAE."""
        vae = self._loaded.vae()
        if vae is None:
            return None
        with torch.no_grad():  # which ComfyUI's VAE leaves to its caller
            decoded = _tensor(vae.decode(self._loaded.patcher.model.process_latent_out(x.detach().float().cpu())))
        return decoded.float().cpu().reshape(len(x), -1, *decoded.shape[-3:])[:, 0]  # the first frame of a video

    def rivals(
        self, network_calls: int, names: Sequence[str] | None, count: Callable[[int], object]
    ) -> dict[str, Rival]:
        """ComfyUI's own samplers, SAMPLER/SCHEDULER, that make this many network calls. Raises CheckpointError."""
        first = self.draw(torch.Generator().manual_seed(0), 1)
        return found(self.sample_with, first, network_calls, names, count)

    def _inside(self, positive: Any, x: Tensor, run: Inside, sigmas: Tensor | None = None) -> Tensor:
        """Run something with the guider as ComfyUI sets it up: model loaded, conditions prepared, hooks in place."""
        self._guider.set_conds(positive, self._negative)
        call = _Call(run)
        zeros = torch.zeros(x.shape)
        seen = torch.tensor([1.0, 0.0]) if sigmas is None else sigmas
        with differentiable() if torch.is_grad_enabled() else nullcontext():
            self._guider.sample(zeros, zeros, call, seen, disable_pbar=True, seed=0)
        assert call.result is not None
        return call.result.to(x.device)

    def _positive(self, chosen: list[int]) -> Any:
        batch = self._conditions.batches(chosen)
        if batch is not None and self.guidance is not None:
            batch[0][1]["guidance"] = self.guidance
        return batch

    def _encode(self) -> tuple[Conditions, Any, str]:
        """(conditions, negative CONDITIONING, digest of both)."""
        options = self.options
        if options.conditioning is not None:
            conditions, negative, digest = read_conditions(options.conditioning)
            if negative is None and not math.isclose(self.cfg, 1.0):
                raise CheckpointError(f"--cfg is {self.cfg:g} and {options.conditioning} has no negative: give --cfg 1")
            return conditions, (negative or conditions).batches([0]), digest
        prompts = read_prompts(options.prompts or OWN_PROMPTS)
        files = self._encoders = self._loaded.text_files or (
            [find_file(name, ("text_encoders",), "--clip") for name in options.clip]
            if options.clip
            else default_encoders(self.model_family)
        )
        kind = options.clip_type or family_of(self.model_family).clip_type
        key = [*map(file_digest, files), *map(str, self._loaded.text_loras), kind]
        found = encoded([*prompts, options.negative], lambda: self._loaded.clip(files, kind), key, self._cache)
        positive = Conditions(found.cross_attn[:-1], found.extra[:-1], prompts)
        if not positive.tells_apart(prompts):
            names = ", ".join(path.name for path in files)
            raise CheckpointError(f"{names}: not text encoders of {self.model_family}; name them with --clip")
        digest = hashlib.sha256(repr([prompts, options.negative, key]).encode()).hexdigest()[:16]
        return positive, found.batches([len(prompts)]), digest

    def _latent_shape(self, size: int) -> tuple[int, ...]:
        options, form = self.options, self._loaded.patcher.model.latent_format
        width = options.width or size
        height = options.height or width
        down, temporal = self._loaded.downscale, getattr(form, "temporal_downscale_ratio", 4)
        if width % down or height % down:
            raise CheckpointError(f"--width {width} and --height {height} must be multiples of {down}")
        space = (height // down, width // down)
        if form.latent_dimensions == 3:
            return (form.latent_channels, (options.frames - 1) // max(1, temporal) + 1, *space)
        return (form.latent_channels, *space)


class _Call:
    """A sampler for ComfyUI's guider that runs a function instead of sampling."""

    def __init__(self, run: Inside) -> None:
        self._run = run
        self.result: Tensor | None = None

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        samplers = importlib.import_module("comfy.samplers")
        extra_args["denoise_mask"] = None
        self.result = self._run(samplers.KSamplerX0Inpaint(model_wrap, sigmas), extra_args)
        return noise


def _tensor(value: Any) -> Tensor:
    assert isinstance(value, Tensor)
    return value


def _out_of_memory() -> type[BaseException]:
    """ComfyUI's own, but not its stand-in on systems without one, which is every Exception."""
    found: type[BaseException] = importlib.import_module("comfy.model_management").OOM_EXCEPTION
    return found if found is not Exception else torch.OutOfMemoryError
