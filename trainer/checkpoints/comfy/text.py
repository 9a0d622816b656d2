"""Prompts and their encodings by the text encoders, made once and kept on disk."""

import csv
import hashlib
import importlib
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from dyweight.files import write_whole

from ...run.errors import CheckpointError

PROMPT_FIELDS = ("prompt", "text", "caption")
"""Names of the prompt's field in .jsonl and .csv; MS-COCO's captions are usually called text."""
PROMPT_FILES = f"give .txt with one prompt per line, or .jsonl or .csv with a field {', '.join(PROMPT_FIELDS)}"
OWN_PROMPTS = Path(__file__).parent / "prompts.txt"
POOLED = "pooled_output"


@dataclass(frozen=True)
class Conditions:
    """Encoded prompts, each kept separately since their lengths may differ."""

    cross_attn: list[Tensor]
    """[1, tokens, width] each"""
    extra: list[dict[str, Tensor]]
    """What else the encoders give, by ComfyUI's names, such as pooled_output [1, width], attention_mask [1, tokens]."""
    prompts: list[str] | None = None
    """The texts, where known."""

    @property
    def pooled(self) -> list[Tensor | None]:
        """[1, width] each, where the encoders give one."""
        return [extra.get(POOLED) for extra in self.extra]

    def __len__(self) -> int:
        return len(self.cross_attn)

    def batches(self, chosen: Sequence[int]) -> list[Any] | None:
        """ComfyUI's CONDITIONING of several prompts as one batch; None where they must go one by one.

        That is where their lengths differ, and where there is more than a pooled output: ComfyUI counts the tokens of
        a mask over the whole batch.
        """
        more = any(self.extra[i].keys() - {POOLED} for i in chosen)
        if len(chosen) > 1 and (more or len({self.cross_attn[i].shape for i in chosen}) > 1):
            return None
        extra = {name: torch.cat([self.extra[i][name] for i in chosen]) for name in self.extra[chosen[0]]}
        return [[torch.cat([self.cross_attn[i] for i in chosen]), extra]]

    def tells_apart(self, prompts: Sequence[str]) -> bool:
        """Whether all numbers are finite and two different prompts differ; missing weights give noise."""
        first = self.cross_attn[0]
        other = next((self.cross_attn[i] for i, prompt in enumerate(prompts) if prompt != prompts[0]), None)
        finite = all(bool(torch.isfinite(tensor).all()) for tensor in self.cross_attn)
        return finite and (other is None or not torch.equal(first, other))


def read_prompts(path: Path) -> list[str]:
    """The prompts of a .txt, .jsonl or .csv file, in order, without empty ones. Raises CheckpointError."""
    read = {".txt": _lines, ".jsonl": _json_lines, ".csv": _table}.get(path.suffix.lower())
    if read is None:
        raise CheckpointError(f"--prompts {path}: {PROMPT_FILES}")
    try:
        # Excel and Notepad begin their files with a byte order mark.
        prompts = [*read(path.read_bytes().decode("utf-8-sig"))]
    except UnicodeDecodeError as error:
        raise CheckpointError(f"--prompts {path}: it is not UTF-8 ({error.reason}); save it as UTF-8") from error
    except (OSError, ValueError, csv.Error) as error:
        raise CheckpointError(f"--prompts {path}: can't be read ({error}); {PROMPT_FILES}") from error
    found = [prompt.strip() for prompt in prompts if isinstance(prompt, str) and prompt.strip()]
    if not found:
        raise CheckpointError(f"--prompts {path}: there is no prompt in it")
    return found


def _lines(text: str) -> Iterator[str]:
    # str.splitlines would also split at characters that captions hold, such as U+2028.
    return iter(re.split("\r\n|\r|\n", text))


def _json_lines(text: str) -> Iterator[Any]:
    for number, line in enumerate(_lines(text), 1):
        if line.strip():
            try:
                value = json.loads(line)
                yield value if isinstance(value, str) else _prompt_of(value)
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(f"line {number}: {error}") from error


def _table(text: str) -> Iterator[Any]:
    first, _, _ = text.partition("\n")
    delimiter = ";" if ";" in first and "," not in first else ","
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in rows:
            yield _prompt_of(row)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"line {rows.line_num}: {error}") from error


