"""A model from a file that ComfyUI loads, with prompts from a file."""

import copy
import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from comfyui.facts import noise_scale
from comfyui.prompts import OWN_PROMPTS
from comfyui.schedulers import NODES

from ...run.errors import CheckpointError
from .asked import Asked, Settings, refuse_intervals
from .conditions import GUIDANCE, Condition, Conditions, conditioning, opposite, read_conditions
from .encoding import EncodedPrompts
from .experts import check_experts
from .guided import Guided, Texts
from .loading import Loaded, file_digest, loaded
from .options import ComfyOptions
from .prompt_files import read_prompts


class ComfyCheckpoint(Asked):
    """A checkpoint that files make, as options describe them."""

    def __init__(self, path: Path, options: ComfyOptions, cache: Path | None, low: Path | None = None) -> None:
        """cache: folder for encoded prompts. low: the file of a second network, for below options.boundary.

        ComfyUI must be started. Raises CheckpointError with what to do.
        """
        self.path = path
        self.options, self._cache = options, cache
        self._loaded: Loaded = loaded(self.path, options)
        refuse_intervals(str(path), self._loaded.patcher.model)
        defaults = self._loaded.defaults
        self.cfg = defaults.cfg if options.cfg is None else options.cfg
        self.guidance = defaults.guidance if options.guidance is None else options.guidance
        scheduler = options.scheduler or defaults.scheduler
        if options.shift is not None and scheduler in NODES:
            raise CheckpointError(f"--shift: the scheduler {scheduler} shifts by the size itself: leave it out")
        self._encoders: list[Path] = []
        known, self._negative, self._conditions_digest = self._encode()
        latent = self._loaded.latent
        patchers = [self._loaded.patcher]
        self._low = None if low is None else loaded(low, replace(options, lora=options.lora_low))
        if self._low is not None:
            patchers.append(self._low.patcher)
            check_experts(self._loaded.patcher, self._low.patcher, options.boundary, f"--ckpt-low {low}")
        guided = [Guided.by_cfg(patcher, latent, self.cfg) for patcher in patchers]
        one_by_one = defaults.one_prompt_a_call
        settings = Settings(str(path), latent, self._loaded.size, scheduler, one_by_one, options.boundary)
        super().__init__(settings, guided, known)

    def of_width(self, width: int) -> "ComfyCheckpoint":
        """The same network and prompts for pictures of another width."""
        other = copy.copy(self)
        other._loaded = self._loaded.of_width(width)
        latent = other._loaded.latent
        settings = replace(self.settings, latent=latent, size=other._loaded.size)
        Asked.__init__(
            other, settings, [Guided.by_cfg(one.patcher, latent, self.cfg) for one in self._guided], self._conditions
        )
        return other

    @property
    def fingerprint(self) -> str:
        """Of the content of all files, and of what the network is told."""
        told = [self._loaded.digest, self._conditions_digest, self.cfg, self.guidance, self.shift, self.shape]
        told += [self.options.dtype, self.scheduler]
        told += [] if self._low is None else [self._low.digest, self.options.boundary]
        return "comfyui-" + hashlib.sha256(repr(told).encode()).hexdigest()[:24]

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

    def vae(self) -> Any:
        """As `Asked.vae`."""
        return self._loaded.vae()

    def texts(self, chosen: list[int]) -> Texts | None:
        """As `Asked.texts`."""
        positive = conditioning([self._conditions[number] for number in chosen])
        if positive is None:
            return None
        negative = opposite(self._negative, positive)
        if self.guidance is not None:
            positive[0][1][GUIDANCE] = self.guidance
        return {"positive": positive, "negative": negative}

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
            raise CheckpointError(f"{names}: not text encoders of {self._loaded.family}; name them with --clip")
        digest = hashlib.sha256(repr([prompts, options.negative, key]).encode()).hexdigest()[:16]
        return found, found.negative, digest
