"""A model folder of diffusers, asked by its own pipeline: what is trained is what is sampled."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from comfyui.prompts import OWN_PROMPTS
from dyweight import DyWeight, SolverFile

from ..options.prompted import PromptedOptions
from ..run.errors import CheckpointError
from .comfy.prompt_files import read_prompts

try:
    import diffusers

    from dyweight.diffusers import PREDICTIONS, DyWeightScheduler, prediction_of
except ModuleNotFoundError as error:
    raise CheckpointError(f"--ckpt diffusers: {error.name} is missing: pip install diffusers transformers") from error

FAMILIES = {
    "ChromaPipeline": "Chroma",
    "FluxPipeline": "Flux",
    "QwenImagePipeline": "QwenImage",
    "StableDiffusion3Pipeline": "SD3",
    "StableDiffusionPipeline": "SD15",
    "StableDiffusionXLPipeline": "SDXL",
    "WanPipeline": "WAN21_T2V",
    "ZImagePipeline": "ZImage",
}
"""ComfyUI's name of what a pipeline samples, for the coefficient file."""
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
_REMEMBERED = 16
"""Batches of prompts; a fit takes one batch many times, then the next."""


class DiffusersCheckpoint:
    """A checkpoint for the trainer; a condition is the number of a prompt, [B]."""

    worth_timing = True

    def __init__(self, folder: Path, options: PromptedOptions) -> None:
        """folder: what `save_pretrained` of a pipeline writes. Raises CheckpointError with what to do."""
        self._options = options
        self._pipe = pipe = _loaded(folder, options.dtype)
        pipe.set_progress_bar_config(disable=True)
        pipe.encode_prompt = _remembering(pipe.encode_prompt)
        self._texts = read_prompts(options.prompts or OWN_PROMPTS)
        self.prompts = len(self._texts)
        self._takes = inspect.signature(pipe.__call__).parameters
        self._network = getattr(pipe, "transformer", None) or pipe.unet
        guided = bool(self._network.config.get("guidance_embeds"))
        embedded = "guidance_scale" if guided else ""
        self._cfg = "true_cfg_scale" if "true_cfg_scale" in self._takes else "" if guided else "guidance_scale"
        self._inputs = self._chosen(embedded)
        self.guidance: float | None = self._inputs.get(embedded)
        config = pipe.scheduler.config
        self.prediction_type = PREDICTIONS.get(str(prediction_of(config)))
        if self.prediction_type is None:
            raise CheckpointError(
                f"--ckpt {folder}: take a model for {', '.join(PREDICTIONS)}, which its scheduler has"
            )
        # Even in time and from the highest level, for any number of steps the same.
        even = diffusers.EulerDiscreteScheduler.from_config(config, timestep_spacing="trailing")
        self._own = pipe.scheduler if self.prediction_type == "flow" else even
        self._first_sigma = float(self.schedule(2)[0])
        first = self._one_call(None, self._first_sigma, [0])[0]
        self.shape, self._device = tuple(first.shape[1:]), first.device
        self.model_family = self._family(guided)
        self.schedule_recipe = {"kind": "diffusers", "scheduler": type(self._own).__name__}
        if (boundary := pipe.config.get("boundary_ratio")) is not None:
            self.schedule_recipe["boundary"] = boundary

    @property
    def made_for(self) -> dict[str, Any]:
        """What the coefficient file says besides the fields of every checkpoint."""
        options, inputs = self._options, self._inputs
        return {
            "cfg": inputs.get(self._cfg, 1.0),
            "negative": options.negative,
            "dtype": options.dtype,
            "width": inputs.get("width"),
            "height": inputs.get("height"),
            "frames": inputs.get("num_frames"),
            "shape": self._unpacked_shape(),
            "prompts": self.prompts,
            "prompts_file": (options.prompts or OWN_PROMPTS).name,
            "pipeline": type(self._pipe).__name__,
        }

    def schedule(self, steps: int) -> Tensor:
        """[steps + 1] of the pipeline's own scheduler, with the shift that the pipeline tells it."""
        tell = self._own.set_timesteps

        @functools.wraps(tell)
        def tell_and_stop(*given: Any, **named: Any) -> None:
            tell(*given, **named)
            raise _Told

        self._own.set_timesteps = tell_and_stop
        try:
            self._run(self._own, [0], num_inference_steps=steps)
        except _Told:
            pass
        finally:
            del self._own.set_timesteps
        sigmas: Tensor = self._own.sigmas
        return sigmas.cpu().double()

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, Tensor]:
        """Noise as the pipeline scales it, and the numbers of prompts."""
        noise = torch.randn(batch, *self.shape, generator=generator).to(self._device)
        scale = self._asked_at(self._first_sigma).init_noise_sigma
        return noise * scale, torch.randint(self.prompts, (batch,), generator=generator)

    def denoise(self, x: Tensor, sigma: Tensor, cond: Tensor) -> Tensor:
        """x [B, *shape], sigma [B], cond [B] -> [B, *shape], the clean x."""
        denoised = torch.empty_like(x)
        for level in set(sigma.tolist()):
            at = (sigma == level).nonzero().flatten().cpu()
            denoised[at] = self._one_call(x[at], level, cond[at].tolist())[0]
        return denoised

    def images(self, x: Tensor) -> Tensor | None:
        """x [B, *shape] -> [B, height, width, 3] in 0..1, None without a VAE."""
        if getattr(self._pipe, "vae", None) is None:
            return None
        shown: Tensor = self._one_call(x, self._first_sigma, [0] * len(x), output_type="pt")[1]
        first = shown[:, 0] if shown.ndim == 5 else shown  # the first frame of a video
        return first.float().cpu().movedim(1, -1)

    def captions(self, cond: Tensor) -> list[str]:
        """cond [B], numbers of prompts -> the prompts."""
        return [self._texts[number] for number in cond.tolist()]

    def _one_call(self, x: Tensor | None, sigma: float, prompts: list[int], **inputs: Any) -> tuple[Tensor, Any]:
        """(the clean x, what the pipeline makes of x). x: [B, *shape], by default noise of the pipeline's own."""
        asked = self._asked_at(sigma)
        asked.x = x
        if x is not None:
            inputs["latents"] = (x / asked.init_noise_sigma).to(self._network.dtype)
        shown = self._run(asked, prompts, **inputs)[0]
        assert asked.clean is not None
        return asked.clean, shown

    def _asked_at(self, sigma: float) -> "_Asked":
        solver = DyWeight(torch.tensor([sigma, 0.0]), order=1, initial="euler")
        made: _Asked = _Asked.from_solver(SolverFile(solver, {}), self._own.config)
        return made

    def _run(self, scheduler: Any, prompts: list[int], **inputs: Any) -> Any:
        """What the pipeline returns for the prompts of these numbers."""
        plain: dict[str, Any] = {"num_inference_steps": 1, "output_type": "latent", "return_dict": False}
        given = {**plain, **self._inputs, **inputs}
        if "negative_prompt" in self._takes:
            given["negative_prompt"] = [self._options.negative] * len(prompts)
        self._pipe.scheduler = scheduler
        return self._pipe(prompt=[self._texts[number] for number in prompts], **given)

    def _chosen(self, embedded: str) -> dict[str, Any]:
        """Inputs of the pipeline from the options, or its own defaults. embedded: the input for --guidance."""
        options, inputs = self._options, dict[str, Any]()
        if len(options.widths) > 1:
            raise CheckpointError(f"--width {','.join(map(str, options.widths))}: give one, diffusers' models take one")
        width = options.widths[0] if options.widths else None
        asked = (
            ("cfg", self._cfg, options.cfg),
            ("guidance", embedded, options.guidance),
            ("width", "width", width),
            ("height", "height", options.height or width),
            ("frames", "num_frames", options.frames),
        )
        for option, name, value in asked:
            if value is not None and name not in self._takes:
                raise CheckpointError(
                    f"--{option} {value}: leave it out, {type(self._pipe).__name__} has no such input"
                )
            found = self._takes[name].default if value is None and name in self._takes else value
            if found is not None:
                inputs[name] = found
        return inputs

    def _family(self, guided: bool) -> str | None:
        found = FAMILIES.get(type(self._pipe).__name__)
        if found == "Flux" and not guided:
            return "FluxSchnell"
        if found == "SD15" and self._network.config.cross_attention_dim != 768:
            return "SD20"
        return "WAN22_T2V" if found == "WAN21_T2V" and self._pipe.config.expand_timesteps else found

    def _unpacked_shape(self) -> list[int] | None:
        """Of a latent as ComfyUI has it; None where the pipeline packs it in a way of its own."""
        unpack, inputs = getattr(self._pipe, "_unpack_latents", None), self._inputs
        if unpack is None:
            return list(self.shape)
        try:
            size = inputs["height"], inputs["width"], self._pipe.vae_scale_factor
            return list(unpack(torch.empty(1, *self.shape), *size).shape[1:])
        except (KeyError, TypeError, ValueError, RuntimeError):
            return None


