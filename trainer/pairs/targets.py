"""Teacher endpoints, kept on disk so that a second run costs none of them."""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

import dyweight
from dyweight.files import write_whole

from ..run.cluster import ALONE, Cluster
from ..run.network import Network
from .digest import digest
from .teacher import Teacher


@dataclass(frozen=True)
class Draw:
    """Some pairs without the teacher's endpoint: noise and condition as drawn."""

    first: int
    """Index of the first pair."""
    noise: Tensor
    """[pairs, *shape]"""
    cond: Any


@dataclass(frozen=True)
class Block(Draw):
    """Some pairs: noise and condition as drawn, and the teacher's endpoint from them."""

    target: Tensor
    """[pairs, *shape]"""


class Targets:
    """The pairs of a run, block by block. A block depends on nothing but the checkpoint, teacher, seed and split."""

    def __init__(
        self,
        network: Network,
        teacher: Teacher,
        seed: int,
        batch: int,
        cache: Path | None,
        cluster: Cluster = ALONE,
    ) -> None:
        """batch: pairs a block. cache: folder, or None to keep no targets. cluster: block i is process i % size's."""
        self.network, self.teacher, self.seed, self.batch, self.cluster = network, teacher, seed, batch, cluster
        self._plan = teacher.plan(network.checkpoint)
        self.fingerprint = fingerprint(network)
        key = [self.fingerprint, str(teacher), self._plan.sigmas.tolist(), seed, batch]
        self.folder = cache / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24] if cache else None

    @property
    def teacher_calls(self) -> int:
        """Network calls of one endpoint."""
        return self._plan.network_calls

    def block_count(self, pairs: int) -> int:
        """Blocks that hold so many pairs; the last is as large as the others."""
        return -(-pairs // self.batch)

    def missing(self, split: str, blocks: int) -> int:
        """How many pairs of the first so many blocks the teacher has still to run, in all processes."""
        own = sum(not self._known(split, i) for i in self.own(blocks))
        return self.batch * round(self.cluster.total(own))

    def own(self, blocks: int) -> range:
        """Which of the first so many blocks are this process's."""
        return range(self.cluster.rank, blocks, self.cluster.size)

    def draw(self, split: str, index: int) -> Draw:
        """One block of a split, without the teacher's endpoint."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, split, index, self.batch))
        return Draw(index * self.batch, *self.network.checkpoint.draw(generator, self.batch))

    def block(self, split: str, index: int) -> Block:
        """One block of a split (train, validation or test); the teacher runs if its endpoint is not kept."""
        drawn = self.draw(split, index)
        digests = _digests(drawn.noise, drawn.cond)
        target = self._read(split, index, digests)
        if target is None:
            denoise = self.network.bound(drawn.cond, drawn.first, who="teacher", plan=self._plan)
            with torch.inference_mode():
                target = dyweight.sample(denoise, drawn.noise, self._plan)
            self._store(split, index, digests, target)
        return self._complete(drawn, target)

    def for_all(self, split: str, blocks: Iterable[int]) -> dict[int, Block]:
        """Blocks for every process: each makes the endpoints of its own and has those of the others from them."""
        own = {i: self.block(split, i) for i in blocks if self.cluster.mine(i)}
        targets: dict[int, Tensor] = {}
        for made in self.cluster.gather({i: block.target.cpu() for i, block in own.items()}):
            targets |= made
        return {i: own[i] if i in own else self.complete(split, i, targets[i]) for i in targets}

    def complete(self, split: str, index: int, target: Tensor) -> Block:
        """One block whose endpoint is known; where it lies does not matter."""
        return self._complete(self.draw(split, index), target)

    @staticmethod
    def _complete(drawn: Draw, target: Tensor) -> Block:
        return Block(drawn.first, drawn.noise, drawn.cond, target.to(drawn.noise.device).clone())

    def _path(self, split: str, index: int) -> Path | None:
        return self.folder / f"{split}-{index:06d}.safetensors" if self.folder else None

    def _known(self, split: str, index: int) -> bool:
        path = self._path(split, index)
        return path is not None and path.is_file()

    def _read(self, split: str, index: int, digests: dict[str, str] | None) -> Tensor | None:
        path = self._path(split, index)
        if path is None or digests is None or not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                target: Tensor = file.get_tensor("target")
                fits = file.metadata() == {**digests, "target": digest(target)}
        except (SafetensorError, OSError):
            return None
        return target if fits else None

    def _store(self, split: str, index: int, digests: dict[str, str] | None, target: Tensor) -> None:
        path = self._path(split, index)
        if path is not None and digests is not None:
            metadata = {**digests, "target": digest(target)}
            write_whole(path, save({"target": target.cpu().contiguous()}, metadata))


def default_cache() -> Path:
    """Where targets are kept unless `--cache` says otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dyweight" / "targets"


def derived_seed(*parts: object) -> int:
    """A seed of its own for each thing that is drawn."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:7], "big")


def fingerprint(network: Network) -> str:
    """What tells one model from another: its own `fingerprint`, or a hash of what it answers to a fixed question."""
    checkpoint = network.checkpoint
    own = getattr(checkpoint, "fingerprint", None)
    if isinstance(own, str):
        return own
    answers, sigmas = [], checkpoint.schedule(2)
    for seed in range(4):
        noise, cond = checkpoint.draw(torch.Generator().manual_seed(seed), 1)
        with torch.inference_mode():
            answers += [network.bound(cond)(noise, sigmas[i].to(noise).expand(1)) for i in range(2)]
    return "answers-" + hashlib.sha256("".join(map(digest, answers)).encode()).hexdigest()[:16]


def _digests(noise: Tensor, cond: Any) -> dict[str, str] | None:
    """Tell a target that belongs to other noise or another condition; None where the condition can't be told apart."""
    try:
        return {"noise": digest(noise), "cond": digest(cond)}
    except TypeError:
        return None
