"""The laws of maps: full differences give the exact Jacobian, and a map is right about every answer it was taught."""

import math

import pytest
import torch
from torch import Tensor

import dyweight
from dyweight import DyWeight, FreeTable, LearnedSchedule, Solver, schedules
from trainer.fit.known import Known
from trainer.fit.least_squares import LeastSquares, sums
from trainer.fit.limits import LEAST, Limits, SigmaRange
from trainer.fit.maps import imagined, tangents
from trainer.fit.probing import Probing, probe, steps_of
from trainer.fit.rollout import rollout
from trainer.fit.sketch import Sketch
from trainer.fit.starts import start_of
from trainer.fit.table import Numbers
from trainer.losses.endpoint import EndpointLoss
from trainer.pairs.targets import Block
from trainer.run.network import Network

STEPS = 4


class Bent:
    """A small smooth network whose elements mix; `tremble` adds what oscillates with sigma."""

    def __init__(self, tremble: float = 0.0, wide: int = 12) -> None:
        self.tremble, self.shape = tremble, (wide,)
        mix = torch.randn(wide, wide, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        self.mix = mix / (0.75 * wide) ** 0.5

    def schedule(self, steps: int) -> Tensor:
        return schedules.flow(steps)

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, None]:
        return torch.randn(batch, *self.shape, generator=generator), None

    def denoise(self, x: Tensor, sigma: Tensor, cond: None) -> Tensor:
        level = sigma[:, None].double()
        answer = torch.tanh(x.double() @ self.mix) * (1 - level / 2) + level / 10
        return (answer + self.tremble * torch.sin(1e5 * level.square())).to(x.dtype)


SOLVERS: list[Solver] = [
    DyWeight(schedules.flow(STEPS), 3),
    DyWeight(schedules.flow(STEPS), 2, "query", analytic_first_step=True),
    DyWeight(schedules.flow(STEPS), 3, time_shifting=False),
    DyWeight(schedules.flow(STEPS), 3, time_scaling=False),
    LearnedSchedule(schedules.flow(STEPS)),
    FreeTable(schedules.flow(STEPS)),
]
NAMES = ["dyweight", "query slope and analytic", "no shifting", "no scaling", "learned schedule", "free table"]


def made(solver: Solver, model: Bent, directions: int, pairs: int = 3, step: float = 1e-3):
    """numbers, vector, network, block, table, rollout and maps."""
    numbers, network = Numbers(solver), Network(model)
    vector = numbers.read(start_of(solver))
    table = numbers.table(vector)
    noise, _ = model.draw(torch.Generator().manual_seed(0), pairs)
    block = Block(0, noise, None, torch.zeros_like(noise))
    around = rollout(network, block, table.plan)
    maps = probe(network, block, table, around, Probing(step, step, directions, 1e-3, 1.0))
    return numbers, vector, network, block, table, around, maps


@pytest.mark.parametrize("solver", SOLVERS, ids=NAMES)
def test_with_all_directions_asked_the_chain_rule_is_the_jacobian(solver: Solver) -> None:
    numbers, vector, _, block, table, around, maps = made(solver, Bent(), directions=99)
    *_, found = tangents(table, around, maps, table.plan.rows)

    solver = numbers.solver_of(vector).requires_grad_(True)
    end = dyweight.sample(lambda x, sigma: Bent().denoise(x, sigma, None), block.noise.double(), solver.plan())

    def gradient(element: Tensor) -> Tensor:
        found = torch.autograd.grad(element, solver.numbers(), retain_graph=True, materialize_grads=True)
        return torch.cat([part.flatten() for part in found])

    rows = [gradient(element) for element in end.flatten()]
    exact = torch.stack(rows).reshape(*end.shape, -1).movedim(-1, 1)
    assert float((found - exact).norm() / exact.norm()) < 1e-2


