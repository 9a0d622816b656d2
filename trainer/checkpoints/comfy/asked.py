"""A model of ComfyUI's, asked and sampled through ComfyUI's own guider: what is trained is what is sampled."""

import importlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from comfyui.asking import Denoiser
from comfyui.behaviour import answers
from comfyui.facts import answers_for_interval, family_of, prediction_type
from comfyui.predictions import Predictions
from dyweight import conditions
from dyweight.sketch import sketch

from ...run.errors import CheckpointError
from ..protocol import Result, Rival
from .conditions import POOLED, Conditions
from .experts import Experts
from .guided import Guided, Texts
from .latents import Latent
from .preparation import FAILURES, Preparation, TooLargeError
from .rivals import found
from .schedules import schedule


@dataclass(frozen=True)
class Settings:
    """How a model is asked, beside its prompts."""

    name: str
    """Of the model, for errors."""
    latent: Latent
    size: tuple[int, int]
    """Width, height in pixels."""
    scheduler: str
    one_prompt_a_call: bool
    boundary: float | None = None
    """The noise level below which the second network runs, where there are two."""
    what_to_check: str = "--clip or --conditioning, --width and --height"
    """Where the network fails."""
    how_to_make_smaller: str = "give a smaller --width and --height or --dtype fp8_e4m3fn"


