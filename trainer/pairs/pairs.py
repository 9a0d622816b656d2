"""The pairs of one distillation, and the unit of their errors."""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..run.cluster import ALONE, Cluster
from .targets import Block, Split, Targets


class Blocks(Sequence[Block]):
    """This process's blocks of a split. Noise and condition are drawn again at each access, endpoints are read from the
    cache; in main memory are only those that it does not keep."""

    def __init__(self, targets: Targets, split: Split, count: int) -> None:
        """The teacher runs for endpoints that are not cached. count: blocks of all processes."""
        self._targets, self._split, self._indices = targets, split, range(0)
        self._endpoints: dict[int, Tensor] = {}
        self.grow(count)

    def grow(self, count: int) -> None:
        """Have this process's share of the first `count` blocks; the teacher runs for those that are new."""
        self._indices = self._targets.own(count)
        for index in self._indices:
            if index not in self._endpoints and not self._targets.keeps(self._split, index):
                target = self._targets.block(self._split, index).target
                if not self._targets.keeps(self._split, index):
                    self._endpoints[index] = target.cpu()

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: Any) -> Any:
        if isinstance(position, slice):
            return [self[i] for i in range(len(self))[position]]
        index = self._indices[position]
        if index in self._endpoints:
            return self._targets.complete(self._split, index, self._endpoints[index])
        return self._targets.block(self._split, index)


class Pairs:
    """The pairs of one distillation: for training, for choosing the iterate, and for measuring the result.

    `training`, `validation` and `test` are the blocks of this process, made when first asked for.
    """

    def __init__(
        self, targets: Targets, training: int, validating: int, testing: int = 0, test_targets: Targets | None = None
    ) -> None:
        """The number of pairs of each, rounded up to whole blocks. test_targets: if those to measure with come in other
        batches."""
        self.targets, self.test_targets = targets, test_targets or targets
        self.training_blocks = targets.block_count(training)
        self.validation_blocks = targets.block_count(validating)
        self.test_blocks = self.test_targets.block_count(testing)
        self.taken = 0
        """Blocks that any fit has taken to train on: their endpoints are there for the next one."""

    @property
    def cluster(self) -> Cluster:
        return self.targets.cluster

    @property
    def training_pairs(self) -> int:
        return self.training_blocks * self.targets.batch

    @property
    def validation_pairs(self) -> int:
        return self.validation_blocks * self.targets.batch

    @property
    def test_pairs(self) -> int:
        return self.test_blocks * self.test_targets.batch

    @cached_property
    def training(self) -> Blocks:
        return Blocks(self.targets, "train", self.training_blocks)

    @cached_property
    def validation(self) -> Sequence[Block]:
        return Blocks(self.targets, "validation", self.validation_blocks)

    @cached_property
    def test(self) -> Sequence[Block]:
        return Blocks(self.test_targets, "test", self.test_blocks)

    @cached_property
    def deviation(self) -> float:
        """Standard deviation of the held-out targets, the unit of the losses."""
        return deviation(self.validation, self.cluster) if self.validation_blocks else self.test_deviation

    @cached_property
    def test_deviation(self) -> float:
        """Standard deviation of the targets to measure with, the unit of the result's error."""
        return deviation(self.test, self.cluster)

    def take(self, blocks: int) -> None:
        """Train on this many blocks from now on; the teacher runs for those that are new."""
        self.training_blocks, self.taken = blocks, max(self.taken, blocks)
        self.training.grow(blocks)

    def calls_to_take(self, blocks: int) -> int:
        """Network calls of the teacher for this many blocks, besides those taken; whatever the cache holds."""
        return max(0, blocks - self.taken) * self.targets.batch * self.targets.teacher_calls

    def training_blocks_here(self) -> Iterator[tuple[int, Block]]:
        """This process's training blocks, each with its number among all, one after the other."""
        return ((index, self.training[i]) for i, index in enumerate(self.targets.own(self.training_blocks)))

    def expected_validation_calls(self) -> int:
        """The same for the held-out pairs alone."""
        missing = 0 if "validation" in vars(self) else self.targets.missing("validation", self.validation_blocks)
        return self.targets.teacher_calls * missing

    def expected_test_calls(self) -> int:
        """The same for the pairs that only measure."""
        return self.test_targets.teacher_calls * self.test_targets.missing("test", self.test_blocks)


def deviation(blocks: Sequence[Block], cluster: Cluster = ALONE) -> float:
    """Standard deviation of the targets over all elements of all processes; 1 where they do not vary.

    Rounded to float32: what the order of summation changes must not change a fit.
    """
    origin = cluster.from_first(lambda: float(blocks[0].target.flatten()[0]))
    nothing = torch.zeros(0, dtype=torch.float64)
    targets = torch.cat([nothing, *(block.target.cpu().double().flatten() for block in blocks)]) - origin
    count = cluster.total(len(targets))
    mean = cluster.total(float(targets.sum())) / count
    squares = cluster.total(float((targets - mean).square().sum()))
    spread = float(torch.tensor(squares / (count - 1)).sqrt()) if count > 1 else 0.0
    return spread if 0 < spread < math.inf else 1.0