def test_few_directions_are_near_it_and_cost_no_more_than_they_say() -> None:
    _, _, network, block, table, around, _ = made(SOLVERS[0], Bent(), directions=99)
    before = network.forward
    probe(network, block, table, around, Probing(0.01, 0.01, 3, 1e-3, 1.0))
    assert network.forward - before <= 3 * table.probe_calls(3, 1, 1) < 3 * table.probe_calls(99, 1, 1)


@pytest.mark.parametrize("solver", SOLVERS, ids=NAMES)
def test_a_map_is_right_about_the_answer_it_was_taught(solver: Solver) -> None:
    numbers, vector, network, block, _, around, maps = made(solver, Bent(), directions=2)
    away = numbers.plan(vector + 0.02 * torch.randn(len(vector), generator=torch.Generator().manual_seed(2)))
    there = rollout(network, block, away)
    first = int(away.analytic_first_step)
    wrong = float((imagined(away, around, maps).x[-1] - there.x[-1]).norm())
    maps.learn(around, there, 12, first)
    assert float((imagined(away, around, maps).x[-1] - there.x[-1]).norm()) < 1e-3 * wrong + 1e-6


@pytest.mark.parametrize("solver", SOLVERS, ids=NAMES)
def test_in_coordinates_the_maps_say_the_same(solver: Solver) -> None:
    """Of latents far wider than what is known of a pair."""
    numbers, vector, _, block, _, around, maps = made(solver, Bent(wide=600), directions=2)
    known = Known(around, maps, block.target + 1)
    small = known.in_coordinates()
    assert small.made.x.shape[-1] < 60
    away = numbers.table(vector + 0.02 * torch.randn(len(vector), generator=torch.Generator().manual_seed(2)))
    told = []
    for one in (known, small):
        seen = imagined(away.plan, one.made, one.maps)
        *_, moved = tangents(away, seen, one.maps, away.plan.rows)
        off = (seen.x[-1] - one.target).double()
        told.append((moved.double() @ moved.double().mT, moved.double() @ off[..., None], off.square().sum(1)))
    for whole, own in zip(*told, strict=True):
        assert float((whole - own).norm()) < 1e-5 * float(whole.norm())


@pytest.mark.parametrize("solver", SOLVERS, ids=NAMES)
def test_blocks_together_say_what_each_says(solver: Solver) -> None:
    """Of other numbers of directions, and so of coordinates."""
    numbers, vector, network, block, table, around, maps = made(solver, Bent(wide=600), directions=2)
    fewer = probe(network, block, table, around, Probing(0.02, 0.02, 1, 0.01, 1.0))
    blocks = [Known(around, one, block.target + 1).in_coordinates() for one in (maps, fewer)]
    away = numbers.table(vector + 0.02 * torch.randn(len(vector), generator=torch.Generator().manual_seed(2)))
    told = []
    for one in (*blocks, Known.together(blocks)):
        seen = imagined(away.plan, one.made, one.maps)
        told.append(sums(EndpointLoss(), (600,), away, one.made, seen, one.maps, one.target))
    assert blocks[0].made.x.shape[-1] > blocks[1].made.x.shape[-1]
    torch.testing.assert_close(torch.cat(told[:2]), told[2], rtol=1e-9, atol=1e-12)


def test_the_network_is_asked_in_its_range() -> None:
    model, asked = Bent(), list[float]()
    answer = model.denoise
    model.denoise = lambda x, sigma, cond: (asked.extend(sigma.tolist()), answer(x, sigma, cond))[1]  # type: ignore[method-assign]
    numbers, network = Numbers(SOLVERS[0]), Network(model)
    table = numbers.table(numbers.read(SOLVERS[0]))
    noise, _ = model.draw(torch.Generator().manual_seed(0), 2)
    block = Block(0, noise, None, noise)
    around = rollout(network, block, table.plan)
    probe(network, block, table, around, Probing(0.02, 0.3, 8, 0.24, 1.0))
    assert min(asked) >= 0.24 * (1 - 1e-6) and max(asked) <= 1.0


