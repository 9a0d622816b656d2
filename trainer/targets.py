"""Teacher endpoints, kept on disk so that a second run costs none of them."""

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

import dyweight
from dyweight.names import did_you_mean
from dyweight.solver_file import write_whole

from .checkpoints import Checkpoint
from .digest import digest
from .errors import TrainerError
from .network import Network


@dataclass(frozen=True)
class Teacher:
    """A handcrafted solver with many steps, as `--teacher NAME:STEPS` names it."""

    name: str
    steps: int

    @classmethod
    def parse(cls, text: str) -> "Teacher":
        """`ipndm:35` -> Teacher("ipndm", 35); TrainerError for anything else."""
        name, _, steps = text.partition(":")
        if name not in dyweight.baselines.NAMES or not steps.isdecimal() or int(steps) < 1:
            names, hint = dyweight.baselines.NAMES, ""
            if name not in names:
                hint = did_you_mean(name, names)
            raise TrainerError(
                f"--teacher {text}: {hint}Give NAME:STEPS, as ipndm:35; the names are {', '.join(names)}"
            )
        return cls(name, int(steps))

    def plan(self, checkpoint: Checkpoint) -> dyweight.Plan:
        """The teacher's table on the checkpoint's own schedule."""
        try:
            return dyweight.baselines.plan(self.name, checkpoint.schedule(self.steps))
        except ValueError as error:
            raise TrainerError(f"--teacher {self}: schedule({self.steps}) of the checkpoint: {error}") from error

    def __str__(self) -> str:
        return f"{self.name}:{self.steps}"


@dataclass(frozen=True)
class Block:
    """Some pairs: noise and condition as drawn, and the teacher's endpoint from them."""

    first: int
    """Index of the first pair."""
    noise: Tensor
    """[pairs, *shape]"""
    cond: Any
    target: Tensor
    """[pairs, *shape]"""


class Targets:
    """The pairs of a run, block by block. A block depends on nothing but the checkpoint, teacher, seed and split."""

    def __init__(self, network: Network, teacher: Teacher, seed: int, batch: int, cache: Path | None) -> None:
        """batch: pairs a block. cache: folder, or None to keep no targets."""
        self.network, self.teacher, self.seed, self.batch = network, teacher, seed, batch
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
        """How many pairs of the first so many blocks the teacher has still to run."""
        return self.batch * sum(not self._known(split, i) for i in range(blocks))

    def block(self, split: str, index: int) -> Block:
        """One block of a split (train, validation or test); the teacher runs if its endpoint is not kept."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, split, index, self.batch))
        noise, cond = self.network.checkpoint.draw(generator, self.batch)
        digests = _digests(noise, cond)
        target = self._read(split, index, digests)
        if target is None:
            denoise = self.network.bound(cond, index * self.batch, who="teacher")
            with torch.inference_mode():
                target = dyweight.sample(denoise, noise, self._plan)
            self._store(split, index, digests, target)
        return Block(index * self.batch, noise, cond, target.to(noise.device).clone())

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


class Pairs:
    """The pairs of one distillation: those to train on, and the held-out ones that judge. Made when first asked for."""

    def __init__(self, targets: Targets, training: int, validating: int) -> None:
        self.targets = targets
        self.training_blocks = targets.block_count(training)
        self.validation_blocks = targets.block_count(validating)

    @property
    def training_pairs(self) -> int:
        return self.training_blocks * self.targets.batch

    @property
    def validation_pairs(self) -> int:
        return self.validation_blocks * self.targets.batch

    @cached_property
    def training(self) -> list[Block]:
        return [self.targets.block("train", i) for i in range(self.training_blocks)]

    @cached_property
    def validation(self) -> list[Block]:
        return [self.targets.block("validation", i) for i in range(self.validation_blocks)]

    @cached_property
    def deviation(self) -> float:
        """Standard deviation of the held-out targets, the unit of the losses."""
        return deviation(self.validation)

    def expected_calls(self) -> int:
        """Network calls that the teacher still has to make."""
        missing = self.targets.missing("train", self.training_blocks)
        return self.targets.teacher_calls * (missing + self.targets.missing("validation", self.validation_blocks))


def deviation(blocks: Sequence[Block]) -> float:
    """Standard deviation of the targets over all elements; 1 where they do not vary."""
    targets = torch.cat([block.target.double().flatten() for block in blocks])
    spread = float(targets.std()) if len(targets) > 1 else 0.0
    return spread if 0 < spread < math.inf else 1.0


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
