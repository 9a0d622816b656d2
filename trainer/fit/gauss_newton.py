"""Gauss-Newton on the endpoint, forward only: no backward pass, so it runs wherever sampling runs."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..compare.endpoint_error import endpoint, error_or_infinity
from ..losses.endpoint import EndpointLoss
from ..pairs.pairs import Pairs
from ..run.errors import NonFiniteError
from ..run.network import Network
from . import Progress, history_from, history_tensor
from .normal_equations import CHOICE_ROLLOUTS, choose_difference_step, normal_equations, sides_moved
from .parameters import FewNumbers, Parameters
from .starts import Start, as_it_is, worth_exploring

EXPLORING_ITERATIONS = 3
"""Iterations that each start gets on few pairs before the best goes on alone."""
RESIDUALS_PER_PARAMETER = 20
"""Few pairs are so many that each parameter has at least this number of residuals."""
TRIALS = 6
"""Dampings tried before an iteration gives up."""
PATIENCE = 2
"""Iterations on all pairs without a better validation error before the fit stops."""


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

    Several starts are explored on few pairs; the one with the smallest validation error goes on alone, with more
    pairs each iteration until all are used. The iterate with the smallest validation error is the result.
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
        self._stalled = 0

    def expected_calls(self) -> tuple[int, int]:
        if self._difference_step:
            calls = self.pairs.expected_calls() + self._calls_left(sides_moved(self._difference_step))
            return calls, calls
        before = self.pairs.expected_calls() + CHOICE_ROLLOUTS * self.solver.network_calls * self.pairs.targets.batch
        return before + self._calls_left(1), before + self._calls_left(2)

    def _calls_left(self, sides: int) -> int:
        """Of the iterations to come, with one trial step each, as most take; a fit that stalls ends earlier."""
        rollout, jacobian = self.solver.network_calls, self._starts[0].parameters.jacobian_calls(sides)
        left = 0
        for iteration in range(self._iterations if self._over else self._iteration, self._iterations):
            blocks = self._training_blocks(iteration)
            repeated = (blocks - self._dealt_whole(blocks, sides)) * (self.pairs.cluster.size - 1)
            left += blocks * jacobian + rollout * (blocks + repeated + self.pairs.validation_blocks)
        return self.pairs.targets.batch * left

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
            error = self._validate(current, final=not self._exploring and blocks == self.pairs.training_blocks)
            self._iteration += 1
            calls = round(self.pairs.cluster.total(self.network.total))
            self.history.append(Progress(self._iteration, training_error, error, calls))
            yield self.history[-1]
        best = self._best()
        found = self._starts[best].parameters.solver_of(self._best_vectors[best])
        self.solver.load_state_dict(found.state_dict())

    @property
    def _iterations(self) -> int:
        return len(self._starts) * EXPLORING_ITERATIONS + self.settings.iterations

    @property
    def _over(self) -> bool:
        return self._iteration >= self._iterations or self._stalled >= PATIENCE

    @property
    def _exploring(self) -> bool:
        return self._iteration < len(self._starts) * EXPLORING_ITERATIONS

    def _current(self) -> int:
        """Which start moves: each in turn while exploring, then the best."""
        return self._iteration // EXPLORING_ITERATIONS if self._exploring else self._best()

    def _best(self) -> int:
        return int(torch.argmin(self._best_errors))

    def _training_blocks(self, iteration: int) -> int:
        """Few while exploring, then more by the same factor each iteration, all in the last."""
        pair_residuals = math.prod(self.pairs.targets.network.checkpoint.shape)
        needed = RESIDUALS_PER_PARAMETER * len(self._starts[0].parameters) / pair_residuals
        everything = self.pairs.training_blocks
        few = min(everything, self.pairs.targets.block_count(math.ceil(needed)))
        alone = iteration + 1 - len(self._starts) * EXPLORING_ITERATIONS
        share = max(0, alone) / self.settings.iterations
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
        damping, loss = float(self._dampings[current]), equations.loss
        for _ in range(TRIALS):
            step = equations.step(damping)
            loss = self._loss(parameters, vector + step, blocks)
            if loss < equations.loss:
                good = equations.loss - loss > 0.5 * equations.promised(step)
                damping = max(damping / (8 if good else 1.5), 1e-7)
                self._vectors[current] = vector + step
                break
            damping *= 6
        else:
            loss = equations.loss
        self._dampings[current] = damping
        return loss

    def _dealt_whole(self, blocks: int, sides: int) -> int:
        """How many blocks are one process's each: all, or all but a rest whose columns are sooner done together."""
        size, rollout = self.pairs.cluster.size, self.solver.network_calls
        jacobian = self._starts[0].parameters.jacobian_calls(sides)
        rest = blocks % size
        together = rest * (rollout + (jacobian - rollout) / size)
        return blocks - rest if together < jacobian else blocks

    def _validate(self, current: int, final: bool) -> float:
        """The validation error of one start; keeps its numbers if they are its best. final: counts a stall."""
        parameters, vector = self._starts[current].parameters, self._vectors[current]
        error = error_or_infinity(
            self.network, self.pairs.validation, parameters.plan(vector), self.loss.features, self.pairs.cluster
        )
        better = error < float(self._best_errors[current]) * (1 - 1e-2)
        self._stalled = 0 if better or not final else self._stalled + 1
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
            "progress": torch.tensor([self._iteration, self._stalled]),
            "difference_step": torch.tensor(self._difference_step, dtype=torch.float64),
            "history": history_tensor(self.history),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        self._vectors, self._best_vectors = state["vectors"], state["best_vectors"]
        self._best_errors, self._dampings = state["best_errors"], state["dampings"]
        self._iteration, self._stalled = state["progress"].tolist()
        self._difference_step = float(state["difference_step"])
        self.history = history_from(state["history"])
