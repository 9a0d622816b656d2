"""The sampling loop: teacher, student, nodes and tests all run this one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from .plan import Plan

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x [B, *shape], sigma [B]) -> the predicted clean x [B, *shape]."""
Predict = Callable[..., Any]
"""A `Denoise`, or for a plan with guidance (x, sigma, guided) -> the pair (conditional, unconditional) where the row is
guided, else the conditional prediction alone."""


@dataclass(frozen=True, eq=False)
class Call:
    """What a callback is given after each network call."""

    step: int
    """Row of the plan, counted from 0."""
    state_sigma: Tensor
    """[] or [B], float64 on the CPU: the noise level of x."""
    query_sigma: Tensor
    """[] or [B], float64 on the CPU: the noise level the network was asked at."""
    x: Tensor
    """[B, *shape] the state before the step."""
    denoised: Tensor
    """[B, *shape] the predicted clean x; for a plan with guidance the conditional one."""
    direction: Tensor | None = None
    """[B, *shape] conditional - unconditional of the newest guided row; None before the first, and without guidance."""


@dataclass(frozen=True, eq=False)
class State:
    """A point between two rows, from which `ask` continues; keep one to share the rows before it."""

    step: int
    x: Tensor
    residuals: dict[int, Tensor]
    """x[j] - denoised[j] by row j, only those that later rows use."""
    dtype: torch.dtype
    """The dtype in which the network sees x."""
    directions: dict[int, Tensor] = field(default_factory=dict)
    """conditional[j] - unconditional[j] by guided row j, only those that later rows use."""


def sample(denoise: Predict, noise: Tensor, plan: Plan, callback: Callable[[Call], None] | None = None) -> Tensor:
    """Run a plan from noise to its endpoint.

    noise: [B, *shape], any number of axes, already at the noise level plan.sigmas[0].
    Returns the endpoint [B, *shape] in the dtype of the noise; states in between are at least float32. The network
    sees x in the dtype of the noise and sigma in at least float32.

    Gradient mode, masks, checkpointing and guidance that is not in the plan belong to the caller or to `denoise`.
    Gradients flow to the noise, to the network and to the table. Raises ValueError where the batch axis of the plan is
    not that of the noise.
    """
    return run(denoise, start(noise, plan), plan, callback).x.to(noise.dtype)


def start(noise: Tensor, plan: Plan) -> State:
    """The state before the first row."""
    if noise.ndim < 1 or plan.batch not in (None, noise.shape[0]):
        raise ValueError(f"the plan has rows for {plan.batch} samples, the noise has shape {list(noise.shape)}")
    return State(0, noise.to(torch.promote_types(noise.dtype, torch.float32)), {}, noise.dtype)


def run(
    denoise: Predict,
    state: State,
    plan: Plan,
    callback: Callable[[Call], None] | None = None,
    asked: list[State] | None = None,
) -> State:
    """The state after the last row. asked: a list that collects what `ask` returns at each row."""
    while state.step < plan.rows:
        state = ask(denoise, state, plan, callback)
        if asked is not None:
            asked.append(state)
        state = update(state, plan)
    return state


def ask(denoise: Predict, state: State, plan: Plan, callback: Callable[[Call], None] | None = None) -> State:
    """The same state with the residual of its own row."""
    i, x, directions = state.step, state.x, state.directions
    if i == 0 and plan.analytic_first_step:
        sigma = _spread(plan.sigmas[..., 0], x)
        residual = x * (sigma / (1 + sigma**2) ** 0.5)
    else:
        query = plan.query_sigmas[..., i]
        asked = x.to(state.dtype), _by_sample(query, x)
        denoised = denoise(*asked) if plan.guidance is None else denoise(*asked, i in plan.guided)
        if i in plan.guided:
            denoised, unconditional = denoised
            directions = {**directions, i: denoised.to(x.dtype) - unconditional.to(x.dtype)}
        residual = x - denoised
        if callback is not None:
            newest = directions[max(directions)] if directions else None
            callback(Call(i, plan.sigmas[..., i].detach(), query.detach(), x, denoised, newest))
    return State(i, x, {**state.residuals, i: residual}, state.dtype, directions)


def update(state: State, plan: Plan) -> State:
    """The next state, from one that `ask` returned; residuals that no later row uses are dropped."""
    i, x, gains = state.step, state.x, _row(plan.gains, state.step)
    for j in range(max(0, i + 1 - plan.history), i + 1):
        x = _add(x, state.residuals[j], gains[j])
    kept = {j: residual for j, residual in state.residuals.items() if j > i + 1 - plan.history}
    if plan.guidance is None:
        return State(i + 1, x, kept, state.dtype)
    guidance = _row(plan.guidance, i)
    for j, direction in state.directions.items():
        x = _add(x, direction, guidance[j])
    served = {j: direction for j, direction in state.directions.items() if plan.last_use[j] > i}
    return State(i + 1, x, kept, state.dtype, served)


def _row(table: Tensor, i: int) -> Sequence[float | Tensor]:
    """The numbers of a row: tensors where they differ by sample or carry gradients."""
    row = table[..., i, :]
    return row.unbind(-1) if row.ndim > 1 or row.requires_grad else cast(list[float], row.tolist())


def _add(x: Tensor, residual: Tensor, gain: float | Tensor) -> Tensor:
    if isinstance(gain, Tensor):
        return x + residual * _spread(gain, x)
    return torch.add(x, residual, alpha=gain)


def _by_sample(query: Tensor, x: Tensor) -> Tensor:
    """[] or [B] -> [B]. A number is filled in on the device: a copy to it would wait for all earlier work."""
    if query.ndim == 0 and not query.requires_grad:
        return x.new_full((x.shape[0],), query.item())
    return _like(query, x).expand(x.shape[0]).contiguous()


def _spread(value: Tensor, x: Tensor) -> Tensor:
    """[] or [B] -> broadcastable against x [B, *shape]."""
    return _like(value, x) if value.ndim == 0 else _like(value, x).reshape(-1, *[1] * (x.ndim - 1))


def _like(value: Tensor, x: Tensor) -> Tensor:
    """dtype first: some devices have no float64."""
    return value.to(x.dtype).to(x.device)
