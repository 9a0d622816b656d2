"""Steps on the maps, where several cost nothing: each the least-squares step of a trust region of the inputs."""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from dyweight import Plan

from ..losses.endpoint import EndpointLoss
from ..run.cluster import Cluster
from .known import Known
from .least_squares import LeastSquares, distance, ends, problem, sums
from .limits import SigmaRange
from .maps import imagined
from .prior import Prior
from .rollout import Rollout
from .table import Numbers, Table

MOST_STEPS = 6
"""Before the network is asked again."""
SHORTEST, FARTHEST = 1e-3, 1.2
"""Of the radius: the shortest step tried, and how far all of them may lead."""
TOO_LITTLE = 0.01
"""Of the loss: a smaller gain ends the steps."""


Blocks = tuple[int, ...]
"""Numbers of blocks of pairs, which are of one size; they go through the maps as one."""


@dataclass(frozen=True, eq=False)
class _Place:
    """A vector of numbers, and what the maps have there."""

    vector: Tensor
    loss: float
    """with what the prior adds"""
    moved: float
    """how far the network's inputs are from where it was last asked, in noise levels"""
    seen: Mapping[Blocks, Rollout]


@dataclass(frozen=True, eq=False)
class OnTheMaps:
    """What the maps of some pairs say around a vector of numbers."""

    numbers: Numbers
    range: SigmaRange
    loss: EndpointLoss
    prior: Prior
    shape: tuple[int, ...]
    """Of a latent."""
    cluster: Cluster
    known: Mapping[int, Known]
    """By block of pairs."""
    vector: Tensor
    """[count] where the network was last asked."""

    def proposed(self, trusted: float) -> tuple[Tensor, float, float]:
        """Where the maps lead from here: the vector, the gain that they promise, and how far inputs move.

        trusted: how far the inputs may move, in noise levels.
        """
        at = self._place(self.vector, self._plan)
        begun, radius, steps = at.loss, trusted, 0
        squares: LeastSquares | None = None
        while steps < MOST_STEPS and radius > trusted * SHORTEST:
            if squares is None:
                table = self.numbers.table(at.vector)
                squares, limits = self.problem(table, at.seen), self.range.limits(table)
            step = squares.step(radius, limits)
            there = self._allowed(at.vector + step, trusted)
            if there.loss >= at.loss and radius / 3 <= trusted * SHORTEST:
                there = self._allowed(at.vector + step / 2, trusted)  # even a short step may leave the range
            gain = at.loss - there.loss
            if gain <= 0:
                radius = min(radius, squares.movement_of(step)) / 3
                continue
            at, squares, steps = there, None, steps + 1
            if gain < TOO_LITTLE * begun:
                break
        return at.vector, begun - at.loss, at.moved

    def _allowed(self, vector: Tensor, trusted: float) -> "_Place":
        """With calls brought into range where the time scale can do that; the loss is infinite out of range, or farther
        from the current table than the maps are trusted."""
        with contextlib.suppress(ValueError):
            vector = self.numbers.asking_within(vector, *self.range)
            plan = self.numbers.plan(vector)
            if self.range.holds(plan) and (there := self._place(vector, plan)).moved <= FARTHEST * trusted:
                return there
        return _Place(vector, math.inf, math.inf, {})

    def _place(self, vector: Tensor, plan: Plan) -> "_Place":
        seen = self._rollouts(plan)
        own = {i: ends(self.loss, self.shape, seen[i], known.made, known.target) for i, known in self._known.items()}
        loss, far, count = self._summed(own).tolist()
        moved = distance(far / (count * math.prod(self.shape)), plan, self._centre)
        return _Place(vector, loss / count + self.prior(plan), moved, seen)

    def _rollouts(self, plan: Plan) -> dict[Blocks, Rollout]:
        return {blocks: imagined(plan, known.made, known.maps) for blocks, known in self._known.items()}

    def _summed(self, of_pairs: Mapping[Blocks, Tensor]) -> Tensor:
        """[pairs, n] by blocks -> [n], summed over the pairs of all processes."""
        own = dict[int, Tensor]()
        for blocks, found in of_pairs.items():
            own |= zip(blocks, found.reshape(len(blocks), -1, found.shape[1]).sum(1), strict=True)
        return self.cluster.sum_in_order(own)

    def problem(self, table: Table, seen: Mapping[Blocks, Rollout] | None = None) -> LeastSquares:
        """The least-squares problem of a table on the maps, over the pairs of all processes and with the prior. seen:
        its rollouts where they are known."""
        seen = self._rollouts(table.plan) if seen is None else seen
        own = {
            blocks: sums(self.loss, self.shape, table, known.made, seen[blocks], known.maps, known.target)
            for blocks, known in self._known.items()
        }
        of_pairs = problem(self._summed(own), table, self._centre, math.prod(self.shape))
        return self.prior.added_to(of_pairs, table)

    @cached_property
    def _known(self) -> Mapping[Blocks, Known]:
        """All blocks as one, in coordinates, where inner products are all that matters."""
        if not self.loss.of_inner_products or not self.known:
            return {(index,): known for index, known in self.known.items()}
        return {tuple(self.known): Known.together([known.in_coordinates() for known in self.known.values()])}

    @cached_property
    def _centre(self) -> Tensor:
        """[rows] log queries where the network was last asked."""
        return self._plan.query_sigmas.log()

    @cached_property
    def _plan(self) -> Plan:
        return self.numbers.table(self.vector).plan
