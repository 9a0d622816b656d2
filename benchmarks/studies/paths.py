"""Path supervision: the path of a teacher, and the trainer's Adam with a loss on every state of the student."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

import dyweight
from dyweight import Plan
from dyweight.sampling import Call, Denoise, State, run, start
from trainer.compare.endpoint_error import plan_for
from trainer.fit.adam import Adam
from trainer.pairs.targets import Block, Draw
from trainer.run.network import Network

Times = Literal["scheduled", "shifted"]
"""Where a student's state is compared with the teacher's: at the time of the base schedule, or at its shifted time."""


@dataclass(frozen=True, eq=False)
class TeacherPath:
    """The states of a teacher, and between them the cubic through states and slopes."""

    sigmas: Tensor
    """[rows + 1] float64"""
    states: Tensor
    """[rows + 1, B, *shape]"""
    slopes: Tensor
    """[rows + 1, B, *shape], dx / dsigma; the last one makes the last piece a parabola."""

    def at(self, sigma: Tensor) -> Tensor:
        """The state at a noise level [], clamped to the path's; gradients flow to it. Exact at the teacher's points."""
        i = min(max(int((self.sigmas > sigma.detach()).sum()) - 1, 0), len(self.sigmas) - 2)
        step = self.sigmas[i + 1] - self.sigmas[i]
        u = ((sigma - self.sigmas[i]) / step).clamp(0, 1)
        ends = (2 * u**3 - 3 * u**2 + 1) * self.states[i] + (3 * u**2 - 2 * u**3) * self.states[i + 1]
        bends = (u**3 - 2 * u**2 + u) * self.slopes[i] + (u**3 - u**2) * self.slopes[i + 1]
        return (ends + step * bends).to(self.states)


def teacher_path(denoise: Denoise, noise: Tensor, plan: Plan) -> TeacherPath:
    """The path of a handcrafted solver with one call per step, without gradients."""
    states, slopes = [], []

    def keep(call: Call) -> None:
        states.append(call.x)
        slopes.append((call.x - call.denoised) / float(call.query_sigma))

    with torch.no_grad():
        states.append(dyweight.sample(denoise, noise, plan, keep))
    step = float(plan.sigmas[-1] - plan.sigmas[-2])
    slopes.append(2 * (states[-1] - states[-2]) / step - slopes[-1])
    return TeacherPath(plan.sigmas, torch.stack(states), torch.stack(slopes))


def states_of(denoise: Denoise, noise: Tensor, plan: Plan) -> list[Tensor]:
    """The states of a plan, rows + 1 of [B, *shape]."""
    asked: list[State] = []
    end = run(denoise, start(noise, plan), plan, asked=asked)
    return [state.x for state in (*asked, end)]


class TeacherPaths:
    """The paths of one teacher from the blocks of pairs, each made once."""

    def __init__(self, network: Network, plan: Plan) -> None:
        self.network, self.plan = network, plan
        self._made: dict[int, TeacherPath] = {}

    def of(self, drawn: Draw) -> TeacherPath:
        if drawn.first not in self._made:
            denoise = self.network.bound(drawn.cond, drawn.first, who="teacher", plan=self.plan)
            self._made[drawn.first] = teacher_path(denoise, drawn.noise, self.plan)
        return self._made[drawn.first]


class PathAdam(Adam):
    """The trainer's Adam on the sum of the distances of all states (DyWeight, equation A.15)."""

    def __init__(self, *of_adam: Any, paths: TeacherPaths, times: Times) -> None:
        super().__init__(*of_adam)
        self._paths, self._times = paths, times

    def block_loss(self, block: Block) -> Tensor:
        plan, path = plan_for(self.solver, self.network, block), self._paths.of(block)
        denoise = self.network.bound(block.cond, block.first, plan=plan)
        times = self.solver.sigmas if self._times == "scheduled" else plan.sigmas
        states = states_of(denoise, block.noise, plan)[1:]
        goals = [*map(path.at, times[1:-1]), block.target]
        pairs = zip(states, goals, strict=True)
        return torch.stack([self.loss.value(self.loss.residual(state, goal)) for state, goal in pairs]).sum()