def _prompt_of(row: Mapping[str, Any]) -> Any:
    """The prompt among the fields of a row, whose names may differ in case and spaces."""
    names = {str(name).strip().lower(): name for name in row}
    field = next((names[name] for name in PROMPT_FIELDS if name in names), None)
    if field is None:
        raise ValueError(f"none of the fields {', '.join(map(str, row))} is {' or '.join(PROMPT_FIELDS)}")
    return row[field]


def read_conditions(path: Path) -> tuple[Conditions, Conditions | None, str]:
    """(conditions, the negative one if there is one, digest) of a file.

    It has cross_attn [n, tokens, width], perhaps pooled [n, width], negative_cross_attn [1, tokens, width] and
    negative_pooled [1, width]; its metadata may have prompts, n texts with "; " between them. Raises CheckpointError.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            texts = (file.metadata() or {}).get("prompts", "").split("; ")
        positive, negative = _rows(tensors, ""), None
        if len(texts) == len(positive) and all(texts):
            positive = replace(positive, prompts=texts)
        if "negative_cross_attn" in tensors:
            negative = _rows(tensors, "negative_")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"--conditioning {path}: not conditions ({type(error).__name__}: {error}); it needs cross_attn "
            "[n, tokens, width] and may have pooled [n, width], and both again with the prefix negative_"
        ) from error
    return positive, negative, hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _rows(tensors: dict[str, Tensor], prefix: str) -> Conditions:
    cross_attn, pooled = tensors[f"{prefix}cross_attn"].float(), tensors.get(f"{prefix}pooled")
    if cross_attn.ndim != 3 or not len(cross_attn) or (pooled is not None and len(pooled) != len(cross_attn)):
        raise ValueError(f"{prefix}cross_attn has shape {list(cross_attn.shape)}")
    count = range(len(cross_attn))
    extra = [{} if pooled is None else {POOLED: pooled[i : i + 1].float()} for i in count]
    return Conditions([cross_attn[i : i + 1] for i in count], extra)


def encoded(prompts: Sequence[str], load: Callable[[], Any], key: Sequence[str], cache: Path | None) -> Conditions:
    """Conditions of the prompts from the cache, or by the text encoder, which is unloaded afterwards.

    load: gives ComfyUI's CLIP; called only if something is not in the cache. key: what else the result depends on.
    """
    path = None
    if cache is not None:
        digest = hashlib.sha256(json.dumps([list(prompts), list(key)]).encode()).hexdigest()[:24]
        path = cache / f"conditions-{digest}.safetensors"
        if path.is_file():
            try:
                return _from_tensors(load_file(path), len(prompts))
            except (SafetensorError, OSError, KeyError, ValueError, IndexError):
                pass  # damaged: made again
    conditions = _encode(prompts, load())
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, save(_to_tensors(conditions)))
    return conditions


def _encode(prompts: Sequence[str], clip: Any) -> Conditions:
    cross_attn, extras = [], []
    with torch.inference_mode():
        for prompt in prompts:
            ((cross, extra),) = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
            cross_attn.append(_kept(cross))
            extras.append({name: _kept(found) for name, found in extra.items() if isinstance(found, Tensor)})
    management = importlib.import_module("comfy.model_management")
    management.unload_all_models()
    management.soft_empty_cache()
    return Conditions(cross_attn, extras)


def _kept(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).clone()


def _to_tensors(conditions: Conditions) -> dict[str, Tensor]:
    tensors = {f"{i} cross_attn": tensor for i, tensor in enumerate(conditions.cross_attn)}
    for i, extra in enumerate(conditions.extra):
        tensors |= {f"{i} extra {name}": tensor for name, tensor in extra.items()}
    return tensors


def _from_tensors(tensors: dict[str, Tensor], count: int) -> Conditions:
    extras: list[dict[str, Tensor]] = [{} for _ in range(count)]
    for key, tensor in tensors.items():
        number, kind, *name = key.split(" ", 2)
        if kind == "extra":
            extras[int(number)][name[0]] = tensor
    return Conditions([tensors[f"{i} cross_attn"] for i in range(count)], extras)