class Asked:
    """A checkpoint for the trainer, of ComfyUI's objects; a condition is the number of a prompt, [B].

    A subclass says how it is made: from files, or from what is on ComfyUI's canvas.
    """

    worth_timing = True

    def __init__(self, settings: Settings, guided: Sequence[Guided], known: Conditions) -> None:
        """guided: the network, or those above and below the boundary. known: the prompts. ComfyUI must be started."""
        self.settings, self._guided, self._conditions = settings, list(guided), known
        self._patcher = guided[0].patcher
        self.model_family = family_of(self._patcher.model)
        self.scheduler, self.shape, self.prompts = settings.scheduler, settings.latent.shape, len(known)
        self._experts = Experts(settings.boundary, self.schedule)
        self._sampling = self._patcher.get_model_object("model_sampling")
        # not of one step, where ComfyUI's node for LTX divides by 0
        self._first_sigma, _, self._last_sigma = self.schedule(2).tolist()
        self.shift = getattr(self._sampling, "shift", None)
        self._sketch: list[float] | None = None
        self._preparation = Preparation(guided[0])
        self.prediction_type = prediction_type(self._sampling)
        self.schedule_recipe = {"kind": "comfyui", "scheduler": self.scheduler, "shift": self.shift}
        if settings.boundary is not None:
            self.schedule_recipe["boundary"] = settings.boundary

    def vae(self) -> Any:
        """ComfyUI's VAE, None where there is none."""
        return None

    def texts(self, chosen: list[int]) -> Texts | None:
        """What the guider is told for a batch of these prompts; None where they must go one by one."""
        raise NotImplementedError

    def sketch(self) -> list[float] | None:
        """What tells the network from others, as `dyweight.sketch` compares; None where it needs more than a text."""
        if self._sketch is None:
            noise, cond = self.draw(torch.Generator().manual_seed(0), 1)
            texts = self._texts(cond.tolist())
            found: list[Tensor] = []

            def ask(model: Any, extra: dict[str, Any]) -> Tensor:
                found.extend(answers(model.inner_model, extra["model_options"], noise) or [])
                return noise

            with suppress(*FAILURES):  # a condition that the network can't take is named where a fit asks it
                for guided in self._guided:
                    guided.inside(texts or {}, noise, ask)
            self._sketch = sketch(found)
        return self._sketch or None

    def schedule(self, steps: int) -> Tensor:
        """Sigmas of ComfyUI's scheduler on the model's own sampling; some schedulers leave out what repeats."""
        return schedule(self.scheduler, steps, self._sampling, self.settings.latent, self.settings.size)

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, Tensor]:
        """Noise as ComfyUI scales it for an empty latent, and the numbers of prompts."""
        noise = torch.randn(batch, *self.shape, generator=generator)
        prompts = torch.randint(len(self._conditions), (batch,), generator=generator)
        self._conditions.prepare(prompts.tolist())
        first = torch.tensor(self._first_sigma)
        scaled = self._sampling.noise_scaling(first, noise, torch.zeros_like(noise), True)
        return scaled.to(self._patcher.load_device), prompts

    def condition(self, cond: Tensor) -> Tensor:
        """cond [B], numbers of prompts -> [B, n], what a solver may read of them, the same as in the nodes."""
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
        return self._predicted(x, sigma, cond, states, row, None)[0]

    def prepared(self, noise: Tensor, cond: Tensor, run: Callable[[], Result]) -> Result:
        """As `FullCheckpoint.prepared`, but for two networks, and prompts that go one by one."""
        texts = self._texts(cond.tolist()) if len(self._guided) == 1 and self._preparation.fits else None
        return run() if texts is None else self._preparation.run(texts, noise, run)

    def predictions_at(
        self, x: Tensor, sigma: Tensor, cond: Tensor, states: Tensor, row: int, both: bool
    ) -> tuple[Tensor, Tensor | None]:
        """(conditional, unconditional) of `denoise_at`; None and no evaluation of it without `both`."""
        found = self._predicted(x, sigma, cond, states, row, both)
        return found[0], found[1] if both else None

    def _predicted(
        self, x: Tensor, sigma: Tensor, cond: Tensor, states: Tensor, row: int, both: bool | None
    ) -> tuple[Tensor, ...]:
        """The guided prediction where `both` is None, the conditional one, or both."""
        running = self._preparation.running
        texts = {} if running else self._texts(cond.tolist())
        if texts is None:
            return self._by_parts(range(len(x) + 1), x, sigma, cond, states, row, both)
        expert = 0
        if len(self._guided) > 1:
            experts = self._experts.of_row(states, row)
            if bool((experts != experts[0]).any()):
                return self._by_parts(range(len(x) + 1), x, sigma, cond, states, row, both)
            expert = int(experts[0])
        try:

            def ask(model: Any, extra: dict[str, Any]) -> tuple[Tensor, ...]:
                denoiser = self._preparation.denoiser
                if denoiser is None or denoiser.states is not states:
                    evaluate = importlib.import_module("comfy.samplers").calc_cond_batch
                    own = None if both is None else Predictions(evaluate)
                    denoiser = Denoiser(model, extra, states, self._last_sigma, predictions=own)
                    self._preparation.denoiser = denoiser if running else None
                found = denoiser.at(row)(x, sigma, both)
                return found if both else (found,)

            inside = self._guided[expert].inside
            answers: tuple[Tensor, ...] = self._preparation.ask(ask) if running else inside(texts, x, ask)
            return answers
        except _out_of_memory():
            if len(x) == 1:
                raise CheckpointError(
                    "out of memory with one sample of {shape}: {advice}",
                    shape=list(self.shape),
                    advice=self.settings.how_to_make_smaller,
                ) from None
            if running:
                raise TooLargeError from None
        except FAILURES as error:
            raise CheckpointError(
                "--ckpt {name}: {family} fails on {shape} with a condition of {condition} ({reason}); check {advice}",
                name=self.settings.name,
                family=self.model_family,
                shape=list(x.shape),
                condition=list(self._conditions[int(cond[0])].cross_attn.shape),
                reason=error,
                advice=self.settings.what_to_check,
            ) from error
        importlib.import_module("comfy.model_management").soft_empty_cache()
        return self._by_parts((0, len(x) // 2, len(x)), x, sigma, cond, states, row, both)

    def _by_parts(
        self, cuts: Sequence[int], x: Tensor, sigma: Tensor, cond: Tensor, states: Tensor, row: int, both: bool | None
    ) -> tuple[Tensor, ...]:
        parts = [slice(*ends) for ends in pairwise(cuts)]
        each = [states if states.ndim == 1 else states[part] for part in parts]
        answers = [self._predicted(x[p], sigma[p], cond[p], s, row, both) for p, s in zip(parts, each, strict=True)]
        return tuple(map(torch.cat, zip(*answers, strict=True)))

    def sample_with(self, sampler: str, scheduler: str, steps: int, noise: Tensor, cond: Tensor) -> tuple[Tensor, int]:
        """(endpoint, network calls) of one of ComfyUI's own samplers by ComfyUI's code, from noise of `draw`.

        noise: [B, *shape] from `draw`, rescaled where the schedule starts elsewhere than the base schedule. cond: [B].
        """
        samplers = importlib.import_module("comfy.samplers")
        used = samplers.KSampler(self._patcher, steps, noise.device, sampler, scheduler, 1.0, {}).sigmas
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
        vae = self.vae()
        if vae is None:
            return None
        with torch.no_grad():  # which ComfyUI's VAE leaves to its caller
            decoded = tensor_of(vae.decode(self._for_vae(x.detach().float().cpu())))
        return decoded.float().cpu().reshape(len(x), -1, *decoded.shape[-3:])[:, 0]  # the first frame of a video

    def _for_vae(self, x: Tensor) -> Tensor:
        """What ComfyUI's guider gives at the end, without the sound."""
        model, latent = self._patcher.model, self.settings.latent
        model.latent_shapes = [(len(x), *stream) for stream in latent.streams]  # as the guider tells the model
        return latent.picture(tensor_of(model.process_latent_out(x)))

    def rivals(
        self, network_calls: int, names: Sequence[str] | None, count: Callable[[int], object]
    ) -> dict[str, Rival]:
        """ComfyUI's own samplers, SAMPLER/SCHEDULER, that make this many network calls. Raises CheckpointError."""
        first = self.draw(torch.Generator().manual_seed(0), 1)
        return found(self.sample_with, first, network_calls, names, count)

    def _texts(self, chosen: list[int]) -> Texts | None:
        return None if len(chosen) > 1 and self.settings.one_prompt_a_call else self.texts(chosen)


def refuse_intervals(name: str, model: Any) -> None:
    """CheckpointError where the network of a BaseModel answers for an interval."""
    if (interval := answers_for_interval(model)) is not None:
        raise CheckpointError(
            "--ckpt {name}: take its undistilled model; this network answers for an interval ({interval}) and gives "
            "no velocity that a multistep solver could be fitted to",
            name=name,
            interval=interval,
        )


def tensor_of(value: Any) -> Tensor:
    """A value of ComfyUI's, which has no types, as what it is."""
    assert isinstance(value, Tensor)
    return value


def _out_of_memory() -> type[BaseException]:
    """ComfyUI's own, but not its stand-in on systems without one, which is every Exception."""
    found: type[BaseException] = importlib.import_module("comfy.model_management").OOM_EXCEPTION
    return found if found is not Exception else torch.OutOfMemoryError
