"""A model that ComfyUI loads, sampled through ComfyUI's own guider: what is trained is what is sampled."""

import hashlib
import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from comfyui.asking import Denoiser
from comfyui.facts import answers_for_interval, noise_scale, prediction_type
from comfyui.predictions import Predictions
from dyweight import conditions

from ...run.errors import CheckpointError
from ..protocol import Rival
from .conditions import POOLED, Condition, Conditions, conditioning, opposite, read_conditions
from .encoding import EncodedPrompts
from .experts import Experts, check_experts
from .guided import Guided, Texts
from .loading import Loaded, file_digest, loaded
from .options import ComfyOptions
from .prompt_files import OWN_PROMPTS, read_prompts
from .rivals import found
from .schedules import NODES, schedule


class ComfyCheckpoint:
    """A checkpoint for the trainer; a condition is the number of a prompt, [B]."""

    worth_timing = True

    def __init__(self, path: Path, options: ComfyOptions, cache: Path | None, low: Path | None = None) -> None:
        """cache: folder for encoded prompts. low: the file of a second network, for below options.boundary.

        ComfyUI must be started. Raises CheckpointError with what to do.
        """
        self.path = path
        self.options, self._cache = options, cache
        self._loaded: Loaded = loaded(self.path, options)
        self.model_family = self._loaded.family
        if (interval := answers_for_interval(self._loaded.patcher.model)) is not None:
            raise CheckpointError(
                f"--ckpt {path}: take its undistilled model; this network answers for an interval ({interval}) and "
                "gives no velocity that a multistep solver could be fitted to"
            )
        defaults = self._loaded.defaults
        self.cfg = defaults.cfg if options.cfg is None else options.cfg
        self.guidance = defaults.guidance if options.guidance is None else options.guidance
        self.scheduler = options.scheduler or defaults.scheduler
        if options.shift is not None and self.scheduler in NODES:
            raise CheckpointError(f"--shift: the scheduler {self.scheduler} shifts by the size itself: leave it out")
        self.shape = self._loaded.latent.shape
        self._encoders: list[Path] = []
        self._conditions: Conditions
        self._conditions, self._negative, self._conditions_digest = self._encode()
        self.prompts = len(self._conditions)
        self._guided = [Guided(self._loaded, self.cfg)]
        if low is not None:
            self._low = loaded(low, replace(options, lora=options.lora_low))
            check_experts(self._loaded, self._low)
            self._guided.append(Guided(self._low, self.cfg))
        self._experts = Experts(options.boundary, self.schedule)
        self._sampling = self._loaded.patcher.get_model_object("model_sampling")
        # not of one step, where ComfyUI's node for LTX divides by 0
        self._first_sigma, _, self._last_sigma = self.schedule(2).tolist()
        self.shift = getattr(self._sampling, "shift", None)
        self.prediction_type = prediction_type(self._sampling)
        self.schedule_recipe = {"kind": "comfyui", "scheduler": self.scheduler, "shift": self.shift}
        if options.boundary is not None:
            self.schedule_recipe["boundary"] = options.boundary
        told = [self._loaded.digest, self._conditions_digest, self.cfg, self.guidance, self.shift, self.shape]
        told += [options.dtype, self.scheduler, *([] if low is None else [self._low.digest, options.boundary])]
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
            "model_low": options.ckpt_low and Path(options.ckpt_low).name,
            "boundary": options.boundary,
            "width": self._loaded.size[0],
            "height": self._loaded.size[1],
            "frames": self._loaded.frames,
            "prompts": self.prompts,
            "prompts_file": (options.conditioning or options.prompts or OWN_PROMPTS).name,
            "conditions_digest": self._conditions_digest,
            "text_encoders": [path.name for path in self._encoders],
            "vae": self._loaded.vae_file and self._loaded.vae_file.name,
        }

    def schedule(self, steps: int) -> Tensor:
        """[steps + 1] of ComfyUI's scheduler on the model's own sampling."""
        return schedule(self.scheduler, steps, self._sampling, self._loaded.latent, self._loaded.size)

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, Tensor]:
        """Noise as ComfyUI scales it for an empty latent, and the numbers of prompts."""
        noise = torch.randn(batch, *self.shape, generator=generator)
        prompts = torch.randint(len(self._conditions), (batch,), generator=generator)
        self._conditions.prepare(prompts.tolist())
        first = torch.tensor(self._first_sigma)
        scaled = self._sampling.noise_scaling(first, noise, torch.zeros_like(noise), True)
        return scaled.to(self._loaded.patcher.load_device), prompts

    def condition(self, cond: Tensor) -> Tensor:
        """cond [B], numbers of prompts -> [B, width], what a solver may read of them, the same as in the nodes."""
        texts = [self._conditions[number] for number in cond.tolist()]
        return torch.cat([conditions.of_text(text.cross_attn, text.extra.get(POOLED)) for text in texts])

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
        return self._asked(x, sigma, cond, states, row, None)[0]

    def predictions_at(
        self, x: Tensor, sigma: Tensor, cond: Tensor, states: Tensor, row: int, both: bool
    ) -> tuple[Tensor, Tensor | None]:
        """(conditional, unconditional) of `denoise_at`; None and no evaluation of it without `both`."""
        found = self._asked(x, sigma, cond, states, row, both)
        return found[0], found[1] if both else None

    def _asked(
        self, x: Tensor, sigma: Tensor, cond: Tensor, states: Tensor, row: int, both: bool | None
    ) -> tuple[Tensor, ...]:
        """The guided prediction where `both` is None, the conditional one, or both."""
        texts = self._texts(cond.tolist())
        if texts is None:
            return self._by_parts(range(len(x) + 1), x, sigma, cond, states, row, both)
        experts = self._experts.of_row(states, row)
        if bool((experts != experts[0]).any()):
            return self._by_parts(range(len(x) + 1), x, sigma, cond, states, row, both)
        try:

            def ask(model: Any, extra: dict[str, Any]) -> tuple[Tensor, ...]:
                evaluate = importlib.import_module("comfy.samplers").calc_cond_batch
                own = None if both is None else Predictions(evaluate)
                found = Denoiser(model, extra, states, self._last_sigma, row=row, predictions=own)(x, sigma, both)
                return found if both else (found,)

            answers: tuple[Tensor, ...] = self._guided[int(experts[0])].inside(texts, x, ask)
            return answers
        except _out_of_memory():
            if len(x) == 1:
                raise CheckpointError(
                    f"out of memory with one sample of {list(self.shape)}: give a smaller --width and --height or "
                    "--dtype fp8_e4m3fn"
                ) from None
        except RuntimeError as error:
            raise CheckpointError(
                f"--ckpt {self.path}: {self.model_family} fails on {list(x.shape)} with a condition of "
                f"{list(texts[0][0][0].shape)} ({error}); check --clip or --conditioning, --width and --height"
            ) from error
        importlib.import_module("comfy.model_management").soft_empty_cache()
        return self._by_parts((0, len(x) // 2, len(x)), x, sigma, cond, states, row, both)

    def _by_parts(
        self, cuts: Sequence[int], x: Tensor, sigma: Tensor, cond: Tensor, states: Tensor, row: int, both: bool | None
    ) -> tuple[Tensor, ...]:
        parts = [slice(*ends) for ends in pairwise(cuts)]
        each = [states if states.ndim == 1 else states[part] for part in parts]
        answers = [self._asked(x[p], sigma[p], cond[p], s, row, both) for p, s in zip(parts, each, strict=True)]
        return tuple(map(torch.cat, zip(*answers, strict=True)))

    def sample_with(self, sampler: str, scheduler: str, steps: int, noise: Tensor, cond: Tensor) -> tuple[Tensor, int]:
        """(endpoint, network calls) of one of ComfyUI's own samplers by ComfyUI's code, from noise of `draw`.

        noise: [B, *shape] from `draw`, rescaled where the schedule starts elsewhere than the base schedule. cond: [B].
        """
        samplers = importlib.import_module("comfy.samplers")
        used = samplers.KSampler(self._loaded.patcher, steps, noise.device, sampler, scheduler, 1.0, {}).sigmas
        function, calls = samplers.sampler_object(sampler), 0
        x = noise * (float(used[0]) / self._first_sigma) if self.prediction_type != "flow" else noise

        def run(model: Any, extra: dict[str, Any], sigmas: Tensor) -> Tensor:
            def counted(x: Tensor, sigma: Tensor, **more: Any) -> Any:
                nonlocal calls
                calls += 1
                return model(x, sigma, **more)

            counted.inner_model = model.inner_model  # type: ignore[attr-defined]
            given = {"extra_args": extra, "callback": None, "disable": True, **function.extra_options}
            end: Tensor = function.sampler_function(counted, x, sigmas.to(x.device), **given)
            return end

        texts = self._texts(cond.tolist())
        if texts is None:
            singles = [
                self.sample_with(sampler, scheduler, steps, noise[i : i + 1], cond[i : i + 1]) for i in range(len(x))
            ]
            return torch.cat([end for end, _ in singles]), singles[0][1]
        first = self._experts.split(used)
        for guided, part in zip(self._guided, (used[: first + 1], used[first:]), strict=False):
            if len(part) > 1:
                x = guided.inside(texts, x, partial(run, sigmas=part), part)
        return x, calls

    def images(self, x: Tensor) -> Tensor | None:
        """x [B, *shape] -> [B, height, width, 3] in 0..1, None without a VAE."""
        vae = self._loaded.vae()
        if vae is None:
            return None
        with torch.no_grad():  # which ComfyUI's VAE leaves to its caller
            decoded = _tensor(vae.decode(self._picture(x.detach().float().cpu())))
        return decoded.float().cpu().reshape(len(x), -1, *decoded.shape[-3:])[:, 0]  # the first frame of a video

    def _picture(self, x: Tensor) -> Tensor:
        """What ComfyUI's guider gives at the end, without the sound."""
        model, latent = self._loaded.patcher.model, self._loaded.latent
        model.latent_shapes = [(len(x), *stream) for stream in latent.streams]  # as the guider tells the model
        return latent.picture(_tensor(model.process_latent_out(x)))

    def rivals(
        self, network_calls: int, names: Sequence[str] | None, count: Callable[[int], object]
    ) -> dict[str, Rival]:
        """ComfyUI's own samplers, SAMPLER/SCHEDULER, that make this many network calls. Raises CheckpointError."""
        first = self.draw(torch.Generator().manual_seed(0), 1)
        return found(self.sample_with, first, network_calls, names, count)

    def _texts(self, chosen: list[int]) -> Texts | None:
        """CONDITIONING of these prompts and of the negative; None where they must go one by one."""
        if len(chosen) > 1 and self._loaded.defaults.one_prompt_a_call:
            return None
        positive = conditioning([self._conditions[number] for number in chosen])
        if positive is None:
            return None
        negative = opposite(self._negative, positive)
        if self.guidance is not None:
            positive[0][1]["guidance"] = self.guidance
        return positive, negative

    def _encode(self) -> tuple[Conditions, Condition, str]:
        """(conditions, the negative one, digest of both)."""
        options = self.options
        if options.conditioning is not None:
            known, negative, digest = read_conditions(options.conditioning)
            if negative is None and not math.isclose(self.cfg, 1.0):
                raise CheckpointError(f"--cfg is {self.cfg:g} and {options.conditioning} has no negative: give --cfg 1")
            return known, negative or known[0], digest
        prompts = read_prompts(options.prompts or OWN_PROMPTS)
        files = self._encoders = self._loaded.encoders()
        kind = options.clip_type or self._loaded.defaults.clip_type
        key = [*map(file_digest, files), *map(str, self._loaded.text_loras), kind]
        found = EncodedPrompts(prompts, options.negative, lambda: self._loaded.clip(files, kind), key, self._cache)
        if not found.told_apart:
            names = ", ".join(path.name for path in files)
            raise CheckpointError(f"{names}: not text encoders of {self.model_family}; name them with --clip")
        digest = hashlib.sha256(repr([prompts, options.negative, key]).encode()).hexdigest()[:16]
        return found, found.negative, digest


def _tensor(value: Any) -> Tensor:
    assert isinstance(value, Tensor)
    return value


def _out_of_memory() -> type[BaseException]:
    """ComfyUI's own, but not its stand-in on systems without one, which is every Exception."""
    found: type[BaseException] = importlib.import_module("comfy.model_management").OOM_EXCEPTION
    return found if found is not Exception else torch.OutOfMemoryError