class _Told(Exception):  # noqa: N818
    """The pipeline has told its scheduler the steps."""


class _Asked(DyWeightScheduler):
    """Keeps the clean x of one network call, in float32, and hands the pipeline its x again."""

    x: Tensor | None = None
    """[B, *shape], in place of the pipeline's, which is in the network's number format."""
    clean: Tensor | None = None

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, return_dict: bool = True) -> tuple[Tensor]:
        """As DyWeightScheduler: to 0 in one step, which is the clean x."""
        x = sample.float() if self.x is None else self.x
        self.clean = super().step(model_output, timestep, x, return_dict=False)[0]
        return (x.to(sample.dtype),)


def _loaded(folder: Path, dtype: str) -> Any:
    if dtype not in ("default", *_DTYPES):
        raise CheckpointError(f"--dtype {dtype} is for ComfyUI: give one of {', '.join(_DTYPES)}")
    if not (folder / "model_index.json").is_file():
        raise CheckpointError(f"--ckpt diffusers:{folder}: give a folder with a pipeline's model_index.json")
    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    numbers = _DTYPES.get(dtype, torch.float32 if device == "cpu" else torch.bfloat16)
    try:
        made = diffusers.DiffusionPipeline.from_pretrained(folder, torch_dtype=numbers, local_files_only=True)
    except (OSError, ValueError, ImportError) as error:
        raise CheckpointError(f"--ckpt diffusers:{folder}: diffusers can't load it ({error})") from error
    return made.to(device)


def _remembering(encode: Callable[..., Any]) -> Callable[..., Any]:
    """A pipeline's encode_prompt that keeps its last answers."""
    known: dict[str, Any] = {}

    @functools.wraps(encode)
    def encoded(*given: Any, **named: Any) -> Any:
        key = repr((given, named))
        if key not in known:
            known[key] = encode(*given, **named)
            if len(known) > _REMEMBERED:
                known.pop(next(iter(known)))
        return known[key]

    return encoded