def test_a_network_that_trembles_with_sigma_is_moved_farther() -> None:
    steps = []
    for tremble in (0.0, 0.2):
        model = Bent(tremble)
        numbers, network = Numbers(SOLVERS[0]), Network(model)
        plan = numbers.plan(numbers.read(SOLVERS[0]))
        noise, _ = model.draw(torch.Generator().manual_seed(0), 4)
        block = Block(0, noise, None, noise)
        steps.append(steps_of(network, block, rollout(network, block, plan), plan, 1e-3))
    (smooth_state, smooth_sigma), (state, sigma) = steps
    assert smooth_state == smooth_sigma == state == 0.02 < sigma


def test_at_the_smallest_level_the_network_is_asked_above_it() -> None:
    """Also where it is asked a rounding above: a step down to the smallest would measure nothing else."""
    model, solver = Bent(), SOLVERS[0]
    numbers, network = Numbers(solver), Network(model)
    table = numbers.table(numbers.read(solver))
    noise, _ = model.draw(torch.Generator().manual_seed(0), 4)
    block = Block(0, noise, None, noise)
    around, last = rollout(network, block, table.plan), float(table.plan.query_sigmas[-1])
    away, at, above = (
        probe(network, block, table, around, Probing(1e-3, 1e-3, 8, smallest, 1.0)).d[-1]
        for smallest in (last / 2, last, last * (1 - 3e-16))
    )
    torch.testing.assert_close(at, away, rtol=0.02, atol=1e-4)
    assert torch.equal(at, above)
    middle = float(table.plan.query_sigmas[STEPS // 2])
    assert steps_of(network, block, around, table.plan, middle) == (0.02, 0.02)


def test_a_sketch_keeps_inner_products() -> None:
    sketch = Sketch(40_000)
    x = torch.randn(2, 5, 40_000, generator=torch.Generator().manual_seed(0))
    small = sketch(x)
    assert small.shape == (2, 5, sketch.size)
    off = small @ small.mT - x @ x.mT
    assert float(off.abs().max()) < 6 * 40_000 / math.sqrt(sketch.size)
    assert torch.equal(Sketch(10)(x[..., :10]), x[..., :10])


def test_a_step_is_the_least_within_radius_and_limits() -> None:
    """Against a fine grid in the plane."""
    curvature = torch.tensor([[2.0, 0.7], [0.7, 1.0]]).double()
    squares = LeastSquares(curvature, torch.tensor([-1.0, -2.0]).double(), 1.0, torch.eye(2).double(), 0.0)
    limits = Limits(torch.tensor([[0.0, 1.0]]).double(), torch.tensor([0.5]).double())
    line = torch.linspace(-2, 2, 401, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    for radius in (0.3, 0.8, 5.0):
        allowed = grid[(grid.norm(dim=1) <= radius) & (grid[:, 1] <= 0.5)]
        value = ((allowed @ curvature) * allowed).sum(1) + 2 * allowed @ squares.gradient
        step = squares.step(radius, limits)
        assert float(step.norm()) <= radius * 1.001 and float(step[1]) <= 0.5 + 1e-6
        assert float(step @ curvature @ step + 2 * squares.gradient @ step) <= float(value.min()) + 0.03


def test_no_step_takes_the_level_of_a_state_to_nothing() -> None:
    """One that would take the last level above 0 as far down as it can ends at the floor."""
    levels = torch.tensor([16.0, 4.0, 1.0, 0.0], dtype=torch.float64)
    numbers = Numbers(DyWeight(levels, 3))
    table = numbers.table(numbers.read(DyWeight(levels, 3)))
    count = table.sigmas.shape[1]
    squares = LeastSquares(*(torch.eye(count).double(), 1e3 * table.sigmas[2], 1.0), torch.eye(count).double(), 0.0)
    there = levels + table.sigmas @ squares.step(1e9, SigmaRange(1.0, 16.0).limits(table))
    assert float(there[2]) == pytest.approx(LEAST, abs=1e-3)
