"""What a network is told of a text, and of a first frame where it takes one: ComfyUI's CONDITIONING, a row a sample."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...run.errors import CheckpointError

POOLED, GUIDANCE = "pooled_output", "guidance"
_NEGATIVE = "negative_"


@dataclass(frozen=True)
class Condition:
    """One text."""

    cross_attn: Tensor
    """[1, tokens, width]"""
    extra: dict[str, Any]
    """What else it has, by ComfyUI's names: pooled_output, [1, width] or None, attention_mask, a first frame."""


class Conditions(Protocol):
    """The texts that are drawn from."""

    @property
    def prompts(self) -> list[str] | None:
        """The texts themselves, where known."""

    def __len__(self) -> int: ...

    def prepare(self, numbers: Sequence[int]) -> None:
        """Make those of these numbers ready, all at once."""

    def __getitem__(self, number: int) -> Condition: ...


def conditioning(chosen: Sequence[Condition]) -> list[Any] | None:
    """ComfyUI's CONDITIONING of several texts as one batch; None where they must go one by one.

    That is where their lengths differ, and where there is more than a pooled output and the same guidance for all:
    ComfyUI counts the tokens of a mask over the whole batch.
    """
    first = chosen[0]
    if len(chosen) == 1:
        return [[first.cross_attn, dict(first.extra)]]
    guidance = {GUIDANCE: first.extra[GUIDANCE]} if GUIDANCE in first.extra else {}
    others = [{name: one.extra[name] for name in one.extra if name != POOLED} for one in chosen]
    if any(more.keys() != guidance.keys() or more != guidance for more in others):
        return None
    if len({one.cross_attn.shape for one in chosen}) > 1:
        return None
    pooled = [one.extra[POOLED] for one in chosen if one.extra.get(POOLED) is not None]
    together = {POOLED: torch.cat(pooled) if pooled else None, **guidance}
    return [[torch.cat([one.cross_attn for one in chosen]), together]]


def opposite(negative: Condition, positive: list[Any]) -> list[Any]:
    """CONDITIONING of the negative text beside that of a batch: a first frame that it lacks is that of the sample."""
    ((_, extra),) = positive
    shared = {name: value for name, value in extra.items() if name not in negative.extra}
    return [[negative.cross_attn, {**shared, **negative.extra}]]


def tell_apart(one: Condition, other: Condition) -> bool:
    """Whether all numbers are finite and the two differ; missing weights give noise."""
    finite = all(bool(torch.isfinite(condition.cross_attn).all()) for condition in (one, other))
    return finite and not torch.equal(one.cross_attn, other.cross_attn)


class KnownConditions:
    """Conditions that are all at hand."""

    def __init__(self, known: list[Condition], prompts: list[str] | None = None) -> None:
        self._known, self.prompts = known, prompts

    def __len__(self) -> int:
        return len(self._known)

    def prepare(self, numbers: Sequence[int]) -> None:
        pass

    def __getitem__(self, number: int) -> Condition:
        return self._known[number]


def read_conditions(path: Path) -> tuple[KnownConditions, Condition | None, str]:
    """(conditions, the negative one if there is one, digest) of a file.

    It has cross_attn [n, tokens, width], perhaps pooled [n, width], and perhaps more of n rows by ComfyUI's names, as
    concat_latent_image of a first frame; negative_cross_attn [1, tokens, width] and others with that prefix, of one row
    each, are of the negative, which shares with each sample what it has none of. The metadata may have prompts, n texts
    with "; " between them. Raises CheckpointError.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            texts = (file.metadata() or {}).get("prompts", "").split("; ")
        negative = {name: value for name, value in tensors.items() if name.startswith(_NEGATIVE)}
        positive = _rows({name: value for name, value in tensors.items() if name not in negative})
        opposed = (
            _rows({name.removeprefix(_NEGATIVE): value for name, value in negative.items()}) if negative else [None]
        )
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"--conditioning {path}: not conditions ({type(error).__name__}: {error}); it needs cross_attn "
            "[n, tokens, width], may have pooled [n, width] and others of n rows, and those of the negative with the "
            f"prefix {_NEGATIVE}"
        ) from error
    known = KnownConditions(positive, texts if len(texts) == len(positive) and all(texts) else None)
    return known, opposed[0], hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _rows(tensors: dict[str, Tensor]) -> list[Condition]:
    cross_attn = tensors.pop("cross_attn").float()
    if cross_attn.ndim != 3 or not len(cross_attn):
        raise ValueError(f"cross_attn has shape {list(cross_attn.shape)}")
    others = {POOLED if name == "pooled" else name: value for name, value in tensors.items()}
    for name, value in others.items():
        if not value.ndim or len(value) != len(cross_attn):
            raise ValueError(f"{name} has shape {list(value.shape)}, and cross_attn {len(cross_attn)} rows")
    rows = [slice(i, i + 1) for i in range(len(cross_attn))]
    return [
        Condition(cross_attn[row], {POOLED: None, **{name: _kept(value[row]) for name, value in others.items()}})
        for row in rows
    ]


def _kept(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value
