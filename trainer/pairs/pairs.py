"""The pairs of one distillation, and the unit of their errors."""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch

from ..run.cluster import ALONE, Cluster
from .targets import Block, Draw, Targets


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
