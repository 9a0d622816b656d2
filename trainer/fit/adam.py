"""Adam through the network: the paper's algorithm 1."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import dyweight
from dyweight import Solver

from ..compare.endpoint_error import endpoint_error, plan_for
from ..losses.endpoint import EndpointLoss
from ..pairs.pairs import Pairs
from ..pairs.targets import Block
from ..run.errors import NonFiniteError, TrainerError
from ..run.network import Network
from . import Progress, history_from, history_tensor
from .parts import can_be_split, part

WARM_UP = 0.1
"""Fraction of the iterations in which the learning rate rises linearly, from WARM_UP_START of its value."""
WARM_UP_START = 0.1
FINAL_FRACTION = 0.01
"""Where the cosine ends."""
GRADIENT_NORM = 1.0
HALVINGS = 20
"""Of a step that leaves the valid times, before it is taken back."""
VALIDATIONS = 20
"""How many times a run measures the validation error."""


PHI_LEARNING_RATE = 1e-3


def default_learning_rate(solver: Solver) -> float:
    """By step count, lower for more steps (DyWeight, D.2: between 1e-3 and 5e-2); for phi the same for all."""
    return float(min(5e-2, max(1e-3, 0.09 / solver.steps))) if not solver.reads_samples else PHI_LEARNING_RATE


@dataclass(frozen=True)
class AdamSettings:
    """Algorithm 1's settings; the data and the solver come beside them."""

    iterations: int
    learning_rate: float
    recomputed: bool
    """Keep no activations: a call is run again on the way back."""
    lowered: bool = False
    """INDIS: begin below the noise levels of the states, which is often the deeper valley."""


