"""Prompts and what the text encoders make of them, encoded once and kept on disk."""

import csv
import hashlib
import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from dyweight.solver_file import write_whole

from ...errors import CheckpointError

OWN_PROMPTS = Path(__file__).parent / "prompts.txt"
NEGATIVE = "negative"


@dataclass(frozen=True)
class Conditions:
    """Encoded prompts, each on its own since their lengths may differ."""

    cross_attn: list[Tensor]
    """[1, tokens, width] each"""
    pooled: list[Tensor | None]
    """[1, width] each, where the encoders give one"""

    def __len__(self) -> int:
        return len(self.cross_attn)

    def batches(self, chosen: Sequence[int]) -> list[Any] | None:
        """ComfyUI's CONDITIONING of several prompts as one batch; None where their lengths differ."""
        if len({self.cross_attn[i].shape for i in chosen}) > 1:
            return None
        extra = {}
        pooled = [tensor for i in chosen if (tensor := self.pooled[i]) is not None]
        if len(pooled) == len(chosen):
            extra["pooled_output"] = torch.cat(pooled)
        return [[torch.cat([self.cross_attn[i] for i in chosen]), extra]]


def read_prompts(path: Path) -> list[str]:
    """The prompts of a .txt, .jsonl or .csv file, in order, without empty ones. Raises CheckpointError."""
    try:
        if path.suffix == ".jsonl":
            lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
            prompts = [line if isinstance(line, str) else line["prompt"] for line in lines]
        elif path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                prompts = [row["prompt"] for row in csv.DictReader(file)]
        else:
            prompts = path.read_text("utf-8").splitlines()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"--prompts {path}: can't be read ({type(error).__name__}: {error}); give .txt with a prompt a line, "
            ".jsonl or .csv with a field prompt"
        ) from error
    found = [prompt.strip() for prompt in prompts if isinstance(prompt, str) and prompt.strip()]
    if not found:
        raise CheckpointError(f"--prompts {path}: there is no prompt in it")
    return found


def read_conditions(path: Path) -> tuple[Conditions, Conditions | None, str]:
    """(conditions, the negative one if there is one, digest) of a file.

    It has cross_attn [n, tokens, width], perhaps pooled [n, width], negative_cross_attn [1, tokens, width] and
    negative_pooled [1, width]. Raises CheckpointError.
    """
    try:
        tensors = load_file(path)
        positive, negative = _rows(tensors, ""), None
        if "negative_cross_attn" in tensors:
            negative = _rows(tensors, "negative_")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"--conditioning {path}: no conditions ({type(error).__name__}: {error}); it needs cross_attn "
            "[n, tokens, width] and may have pooled [n, width], and both again with the prefix negative_"
        ) from error
    return positive, negative, hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _rows(tensors: dict[str, Tensor], prefix: str) -> Conditions:
    cross_attn, pooled = tensors[f"{prefix}cross_attn"].float(), tensors.get(f"{prefix}pooled")
    if cross_attn.ndim != 3 or not len(cross_attn) or (pooled is not None and len(pooled) != len(cross_attn)):
        raise ValueError(f"{prefix}cross_attn has shape {list(cross_attn.shape)}")
    count = range(len(cross_attn))
    rows = [None if pooled is None else pooled[i : i + 1].float() for i in count]
    return Conditions([cross_attn[i : i + 1] for i in count], rows)


def encoded(prompts: Sequence[str], load: Callable[[], Any], key: Sequence[str], cache: Path | None) -> Conditions:
    """Conditions of the prompts from the cache, or by the text encoder, which is unloaded afterwards.

    load: gives ComfyUI's CLIP; called only where something is not in the cache. key: what else the result depends on.
    """
    path = None
    if cache is not None:
        digest = hashlib.sha256(json.dumps([list(prompts), list(key)]).encode()).hexdigest()[:24]
        path = cache / f"conditions-{digest}.safetensors"
        if path.is_file():
            try:
                return _from_tensors(load_file(path), len(prompts))
            except (SafetensorError, OSError, KeyError):
                pass  # damaged: made again
    conditions = _encode(prompts, load())
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, save(_to_tensors(conditions)))
    return conditions


def _encode(prompts: Sequence[str], clip: Any) -> Conditions:
    cross_attn, pooled = [], []
    with torch.inference_mode():
        for prompt in prompts:
            ((cross, extra),) = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
            cross_attn.append(cross.detach().float().cpu().clone())
            found = extra.get("pooled_output")
            pooled.append(None if found is None else found.detach().float().cpu().clone())
    management = importlib.import_module("comfy.model_management")
    management.unload_all_models()
    management.soft_empty_cache()
    return Conditions(cross_attn, pooled)


def _to_tensors(conditions: Conditions) -> dict[str, Tensor]:
    tensors = {f"cross_attn-{i}": tensor for i, tensor in enumerate(conditions.cross_attn)}
    return tensors | {f"pooled-{i}": tensor for i, tensor in enumerate(conditions.pooled) if tensor is not None}


def _from_tensors(tensors: dict[str, Tensor], count: int) -> Conditions:
    cross_attn = [tensors[f"cross_attn-{i}"] for i in range(count)]
    return Conditions(cross_attn, [tensors.get(f"pooled-{i}") for i in range(count)])
