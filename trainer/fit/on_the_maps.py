"""Steps on the maps, where several cost nothing: each the least-squares step of a trust region of the inputs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ..losses.endpoint import EndpointLoss
from ..run.cluster import Cluster
from .known import Known
from .least_squares import LeastSquares, distance, ends, problem, sums
from .limits import SigmaRange
from .maps import imagined
from .table import Numbers, Table

MOST_STEPS = 6
"""Before the network is asked again."""
SHORTEST, FARTHEST = 1e-3, 1.2
"""Of the radius: the shortest step tried, and how far all of them may lead."""
TOO_LITTLE = 0.01
"""Of the loss: a smaller gain ends the steps."""


@dataclass(frozen=True, eq=False)
class OnTheMaps:
    """What the maps of some pairs say around a vector of numbers."""

    numbers: Numbers
    range: SigmaRange
    loss: EndpointLoss
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
        vector, table = self.vector, self.numbers.table(self.vector)
        here, radius, steps = self.problem(table), trusted, 0
        begun = here.loss
        while steps < MOST_STEPS and radius > trusted * SHORTEST:
            step = here.step(radius, self.range.limits(table))
            there = vector + step
            gain = here.loss - self._imagined_loss(there, trusted)
            if gain <= 0 and radius / 3 <= trusted * SHORTEST:
                there = vector + step / 2  # the limits are linear: even a short step may leave the range
                gain = here.loss - self._imagined_loss(there, trusted)
            if gain <= 0:
                radius /= 3
                continue
            vector, table, steps, radius = there, self.numbers.table(there), steps + 1, min(2 * radius, trusted)
            here = self.problem(table)
            if gain < TOO_LITTLE * begun:
                break
        return vector, begun - here.loss, here.moved

    def _imagined_loss(self, vector: Tensor, trusted: float) -> float:
        """As the maps have it; infinite out of range, or farther from the current table than they are trusted."""
        try:
            plan = self.numbers.plan(vector)
        except ValueError:
            return math.inf
        if not self.range.holds(plan):
            return math.inf
        own = {
            index: ends(self.loss, self.shape, imagined(plan, known.made, known.maps), known.made, known.target)
            for index, known in self.known.items()
        }
        loss, far, count = self.cluster.sum_in_order(own).tolist()
        centre = self.numbers.plan(self.vector).query_sigmas.log()
        moved = distance(far / (count * math.prod(self.shape)), plan, centre)
        return loss / count if moved <= FARTHEST * trusted else math.inf

    def problem(self, table: Table) -> LeastSquares:
        """The least-squares problem of a table on the maps, over the pairs of all processes."""
        own = dict[int, Tensor]()
        for index, known in self.known.items():
            made = imagined(table.plan, known.made, known.maps)
            own[index] = sums(self.loss, self.shape, table, known.made, made, known.maps, known.target)
        centre = self.numbers.plan(self.vector).query_sigmas.log()
        return problem(self.cluster.sum_in_order(own), table, centre, math.prod(self.shape))
