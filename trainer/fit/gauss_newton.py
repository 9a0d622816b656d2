"""Gauss-Newton on the endpoint, forward only: the network is learned near each row, and the table through it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dyweight import Solver

from ..losses.endpoint import EndpointLoss
from ..pairs.pairs import Pairs
from ..run.errors import NonFiniteError
from ..run.network import Network
from . import Progress, history_from, history_tensor
from .budget import Budget, TooFewCallsError
from .known import Known
from .limits import SigmaRange
from .on_the_maps import OnTheMaps
from .prior import PART, Prior
from .probing import DIRECTIONS, TRIED, Probing, probe, steps_of
from .rollout import Rollout, rollout
from .settings import GaussNewtonSettings
from .sketch import Sketch
from .starts import start_of
from .table import Numbers, Table

RADIUS = 0.6
"""How far the network's inputs may move in the first step, in noise levels."""
PATIENCE = 2
"""Trials without GAIN, or short of what was promised, before the maps are asked anew."""
GAIN = 0.01
FAR_OFF = 3
"""Times the median pair's loss, where the maps were asked: above it a pair counts less. At the border between two
pictures no map holds, and a few such pairs, each lost or won at once, would hide what all others say."""
TRIALS = 4
"""Of all pairs that the calls must hold beside new maps."""