class Adam:
    """Algorithm 1 of DyWeight (arXiv 2603.11607): endpoint loss, Adam, warm-up and cosine, clipped gradient."""

    def __init__(
        self,
        solver: Solver,
        network: Network,
        pairs: Pairs,
        loss: EndpointLoss,
        settings: AdamSettings,
    ) -> None:
        self.solver, self.network, self.pairs, self.loss, self.settings = solver, network, pairs, loss, settings
        self.history: list[Progress] = []
        self.spent = 0
        self._parameters = solver.numbers()
        self._optimiser = torch.optim.Adam(self._parameters, lr=settings.learning_rate)
        self._iteration = 0
        self._ahead: dict[int, Block] = {}
        self._split: bool | None = None

    def expected_calls(self) -> int:
        left = range(self._iteration, self.settings.iterations)
        validated = sum(self._validated_after(i) for i in left) * self.pairs.validation_blocks
        rollouts = len(left) * (4 if self.settings.recomputed else 3) + validated
        calls = self.pairs.targets.batch * self.network.evaluations(self.solver) * rollouts
        calls += self.pairs.expected_validation_calls()
        return calls + self._expected_training_targets(len(left))

    def current(self) -> Solver:
        return self.solver

    def _expected_training_targets(self, iterations: int) -> int:
        """Network calls of the teacher; endpoints that are not kept are made in every iteration."""
        targets = self.pairs.targets
        if targets.folder is None:
            return targets.teacher_calls * targets.batch * iterations
        used = min(self.settings.iterations, self.pairs.training_blocks)
        return targets.teacher_calls * targets.missing("train", used)

    def run(self) -> Iterator[Progress]:
        total, losses = self.settings.iterations, []
        if self._iteration == 0 and self.settings.lowered and self.solver.reads_samples:
            self.solver.set_start()
        for i in range(self._iteration, total):
            losses.append(self._step(i))
            self._iteration = i + 1
            if self._validated_after(i):
                error = self._validation_error()
                mean = sum(losses) / len(losses)
                losses = []
                calls = round(self.pairs.cluster.total(self.network.total))
                self.history.append(Progress(i + 1, mean, error, calls))
                yield self.history[-1]

    def _validated_after(self, iteration: int) -> bool:
        total = self.settings.iterations
        return (iteration + 1) % max(1, total // VALIDATIONS) == 0 or iteration + 1 == total

    def _validation_error(self) -> float:
        return endpoint_error(self.network, self.pairs.validation, self.solver, self.loss.features, self.pairs.cluster)

    def _step(self, iteration: int) -> float:
        for group in self._optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * rate_factor(iteration, self.settings.iterations)
        loss = self._set_gradients(iteration)
        torch.nn.utils.clip_grad_norm_(self._parameters, GRADIENT_NORM)
        before = [p.detach().clone() for p in self._parameters]
        self._optimiser.step()
        self._step_back(before)
        return loss

    def _set_gradients(self, iteration: int) -> float:
        """The loss of an iteration's pairs and its gradients, summed over the processes' parts of them."""
        block = self._block(iteration)
        pairs, cluster = len(block.noise), self.pairs.cluster
        rows = self._rows(iteration, pairs)
        sizes = [p.numel() for p in self._parameters]
        own = torch.zeros(1 + sum(sizes), dtype=torch.float64)
        if rows.start < rows.stop:
            own = self._loss_and_gradients(part(block, rows)) * ((rows.stop - rows.start) / pairs)
        loss, *gradients = torch.split(cluster.sum(own), [1, *sizes])
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient.reshape(parameter.shape).to(parameter)
        return float(loss)

    def block_loss(self, block: Block) -> Tensor:
        """The loss on some pairs, with its graph: that of the endpoint. benchmarks/studies compares another."""
        plan = plan_for(self.solver, self.network, block)
        denoise = self.network.bound(block.cond, block.first, recomputed=self.settings.recomputed, plan=plan)
        end = dyweight.sample(denoise, block.noise, plan)
        return self.loss.value(self.loss.residual(end, block.target))

    def _loss_and_gradients(self, block: Block) -> Tensor:
        """One vector: the loss, then the gradient of each number."""
        with torch.enable_grad():
            loss = self.block_loss(block)
            self._check_gradient(loss)
            gradients = torch.autograd.grad(loss, self._parameters, materialize_grads=True)
        vector = torch.cat([gradient.flatten().to("cpu", torch.float64) for gradient in gradients])
        if not bool(torch.isfinite(vector).all()):
            last = block.first + len(block.noise) - 1
            raise NonFiniteError(f"pairs {block.first} to {last}: the gradient has a value that is not finite")
        return torch.cat([loss.detach().reshape(1).to(vector), vector])

    def _check_gradient(self, loss: Tensor) -> None:
        if not loss.requires_grad:
            raise TrainerError(
                f"--loss {self.loss.name}: no gradient comes through the decoder; give --method gauss-newton"
            )

    def _block(self, iteration: int) -> Block:
        """The pairs of an iteration; endpoints are made for as many iterations at a time as there are processes."""
        count = self.pairs.training_blocks
        if iteration not in self._ahead:
            following = range(iteration, min(iteration + self.pairs.cluster.size, self.settings.iterations))
            made = self.pairs.targets.for_all("train", {i % count for i in following})
            self._ahead = {i: made[i % count] for i in following}
        return self._ahead[iteration]

    def _rows(self, iteration: int, pairs: int) -> slice:
        """This process's pairs of an iteration: a part, or all or none where the network takes no parts."""
        cluster = self.pairs.cluster
        if self._split is None:
            draw = self.pairs.targets.draw
            self._split = cluster.size > 1 and cluster.from_first(lambda: can_be_split(self.network, draw("train", 0)))
        if self._split:
            return slice(cluster.rank * pairs // cluster.size, (cluster.rank + 1) * pairs // cluster.size)
        return slice(0, pairs if cluster.mine(iteration) else 0)

    @torch.no_grad()
    def _step_back(self, before: list[Tensor]) -> None:
        """Halve a step that carries a time to 0 or below until it does not."""
        for halvings in range(HALVINGS + 1):
            try:
                self.solver.plan()
                return
            except ValueError:
                for parameter, earlier in zip(self._parameters, before, strict=True):
                    parameter.lerp_(earlier, 0.5 if halvings < HALVINGS - 1 else 1.0)

    def state(self) -> dict[str, Tensor]:
        state = {
            **{f"solver.{name}": value.detach().clone() for name, value in self.solver.state_dict().items()},
            "iteration": torch.tensor(self._iteration),
            "history": history_tensor(self.history),
        }
        for index, moments in self._optimiser.state_dict()["state"].items():
            state |= {f"adam.{index}.{name}": value.clone() for name, value in moments.items()}
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        own = {name.removeprefix("solver."): value for name, value in state.items() if name.startswith("solver.")}
        self.solver.load_state_dict(own)
        self._iteration = int(state["iteration"])
        self.history = history_from(state["history"])
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            if key.startswith("adam."):
                _, index, name = key.split(".")
                moments.setdefault(int(index), {})[name] = value
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": moments, "param_groups": groups})


def rate_factor(iteration: int, iterations: int) -> float:
    """What the learning rate is multiplied by: linear warm-up, then a cosine to FINAL_FRACTION."""
    warm_up = round(WARM_UP * iterations)
    if iteration < warm_up:
        return WARM_UP_START + (1 - WARM_UP_START) * iteration / warm_up
    progress = (iteration - warm_up) / max(1, iterations - warm_up)
    return FINAL_FRACTION + (1 - FINAL_FRACTION) * (1 + math.cos(math.pi * progress)) / 2
