"""Prompts encoded by the text encoders when they are drawn, kept on disk, the last ones in memory."""

import hashlib
import importlib
import json
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dyweight.files import write_whole

from ...run.errors import CheckpointError
from .conditions import Condition, tell_apart

AT_ONCE = 300
"""A file of at most this many prompts is encoded before the first step; of a longer one, those that are drawn."""


class EncodedPrompts:
    """Memory and disk hold what was drawn, whatever the length of the file; memory at most AT_ONCE of it."""

    def __init__(
        self, prompts: list[str], negative: str, load: Callable[[], Any], key: Sequence[str], cache: Path | None
    ) -> None:
        """load: gives ComfyUI's CLIP; called only where something is not on disk. key: what else the result depends on.

        cache: folder to keep them in; without one, a temporary folder.
        """
        self._prompts, self._texts = prompts, [*prompts, negative]
        self._load, self._key = load, list(key)
        if cache is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="dyweight-")
            cache = Path(self._temporary.name)
        self._folder = cache
        self._memory: OrderedDict[int, Condition] = OrderedDict()
        self._clip: Any = None
        few = [next((i for i, text in enumerate(prompts) if text != prompts[0]), 0), 0]
        self.prepare([*(range(len(prompts)) if len(prompts) <= AT_ONCE else few), len(prompts)])
        self.negative = self[len(prompts)]
        self.told_apart = few[0] == 0 or tell_apart(*(self[number] for number in few))
        """Whether two different prompts are different for the network."""

    @property
    def prompts(self) -> list[str]:
        """The texts themselves."""
        return self._prompts

    def __len__(self) -> int:
        return len(self._prompts)

    def prepare(self, numbers: Sequence[int]) -> None:
        """Encode those of these that are not kept yet; the encoders leave the device afterwards."""
        missing = [number for number in dict.fromkeys(numbers) if self._found(number) is None]
        if not missing:
            return
        clip = self._clip or self._load()
        with torch.inference_mode():
            for number in missing:
                self._keep(number, _encoded(clip, self._texts[number]))
        self._clip = clip if len(self) > AT_ONCE else None
        management = importlib.import_module("comfy.model_management")
        management.unload_all_models()
        management.soft_empty_cache()

    def __getitem__(self, number: int) -> Condition:
        found = self._found(number)
        if found is None:
            self.prepare([number])
            found = self._memory[number]
        return found

    def _found(self, number: int) -> Condition | None:
        if number in self._memory:
            self._memory.move_to_end(number)
            return self._memory[number]
        try:
            self._remember(number, _read(self._path(number)))
        except (SafetensorError, OSError, KeyError, ValueError):
            return None  # not there, or damaged: made again
        return self._memory[number]

    def _keep(self, number: int, condition: Condition) -> None:
        try:
            write_whole(self._path(number), _written(condition))
        except OSError as error:
            raise CheckpointError(
                f"--cache: {self._folder} can't keep an encoded prompt ({error.strerror}); give another place, or a "
                "shorter --prompts"
            ) from error
        self._remember(number, condition)

    def _remember(self, number: int, condition: Condition) -> None:
        self._memory[number] = condition
        if len(self._memory) > AT_ONCE + 1:
            self._memory.popitem(last=False)

    def _path(self, number: int) -> Path:
        digest = hashlib.sha256(json.dumps([self._texts[number], self._key]).encode()).hexdigest()[:24]
        return self._folder / f"condition-{digest}.safetensors"


def _encoded(clip: Any, prompt: str) -> Condition:
    ((cross, extra),) = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
    kept = {
        name: _kept(value) for name, value in extra.items() if isinstance(value, Tensor | bool | int | float | None)
    }
    return Condition(_kept(cross), kept)


def _kept(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    value = value.detach().cpu()
    return (value.float() if value.is_floating_point() else value).clone()


def _written(condition: Condition) -> bytes:
    tensors = {name: value for name, value in condition.extra.items() if isinstance(value, Tensor)}
    others = {name: value for name, value in condition.extra.items() if name not in tensors}
    tensors = {f"extra {name}": value for name, value in tensors.items()}
    return save({"cross_attn": condition.cross_attn, **tensors}, {"extra": json.dumps(others)})


def _read(path: Path) -> Condition:
    with safe_open(path, framework="pt") as file:
        others = json.loads((file.metadata() or {})["extra"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    cross_attn = tensors.pop("cross_attn")
    return Condition(cross_attn, {**others, **{name.split(" ", 1)[1]: value for name, value in tensors.items()}})
