"""Gauss-Newton on the endpoint, forward only: no backward pass, so it runs wherever sampling runs."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import NonFiniteError
from ..losses import EndpointLoss
from ..measure import endpoint, error_or_infinity
from ..network import Network
from ..targets import Pairs
from . import Progress, history_from, history_tensor
from .normal_equations import CHOICE_ROLLOUTS, choose_difference_step, normal_equations, sides_moved
from .parameters import FewNumbers, Parameters
from .starts import Start, as_it_is, worth_exploring

EXPLORING_ITERATIONS = 2
"""Iterations that each start gets on few pairs before one goes on alone."""
RESIDUALS_PER_PARAMETER = 20
"""Few pairs are so many that each parameter has at least this number of residuals."""
GROWING_ITERATIONS = 4
"""Iterations after the exploration in which the number of pairs grows to all."""
PATIENCE, SETTLED = 1, 0.1
"""The fit ends when so many iterations on all pairs lower the smallest validation error by less than this share."""
TRIALS, FACTOR, LEAST_DAMPING, WORTHWHILE = 6, 5.0, 1e-6, 0.01
"""Dampings tried to one side (twice as many where none helps), how far from each other, the smallest, and what share of
the loss another must save."""
TYPICAL_TRIALS = 3
"""Dampings that most iterations try."""


@dataclass(frozen=True)
class GaussNewtonSettings:
    iterations: int
    """At most, after the exploration."""
    difference_step: float | None
    """None to find it from the noise floor."""
    many_starts: bool
    """Explore several starts; otherwise only the solver as it comes."""


class GaussNewton:
    """Levenberg-Marquardt on sums of J^T J over pairs.

    Several starts are explored on few pairs; the one with the smallest errors goes on alone, with more pairs each
    iteration until all are used. The iterate with the smallest validation error is the result.
    """

    def __init__(
        self,
        solver: FewNumbers,
        network: Network,
        pairs: Pairs,
        loss: EndpointLoss,
        settings: GaussNewtonSettings,
        seed: int,
    ) -> None:
        self.solver, self.network, self.pairs, self.loss, self.settings = solver, network, pairs, loss, settings
        self.history: list[Progress] = []
        self._generator = torch.Generator().manual_seed(seed)
        self._starts: list[Start] = worth_exploring(solver) if settings.many_starts else [as_it_is(solver)]
        self._vectors = torch.stack([start.vector for start in self._starts])
        self._best_vectors = self._vectors.clone()
        self._best_errors = torch.full((len(self._starts),), math.inf, dtype=torch.float64)
        self._dampings = torch.full((len(self._starts),), 1e-2, dtype=torch.float64)
        self._difference_step = settings.difference_step or 0.0
        self._iteration = 0

    def expected_calls(self) -> tuple[int, int]:
        left = self.pairs.expected_calls()
        if not self._difference_step:
            left += CHOICE_ROLLOUTS * self.solver.network_calls * self.pairs.targets.batch
        known = sides_moved(self._difference_step) if self._difference_step else None
        return left + self._calls_left(known or 1), left + self._calls_left(known or 2)

    def _calls_left(self, sides: int) -> int:
        """Of the iterations to come if the fit settles as soon as it may."""
        rollout, jacobian = self.solver.network_calls, self._starts[0].parameters.jacobian_calls(sides)
        soonest = max(self._explorations + self._growing + PATIENCE, self._iteration + 1)
        end, calls = min(soonest, self._iterations), 0
        for iteration in range(end if self._over else self._iteration, end):
            blocks = self._training_blocks(iteration)
            repeated = (blocks - self._dealt_whole(blocks, sides)) * (self.pairs.cluster.size - 1)
            rollouts = TYPICAL_TRIALS * blocks + repeated + self.pairs.validation_blocks
            calls += blocks * jacobian + rollout * rollouts
        return self.pairs.targets.batch * calls

    def run(self) -> Iterator[Progress]:
        if not self._difference_step:
            first = self._starts[0]
            self._difference_step = self.pairs.cluster.from_first(
                lambda: choose_difference_step(
                    self.network, self.pairs.training[0], first.parameters, first.vector, self._generator
                )
            )
        while not self._over:
            current = self._current()
            blocks = self._training_blocks(self._iteration)
            training_error = self._iterate(current, blocks)
            error = self._validate(current)
            self._iteration += 1
            calls = round(self.pairs.cluster.total(self.network.total))
            self.history.append(Progress(self._iteration, training_error, error, calls))
            yield self.history[-1]
        best = int(torch.argmin(self._best_errors))
        found = self._starts[best].parameters.solver_of(self._best_vectors[best])
        self.solver.load_state_dict(found.state_dict())

    @property
    def _iterations(self) -> int:
        return self._explorations + self.settings.iterations

    @property
    def _over(self) -> bool:
        return self._iteration >= self._iterations or self._settled

    @property
    def _growing(self) -> int:
        return min(GROWING_ITERATIONS, self.settings.iterations)

    @property
    def _settled(self) -> bool:
        on_all = self.history[self._explorations + self._growing - 1 :]
        errors = [line.validation_error for line in on_all]
        return len(errors) > PATIENCE and not min(errors) < (1 - SETTLED) * min(errors[:-PATIENCE])

    @property
    def _explorations(self) -> int:
        """Iterations before one start goes on alone."""
        return EXPLORING_ITERATIONS * len(self._starts)

    def _current(self) -> int:
        """Which start moves: each in turn while exploring, then the one with the smallest errors.

        The product of both errors counts: the validation error alone punishes a start that has gone deepest on its few
        pairs, and more pairs will cure that.
        """
        if self._iteration < self._explorations:
            return self._iteration // EXPLORING_ITERATIONS
        turns = [self.history[i : i + EXPLORING_ITERATIONS] for i in range(0, self._explorations, EXPLORING_ITERATIONS)]
        errors = [min(line.training_error * line.validation_error for line in turn) for turn in turns]
        return errors.index(min(errors))

    def _training_blocks(self, iteration: int) -> int:
        """Few while exploring, then more by the same factor each iteration until all are used."""
        pair_residuals = math.prod(self.pairs.targets.network.checkpoint.shape)
        needed = RESIDUALS_PER_PARAMETER * len(self._starts[0].parameters) / pair_residuals
        everything = self.pairs.training_blocks
        few = min(everything, self.pairs.targets.block_count(math.ceil(needed)))
        share = min(1.0, max(0, iteration + 1 - self._explorations) / self._growing)
        return math.floor(few * math.pow(everything / few, share) + 1e-9)

    def _iterate(self, current: int, blocks: int) -> float:
        """One step of one start on the first so many blocks; returns the training loss after it."""
        parameters, vector = self._starts[current].parameters, self._vectors[current]
        alone = self._dealt_whole(blocks, sides_moved(self._difference_step))
        equations = normal_equations(
            self.network,
            self.pairs.training_among(alone),
            parameters,
            vector,
            self._difference_step,
            self.loss,
            self.pairs.training_together(range(alone, blocks)),
            self.pairs.cluster,
        )
        damping, loss = _best_damping(
            float(self._dampings[current]),
            lambda damping: self._loss(parameters, vector + equations.step(damping), blocks),
            equations.loss,
        )
        self._dampings[current] = damping
        if not loss < equations.loss:
            return equations.loss
        self._vectors[current] = vector + equations.step(damping)
        return loss

    def _dealt_whole(self, blocks: int, sides: int) -> int:
        """How many blocks are one process's each: all, or all but a rest whose columns are sooner done together."""
        size, rollout = self.pairs.cluster.size, self.solver.network_calls
        jacobian = self._starts[0].parameters.jacobian_calls(sides)
        rest = blocks % size
        together = rest * (rollout + (jacobian - rollout) / size)
        return blocks - rest if together < jacobian else blocks

    def _validate(self, current: int) -> float:
        """The validation error of one start; keeps its numbers if they are its best."""
        parameters, vector = self._starts[current].parameters, self._vectors[current]
        error = error_or_infinity(
            self.network, self.pairs.validation, parameters.plan(vector), self.loss.features, self.pairs.cluster
        )
        if error < float(self._best_errors[current]):
            self._best_errors[current] = error
            self._best_vectors[current] = vector
        return error

    def _loss(self, parameters: Parameters[Any], vector: Tensor, blocks: int) -> float:
        """The training loss, infinite where the numbers make no table or drive the network out of range."""
        try:
            plan = parameters.solver_of(vector).plan()
            own = self.pairs.training_among(blocks)
            residuals = (self.loss.residual(endpoint(self.network, b, plan), b.target) for b in own)
            total = sum(float(self.loss.value(residual)) for residual in residuals)
        except (ValueError, NonFiniteError):
            total = math.inf
        loss = self.pairs.cluster.total(total) / blocks
        return loss if math.isfinite(loss) else math.inf

    def state(self) -> dict[str, Tensor]:
        return {
            "vectors": self._vectors,
            "best_vectors": self._best_vectors,
            "best_errors": self._best_errors,
            "dampings": self._dampings,
            "iteration": torch.tensor(self._iteration),
            "difference_step": torch.tensor(self._difference_step, dtype=torch.float64),
            "history": history_tensor(self.history),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        self._vectors, self._best_vectors = state["vectors"], state["best_vectors"]
        self._best_errors, self._dampings = state["best_errors"], state["dampings"]
        self._iteration = int(state["iteration"])
        self._difference_step = float(state["difference_step"])
        self.history = history_from(state["history"])


def _best_damping(damping: float, loss_of: Callable[[float], float], before: float) -> tuple[float, float]:
    """A damping whose step has a small loss, and that loss; from one that worked before.

    before: the loss without a step. A trial costs a rollout, a fraction of the Jacobian, so the search goes on to one
    side while the loss falls clearly: to less damping, else to more; only to more where the first step does not help.
    """
    loss = loss_of(damping)
    for factor in (1 / FACTOR, FACTOR) if loss < before else (FACTOR,):
        began = damping
        for _ in range(TRIALS if loss < before else 2 * TRIALS):
            other = loss_of(damping * factor) if damping * factor > LEAST_DAMPING else math.inf
            if loss < before and not other < (1 - WORTHWHILE) * loss:
                break
            damping, loss = damping * factor, other
        if damping != began:
            break
    return damping, loss
