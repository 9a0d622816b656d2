"""Teacher endpoints, kept on disk so that a second run need not compute them."""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dyweight.files import write_whole

from ..run.cluster import ALONE, Cluster
from ..run.errors import TrainerError
from ..run.network import Network
from .digest import digest
from .teacher import Teacher


@dataclass(frozen=True)
class Draw:
    """Pairs without the teacher's endpoint: noise and condition as drawn."""

    first: int
    """Index of the first pair."""
    noise: Tensor
    """[pairs, *shape]"""
    cond: Any


@dataclass(frozen=True)
class Block(Draw):
    """Pairs: noise and condition as drawn, and the teacher's endpoint from them."""

    target: Tensor
    """[pairs, *shape]"""


FINGERPRINT_CALLS = 16
"""Network calls that tell a model without a fingerprint of its own from others."""
BY_ANSWERS = "answers-"
"""Begins the fingerprint that they give."""
Split = Literal["train", "validation", "test", "evaluation", "pictures"]
"""What pairs are for; each split draws its own."""


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
        """batch: pairs per block. cache: folder, or None to keep no targets. cluster: block i is process i % size's."""
        self.network, self.teacher, self.seed, self.batch, self.cluster = network, teacher, seed, batch, cluster
        self._plan = teacher.plan(network.checkpoint)
        self.fingerprint = fingerprint(network)
        key = [self.fingerprint, str(teacher), self._plan.sigmas.tolist(), seed, batch]
        self.folder = cache / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24] if cache else None
        self._digests: dict[Path, dict[str, str]] = {}
        """Of what this process wrote or checked: a file with the same ones is read again without a check."""

    @property
    def teacher_calls(self) -> int:
        """Network calls of one endpoint."""
        return self.network.evaluations(self._plan)

    def block_count(self, pairs: int) -> int:
        """Number of blocks for this many pairs; the last is as large as the others."""
        return -(-pairs // self.batch)

    def missing(self, split: Split, blocks: int) -> int:
        """Number of pairs in the first blocks for which the teacher must still run, in all processes."""
        own = sum(not self._known(split, i) for i in self.own(blocks))
        return self.batch * round(self.cluster.total(own))

    def own(self, blocks: int) -> range:
        """Which of the first blocks are this process's."""
        return range(self.cluster.rank, blocks, self.cluster.size)

    def draw(self, split: Split, index: int) -> Draw:
        """One block of a split, without the teacher's endpoint."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, split, index, self.batch))
        return Draw(index * self.batch, *self.network.checkpoint.draw(generator, self.batch))

    def block(self, split: Split, index: int) -> Block:
        """One block of a split (train, validation or test); the teacher runs if its endpoint is not kept."""
        drawn, path = self.draw(split, index), self._path(split, index)
        target = self._read(path, drawn)
        if target is None:
            target = self.network.sample(drawn.noise, drawn.cond, self._plan, drawn.first, who="teacher")
            self._store(path, drawn, target)
        return self._complete(drawn, target)

    def keeps(self, split: Split, index: int) -> bool:
        """Whether this process has seen the endpoint of a block in the cache."""
        return self._path(split, index) in self._digests

    def for_all(self, split: Split, blocks: Iterable[int]) -> dict[int, Block]:
        """Blocks for every process: each makes the endpoints of its own blocks and gets those of the others."""
        own = {i: self.block(split, i) for i in blocks if self.cluster.mine(i)}
        targets: dict[int, Tensor] = {}
        for made in self.cluster.gather({i: block.target.cpu() for i, block in own.items()}):
            targets |= made
        return {i: own[i] if i in own else self.complete(split, i, targets[i]) for i in targets}

    def complete(self, split: Split, index: int, target: Tensor) -> Block:
        """One block with a given endpoint, on any device."""
        return self._complete(self.draw(split, index), target)

    @staticmethod
    def _complete(drawn: Draw, target: Tensor) -> Block:
        return Block(drawn.first, drawn.noise, drawn.cond, target.to(drawn.noise.device).clone())

    def _path(self, split: Split, index: int) -> Path | None:
        return self.folder / f"{split}-{index:06d}.safetensors" if self.folder else None

    def _known(self, split: Split, index: int) -> bool:
        path = self._path(split, index)
        return path is not None and path.is_file()

    def _read(self, path: Path | None, drawn: Draw) -> Tensor | None:
        if path is None or not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                target: Tensor = file.get_tensor("target")
                digests = file.metadata()
        except (SafetensorError, OSError):
            return None
        if path not in self._digests or digests != self._digests[path]:
            own = _digests(drawn, target)
            if own is None or digests != own:
                return None
            self._digests[path] = own
        return target

    def _store(self, path: Path | None, drawn: Draw, target: Tensor) -> None:
        digests = None if path is None else _digests(drawn, target)
        if path is not None and digests is not None:
            try:
                write_whole(path, save({"target": target.cpu().contiguous()}, digests))
            except OSError as error:
                raise TrainerError(
                    f"--cache: {path} can't be written ({error.strerror}); give another place with --cache, or "
                    "--no-keep-targets"
                ) from error
            self._digests[path] = digests


def default_cache() -> Path:
    """Where targets are kept unless `--cache` says otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dyweight" / "targets"


def derived_seed(*parts: object) -> int:
    """A separate seed for each thing that is drawn."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:7], "big")


def fingerprint(network: Network) -> str:
    """What tells one model from another: its own `fingerprint`, or a hash of its output for fixed inputs."""
    checkpoint = network.checkpoint
    if checkpoint.fingerprint is not None:
        return checkpoint.fingerprint
    answers = []
    # Guidance may act at some noise levels only, so the inputs cover them all.
    for seed, sigma in enumerate(checkpoint.schedule(FINGERPRINT_CALLS)[:-1]):
        noise, cond = checkpoint.draw(torch.Generator().manual_seed(seed), 1)
        with torch.inference_mode():
            answers.append(network.bound(cond)(noise, sigma.to(noise).expand(1)))
    checkpoint.fingerprint = BY_ANSWERS + hashlib.sha256("".join(map(digest, answers)).encode()).hexdigest()[:16]
    return checkpoint.fingerprint


def _digests(drawn: Draw, target: Tensor) -> dict[str, str] | None:
    """Tells targets of other noise or another condition apart; None where the condition has no digest."""
    try:
        return {"noise": digest(drawn.noise), "cond": digest(drawn.cond), "target": digest(target)}
    except TypeError:
        return None
