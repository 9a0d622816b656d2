"""Teacher endpoints, kept on disk so that a second run costs none of them."""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

import dyweight
from dyweight.files import write_whole
from dyweight.suggest import did_you_mean

from .checkpoints import Checkpoint
from .cluster import ALONE, Cluster
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
            denoise = self.network.bound(drawn.cond, drawn.first, who="teacher")
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


class Blocks(Sequence[Block]):
    """This process's blocks of a split. Endpoints are held in main memory; noise and condition are drawn again."""

    def __init__(self, targets: Targets, split: str, count: int) -> None:
        """The teacher runs for the endpoints that are not kept. count: blocks of all processes."""
        self._targets, self._split, self._indices = targets, split, targets.own(count)
        self._endpoints = [targets.block(split, index).target.cpu() for index in self._indices]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: Any) -> Any:
        if isinstance(position, slice):
            return [self[i] for i in range(len(self))[position]]
        return self._targets.complete(self._split, self._indices[position], self._endpoints[position])


class Pairs:
    """The pairs of one distillation: those to train on, and the held-out ones that judge. Made when first asked for.

    `training` and `validation` are the blocks of this process.
    """

    def __init__(self, targets: Targets, training: int, validating: int) -> None:
        self.targets = targets
        self.training_blocks = targets.block_count(training)
        self.validation_blocks = targets.block_count(validating)

    @property
    def cluster(self) -> Cluster:
        return self.targets.cluster

    @property
    def training_pairs(self) -> int:
        return self.training_blocks * self.targets.batch

    @property
    def validation_pairs(self) -> int:
        return self.validation_blocks * self.targets.batch

    @cached_property
    def training(self) -> Sequence[Block]:
        return Blocks(self.targets, "train", self.training_blocks)

    @cached_property
    def validation(self) -> Sequence[Block]:
        return Blocks(self.targets, "validation", self.validation_blocks)

    @cached_property
    def deviation(self) -> float:
        """Standard deviation of the held-out targets, the unit of the losses."""
        return deviation(self.validation, self.cluster)

    def training_among(self, blocks: int) -> Iterator[Block]:
        """This process's among the first so many training blocks, one after the other."""
        return map(self.training.__getitem__, range(len(self.targets.own(blocks))))

    def training_together(self, blocks: range) -> dict[int, Draw]:
        """Training blocks that all processes work on; only the process that owns a block has its endpoints."""
        size, mine = self.cluster.size, self.cluster.mine
        return {i: self.training[i // size] if mine(i) else self.targets.draw("train", i) for i in blocks}

    def expected_calls(self) -> int:
        """Network calls that the teacher still has to make for both, in all processes."""
        missing = 0 if "training" in vars(self) else self.targets.missing("train", self.training_blocks)
        return self.targets.teacher_calls * missing + self.expected_validation_calls()

    def expected_validation_calls(self) -> int:
        """The same for the held-out pairs alone."""
        missing = 0 if "validation" in vars(self) else self.targets.missing("validation", self.validation_blocks)
        return self.targets.teacher_calls * missing


def deviation(blocks: Sequence[Block], cluster: Cluster = ALONE) -> float:
    """Standard deviation of the targets over all elements of all processes; 1 where they do not vary."""
    origin = cluster.from_first(lambda: float(blocks[0].target.flatten()[0]))
    nothing = torch.zeros(0, dtype=torch.float64)
    targets = torch.cat([nothing, *(block.target.cpu().double().flatten() for block in blocks)]) - origin
    count = cluster.total(len(targets))
    mean = cluster.total(float(targets.sum())) / count
    squares = cluster.total(float((targets - mean).square().sum()))
    spread = math.sqrt(squares / (count - 1)) if count > 1 else 0.0
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