class GaussNewton:
    """Gauss-Newton with secant maps of the network in a trust region of its inputs.

    A trial is one rollout of all pairs, and each of its answers corrects a map. Where trials bring little any more the
    maps are asked anew, of up to twice the pairs, as long as the budget lasts.
    """

    def __init__(
        self,
        solver: Solver,
        network: Network,
        pairs: Pairs,
        loss: EndpointLoss,
        settings: GaussNewtonSettings,
        others: Sequence[Solver] = (),
    ) -> None:
        """others: solvers to begin with where one block of pairs shows one to be better than the usual start."""
        self.solver, self.network, self.pairs, self.loss, self.settings = solver, network, pairs, loss, settings
        self.history: list[Progress] = []
        self._numbers = Numbers(solver)
        self._range = SigmaRange.of(network, solver.sigmas)
        starts = [start_of(solver, self._range.smallest) if settings.lowered else solver, *others]
        read = map(self._numbers.read, starts)
        self._vector, *self._others = (self._numbers.asking_within(vector, *self._range) for vector in read)
        self._start = self._vector
        self._shape = tuple(network.checkpoint.shape)
        self._elements = math.prod(self._shape)
        self._sketch = Sketch(self._elements) if loss.of_inner_products else Sketch(self._elements, self._elements)
        self._known: dict[int, Known] = {}
        self._steps = (settings.probe_step or 0.0, settings.probe_step or 0.0)
        self._loss, self._loss_when_probed, self._radius = math.inf, math.inf, RADIUS
        self.spent = self._trials = self._stalled = self._missed = 0
        self._over = self._mapped = False

    def current(self) -> Solver:
        """The best solver so far."""
        return self._numbers.solver_of(self._vector).requires_grad_(False)

    def expected_calls(self) -> int:
        return 0 if self._over else max(0, self.settings.budget.calls - self.spent)

    def go_on(self, budget: Budget) -> None:
        """With another budget; also where the fit had ended for want of calls."""
        self.settings = replace(self.settings, budget=budget)
        self._over = bool(self.history) and self._full

    def begin_as(self, other: "GaussNewton", budget: Budget) -> None:
        """Begin as a fit whose probing is known to suit the network, with this budget."""
        self._steps = other._steps
        self.go_on(budget)

    @property
    def trial_calls(self) -> int:
        """Of a rollout of all pairs."""
        return self._calls(self.pairs.training_blocks)

    @property
    def _full(self) -> bool:
        return self.spent + self.trial_calls > self.settings.budget.calls

    def begin_on_maps_of(self, other: "GaussNewton") -> float:
        """Begin where the maps of another fit lead, whose solver asks for more, with copies of them; the loss there."""
        self._steps, self.loss = other._steps, replace(other.loss, pair_limit=math.inf)
        table = self._numbers.table(self._vector)
        self._known = {index: known.imagined_at(table.plan) for index, known in other._known.items()}
        self._mapped, begun = True, self._on_the_maps.problem(table).loss
        self._vector, promised, _ = self._on_the_maps.proposed(self._radius)
        self._known = {index: known.copy() for index, known in other._known.items()}
        return begun - promised

    def run(self) -> Iterator[Progress]:
        if not self.history:
            self._begin()
            yield self._line()
        while not self._over:
            self._trial()
            yield self._line()
        self.solver.load_state_dict(self.current().state_dict())

    def _line(self) -> Progress:
        calls = round(self.pairs.cluster.total(self.network.total))
        self.history.append(Progress(self._trials, self._loss, math.nan, calls))
        return self.history[-1]

    def _begin(self) -> None:
        if self._mapped:
            return self._try(self._vector, 0.0, 0.0)
        self._take(1)
        self._choose_start()
        table = self._numbers.table(self._vector)
        if not self._steps[0]:
            tried = 2 * len(TRIED) * self.network.per_call
            self.spent += (tried + self._rollout_calls) * self.pairs.test_targets.batch
            by_state, by_sigma = self.pairs.cluster.from_first(lambda: list(self._found_steps(table)))
            self._steps = (by_state, by_sigma)
        budget = self.settings.budget
        batch, teacher = self.pairs.targets.batch, self.pairs.targets.teacher_calls
        each = self._rollout_calls + self._probe_calls(table)
        blocks = budget.first_blocks(self.spent, each * batch, self.pairs.taken, teacher * batch)
        needed = self.spent + blocks * each * batch + self.pairs.calls_to_take(blocks)
        if needed > budget.calls:
            raise TooFewCallsError(blocks * batch, needed + self._calls(blocks) - budget.calls)  # with one trial
        self._gather(blocks)

    def _take(self, blocks: int) -> None:
        self.spent += self.pairs.calls_to_take(blocks)
        self.pairs.take(blocks)

    def _choose_start(self) -> None:
        """The one that does best on the first block of pairs."""
        vectors = [v for v in (self._vector, *self._others) if self._range.holds(self._numbers.plan(v))]
        if len(vectors) > 1:
            self.spent += len(vectors) * self._calls(1)
            losses = self.pairs.cluster.from_first(lambda: [self._loss_on_first(vector) for vector in vectors])
            self._start = self._vector = vectors[min(range(len(vectors)), key=losses.__getitem__)]

    def _loss_on_first(self, vector: Tensor) -> float:
        block = self.pairs.training[0]
        try:
            return float(self._losses(rollout(self.network, block, self._numbers.plan(vector)), block.target).mean())
        except NonFiniteError:
            return math.inf

    def _found_steps(self, table: Table) -> tuple[float, float]:
        block = self.pairs.test[0]
        return steps_of(self.network, block, rollout(self.network, block, table.plan), table.plan, self._range.smallest)

    @property
    def _probing(self) -> Probing:
        return Probing(*self._steps, min(DIRECTIONS, self._elements), self._range.smallest, self._range.largest)

    @property
    def _rollout_calls(self) -> int:
        return self.network.evaluations(self.solver)

    def _probe_calls(self, table: Table) -> int:
        """For the maps of one pair, at most."""
        return self._probing.calls(table) * (1 if table.plan.guided else self.network.per_call)

    def _calls(self, blocks: int) -> int:
        """Of a rollout of so many blocks."""
        return blocks * self.pairs.targets.batch * self._rollout_calls

    def _gather(self, blocks: int) -> None:
        """Take the first so many blocks of pairs and ask for the maps around the current table."""
        batch, table = self.pairs.targets.batch, self._numbers.table(self._vector)
        self._take(blocks)
        self.spent += self._calls(blocks) + blocks * batch * self._probe_calls(table)
        losses, self._known = dict[int, Tensor](), {}
        for index, block in self.pairs.training_blocks_here():
            made = rollout(self.network, block, table.plan)
            losses[index] = self._losses(made, block.target)
            maps = probe(self.network, block, table, made, self._probing).sketched(self._sketch)
            target = block.target.flatten(1).to("cpu", torch.float32)
            self._known[index] = Known(made.sketched(self._sketch), maps, self._sketch(target))
        of_pairs = torch.cat(self.pairs.cluster.in_order(losses))
        self.loss = replace(self.loss, pair_limit=FAR_OFF * float(of_pairs.median()))
        self._loss = self._loss_when_probed = float(self.loss.limited(of_pairs).mean())
        self._stalled = self._missed = 0
        self._radius = max(self._radius, RADIUS)

    def _losses(self, made: Rollout, target: Tensor) -> Tensor:
        """[pairs] without a limit."""
        end = made.x[-1].reshape(-1, *self._shape)
        residual = self.loss.residual(end, target.to(end))
        return self.loss.of_pairs(residual, residual.shape[1]).cpu()

    def _trial(self) -> None:
        """One step on the maps, one rollout of all pairs, and what it teaches."""
        vector, promised, moved = self._on_the_maps.proposed(self._radius)
        if promised > 0:
            self._try(vector, promised, moved)
        else:
            self._stalled = 2 * PATIENCE
        enough = self.settings.iterations is not None and self._trials >= self.settings.iterations
        if not enough and max(self._stalled, self._missed) >= PATIENCE:
            self._renew()
        self._over = self._over or enough or self._full

    @property
    def _on_the_maps(self) -> OnTheMaps:
        own = self._numbers, self._range, self.loss, self._prior, self._shape
        return OnTheMaps(*own, self.pairs.cluster, self._known, self._vector)

    @property
    def _prior(self) -> Prior:
        """Without weight for learned guidance, which is far from the constant guidance that it begins with."""
        return Prior(self._numbers.plan(self._start), 0.0 if self.solver.guided else PART * self._loss)

    def _try(self, vector: Tensor, promised: float, moved: float) -> None:
        plan = self._numbers.plan(vector)
        self.spent += self.trial_calls
        self._trials += 1
        losses, seen = dict[int, Tensor](), dict[int, Rollout]()
        try:
            for index, block in self.pairs.training_blocks_here():
                made = rollout(self.network, block, plan)
                losses[index] = self.loss.limited(self._losses(made, block.target)).mean()
                seen[index] = made.sketched(self._sketch)
        except NonFiniteError:
            losses[index] = torch.tensor(math.inf, dtype=torch.float64)
        loss = float(self.pairs.cluster.sum_in_order(losses)) / self.pairs.training_blocks
        if not math.isfinite(loss):
            self._radius, self._missed = moved / 3, self._missed + 1
            return
        first = int(plan.analytic_first_step)
        for index, made in seen.items():
            known = self._known[index]
            known.maps.learn(known.made, made, self._elements, first, self._probing.trembling)
        gained = self._loss - loss + self._prior(self._numbers.plan(self._vector)) - self._prior(plan)
        self._stalled = 0 if gained >= GAIN * self._loss else self._stalled + 1
        if gained < promised / 4:
            self._missed += 1
            self._radius = moved / (2 if gained > 0 else 3)
        elif gained > promised / 2:
            self._radius = max(self._radius, 2 * moved)
        if gained > 0:
            self._vector, self._loss = vector, loss
            for index, made in seen.items():
                self._known[index].made = made

    def _renew(self) -> None:
        """The maps anew, of as many more pairs as the calls allow, twice as many at most; the end where the same pairs
        would be left, and their maps brought nothing."""
        batch, blocks, table = self.pairs.targets.batch, self.pairs.training_blocks, self._numbers.table(self._vector)
        left = self.settings.budget.calls - self.spent
        each = batch * (TRIALS * self._rollout_calls + self._probe_calls(table))
        held = [n for n in range(blocks, 2 * blocks + 1) if n * each + self.pairs.calls_to_take(n) <= left]
        brought = self._loss < (1 - GAIN) * self._loss_when_probed
        if held and (brought or (held[-1] > blocks and self._stalled >= PATIENCE)):
            self._gather(held[-1])
        elif self._stalled >= 2 * PATIENCE:
            self._over = True

    def state(self) -> dict[str, Tensor]:
        numbers = [self._loss, self._loss_when_probed, self._radius, *self._steps, self.loss.pair_limit]
        counts = [self.spent, self._trials, self._stalled, self._missed, self.pairs.training_blocks, self.pairs.taken]
        state = {
            "vector": self._vector,
            "start": self._start,
            "numbers": torch.tensor(numbers, dtype=torch.float64),
            "counts": torch.tensor([*counts, int(self._over)]),
            "history": history_tensor(self.history),
        }
        for packed in self.pairs.cluster.gather({i: known.packed(f"block.{i}.") for i, known in self._known.items()}):
            state |= {name: value for block in packed.values() for name, value in block.items()}
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        self._vector, self._start = state["vector"], state["start"]
        self._loss, self._loss_when_probed, self._radius, *steps, limit = state["numbers"].tolist()
        self._steps, self.loss = (steps[0], steps[1]), replace(self.loss, pair_limit=limit)
        self.spent, self._trials, self._stalled, self._missed, blocks, taken, over = state["counts"].tolist()
        self._over, self.history = bool(over), history_from(state["history"])
        self.pairs.take(taken)
        self._known = {}
        if self.history:
            self.pairs.take(blocks)
            here = self.pairs.targets.own(blocks)
            self._known = {i: Known.unpacked(state, f"block.{i}.") for i in here}
