"""The pairs of one distillation, and the unit of their errors."""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..run.cluster import ALONE, Cluster
from .targets import Block, Targets


class Blocks(Sequence[Block]):
    """This process's blocks of a split. Endpoints are held in main memory; noise and condition are drawn again."""

    def __init__(self, targets: Targets, split: str, count: int) -> None:
        """The teacher runs for the endpoints that are not kept. count: blocks of all processes."""
        self._targets, self._split, self._indices = targets, split, range(0)
        self._endpoints: list[Tensor] = []
        self.grow(count)

    def grow(self, count: int) -> None:
        """Hold this process's of the first so many; fewer than before take nothing away."""
        self._indices = self._targets.own(count)
        for index in self._indices[len(self._endpoints) :]:
            self._endpoints.append(self._targets.block(self._split, index).target.cpu())

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

    def __init__(self, targets: Targets, training: int, validating: int, judges: Targets | None = None) -> None:
        """judges: where the held-out pairs come from, if in other batches than those to train on."""
        self.targets, self.judges = targets, judges or targets
        self.training_blocks = targets.block_count(training)
        self.validation_blocks = self.judges.block_count(validating)

    @property
    def cluster(self) -> Cluster:
        return self.targets.cluster

    @property
    def training_pairs(self) -> int:
        return self.training_blocks * self.targets.batch

    @property
    def validation_pairs(self) -> int:
        return self.validation_blocks * self.judges.batch

    @cached_property
    def training(self) -> Blocks:
        return Blocks(self.targets, "train", self.training_blocks)

    @cached_property
    def validation(self) -> Blocks:
        return Blocks(self.judges, "validation", self.validation_blocks)

    @cached_property
    def deviation(self) -> float:
        """Standard deviation of the held-out targets, the unit of the losses."""
        return deviation(self.validation, self.cluster)

    def take(self, blocks: int) -> None:
        """Train on so many blocks from now on; the teacher runs for those that are new."""
        self.training_blocks = blocks
        self.training.grow(blocks)

    def training_blocks_here(self) -> Iterator[tuple[int, Block]]:
        """This process's of the training blocks, each with its number among all, one after the other."""
        return ((index, self.training[i]) for i, index in enumerate(self.targets.own(self.training_blocks)))


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
