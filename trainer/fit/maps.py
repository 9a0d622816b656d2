"""What the network does near each row of a rollout: linear maps, learned from its answers.

For one pair and row, with answer D at (x, q):

    D(x + v, q exp(s))  =  D + rho v + sum over i of y_i <u_i, v> + s d
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

import dyweight
from dyweight import Plan

from ..run.network import Network
from ..pairs.targets import Block
from .numbers import Table

DIRECTIONS = 8
CHUNK_ELEMENTS = 4096


class Sketch:
    """Count sketch (Charikar 2002): a linear map of latents to few numbers that keeps inner products.

    Latents that are no larger are kept as they are.
    """

    def __init__(self, elements: int, size: int, seed: int = 0) -> None:
        self.elements, self.size = elements, min(elements, size)
        if elements > size:
            generator = torch.Generator().manual_seed(seed)
            self._cell = torch.randint(size, (elements,), generator=generator)
            self._sign = torch.randint(2, (elements,), generator=generator).float() * 2 - 1

    def __call__(self, x: Tensor) -> Tensor:
        """[B, elements] -> [B, size], float32 on the CPU"""
        x = x.flatten(1).float().cpu()
        if self.elements == self.size:
            return x
        return x.new_zeros(len(x), self.size).index_add_(1, self._cell, x * self._sign)


@dataclass
class Rollout:
    """x [rows + 1, B, m], answers [rows, B, m]"""

    x: Tensor
    answers: Tensor
    log_queries: Tensor

    @property
    def residuals(self) -> Tensor:
        return self.x[:-1] - self.answers


def rollout(network: Network, block: Block, plan: Plan, analytic: Tensor | None = None) -> Rollout:
    """In full, [.., B, elements] on the CPU."""
    states, answers = [], []
    if plan.analytic_first_step:
        sigma = plan.sigmas[0]
        x = block.noise.flatten(1).float().cpu()
        states.append(x)
        answers.append(x - x * float(sigma / (1 + sigma**2) ** 0.5))

    def seen(call) -> None:
        states.append(call.x.flatten(1).float().cpu())
        answers.append(call.denoised.flatten(1).float().cpu())

    with torch.inference_mode():
        end = dyweight.sample(network.bound(block.cond, block.first, plan=plan), block.noise, plan, seen)
    states.append(end.flatten(1).float().cpu())
    return Rollout(torch.stack(states), torch.stack(answers), plan.query_sigmas.log())


@dataclass
class Maps:
    """Of one block: u, y [rows] of [B, k, m]; d [rows, B, m]; rho [rows, B]"""

    u: list[Tensor]
    y: list[Tensor]
    d: Tensor
    rho: Tensor

    def answer(self, row: int, v: Tensor, s: Tensor) -> Tensor:
        """v [B, P, m], s [P] or [B, P] -> [B, P, m]"""
        moved = self.rho[row][:, None, None] * v + s[..., None] * self.d[row][:, None]
        if self.u[row].shape[1]:
            moved = moved + (v @ self.u[row].mT) @ self.y[row]
        return moved

    def learn(self, row: int, v: Tensor, s: float, change: Tensor, unit: float, noise: float = 0.0) -> None:
        """Broyden's update by one more answer. v, change [B, m]; unit: c = q sqrt(size)."""
        wrong = change - self.answer(row, v[:, None], torch.tensor([s], dtype=v.dtype))[:, 0]
        weight = (v**2).sum(1) + (unit * s) ** 2 + (noise * unit) ** 2
        weight = weight.clamp_min(1e-30)[:, None]
        self.u[row] = torch.cat([self.u[row], (v / weight)[:, None]], 1)
        self.y[row] = torch.cat([self.y[row], wrong[:, None]], 1)
        self.d[row] = self.d[row] + wrong * (unit**2 * s / weight)


def tangents(table: Table, made: Rollout, maps: Maps, until: int | None = None):
    """dx [B, P, m] at each row up to `until`, the last the endpoint."""
    rows = table.plan.rows if until is None else until
    residuals = made.residuals
    dtype = residuals.dtype
    B, m = residuals.shape[1:]
    P = table.gains.shape[-1]
    dx = residuals.new_zeros(B, P, m)
    states, moved = [dx], []
    gains = table.plan.gains
    for i in range(rows):
        fixed = i == 0 and table.plan.analytic_first_step
        moved.append(torch.zeros_like(dx) if fixed else dx - maps.answer(i, dx, table.log_queries[i].to(dtype)))
        dx = dx + torch.einsum("jp,jbm->bpm", table.gains[i, : i + 1].to(dtype), residuals[: i + 1])
        for j in range(i + 1):
            g = float(gains[i, j])
            if g:
                dx = dx + g * moved[j]
        states.append(dx)
    return states


@dataclass
class ProbeSettings:
    step: float = 0.02
    sigma_step: float = 0.02
    directions: int = DIRECTIONS
    sides: int = 1


def probe_calls(table: Table, directions: int, sides: int = 1) -> int:
    """At most, of one pair."""
    total = 0
    first = int(table.plan.analytic_first_step)
    for n in range(first, table.plan.rows):
        total += 1
        total += min(directions, earlier(table, n))
    return sides * total


def earlier(table: Table, row: int) -> int:
    """How many numbers move the state of a row."""
    touched = (table.gains[:row] != 0).any(0).any(0)
    touched = touched | (table.log_queries[:row] != 0).any(0)
    return int(touched.sum())


@torch.no_grad()
def probe(network: Network, block: Block, table: Table, made: Rollout, sketch: Sketch, settings: ProbeSettings) -> Maps:
    plan, shape = table.plan, block.noise.shape
    rows = plan.rows
    B, E = made.x.shape[1:]
    full = Maps([], [], torch.zeros(rows, B, E), torch.zeros(rows, B))

    def ask(x: Tensor, q: float) -> Tensor:
        noise = block.noise
        denoise = network.bound(block.cond, block.first, n, plan=plan)
        with torch.inference_mode():
            answer = denoise(x.reshape(shape).to(noise), noise.new_full((B,), q, dtype=torch.promote_types(noise.dtype, torch.float32)))
        return answer.flatten(1).float().cpu()

    first = int(plan.analytic_first_step)
    for n in range(rows):
        x, here, q = made.x[n], made.answers[n], float(plan.query_sigmas[n])
        if n < first:
            full.u.append(torch.zeros(B, 0, E)); full.y.append(torch.zeros(B, 0, E))
            continue
        eps = settings.sigma_step
        import math
        if settings.sides == 2:
            full.d[n] = (ask(x, q * math.exp(eps)) - ask(x, q * math.exp(-eps))) / (2 * eps)
        else:
            full.d[n] = (ask(x, q * math.exp(-eps)) - here) / -eps
        count = min(settings.directions, earlier(table, n))
        if count == 0:
            full.u.append(torch.zeros(B, 0, E)); full.y.append(torch.zeros(B, 0, E))
            continue
        V = tangents(table, made, full, n)[n].double()
        V = V[:, V.abs().amax((0, 2)) > 0]
        V = V / V.norm(dim=2, keepdim=True).clamp_min(1e-30)
        values, vectors = torch.linalg.eigh(V @ V.mT)
        values, vectors = values.flip(1)[:, :count], vectors.flip(2)[..., :count]
        k = int((values > 1e-10 * values[:, :1]).sum(1).max())
        values, vectors = values[:, :k], vectors[..., :k]
        u = (vectors.mT @ V) / values.clamp_min(1e-30).sqrt()[..., None]
        u = torch.linalg.qr(u.mT)[0].mT.float()
        h = settings.step * q * E**0.5
        if settings.sides == 2:
            y = torch.stack([(ask(x + h * u[:, i], q) - ask(x - h * u[:, i], q)) / (2 * h) for i in range(k)], 1)
        else:
            y = torch.stack([(ask(x + h * u[:, i], q) - here) / h for i in range(k)], 1)
        rho = (u[:, -2:] * y[:, -2:]).sum(2).mean(1).clamp(0, 1)
        full.rho[n] = rho
        full.u.append(u)
        full.y.append(y - rho[:, None, None] * u)
    small = Maps([_each(sketch, u) for u in full.u], [_each(sketch, y) for y in full.y], _each(sketch, full.d), full.rho)
    return small


def _each(sketch: Sketch, x: Tensor) -> Tensor:
    return sketch(x.flatten(0, 1)).reshape(*x.shape[:2], sketch.size)


def sketched(sketch: Sketch, made: Rollout) -> Rollout:
    return Rollout(_each(sketch, made.x), _each(sketch, made.answers), made.log_queries)


def imagined(plan: Plan, made: Rollout, maps: Maps) -> Rollout:
    """The rollout of another table as the maps have it."""
    x, gains = made.x[0], plan.gains.to(made.x.dtype)
    states, answers = [x], []
    log_queries = plan.query_sigmas.log()
    for i in range(plan.rows):
        answer = made.answers[i]
        if not (i == 0 and plan.analytic_first_step):
            v = x - made.x[i]
            answer = answer + maps.answer(i, v[:, None], (log_queries[i] - made.log_queries[i]).to(x)[None])[:, 0]
        answers.append(answer)
        residuals = torch.stack(states) - torch.stack(answers)
        x = x + torch.einsum("j,jbm->bm", gains[i, : i + 1], residuals)
        states.append(x)
    return Rollout(torch.stack(states), torch.stack(answers), log_queries)
