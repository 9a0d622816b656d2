"""Adam, the paper's algorithm 1: against the algorithm written out here, and through the command line."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import dyweight
from dyweight import DyWeight, schedules
from trainer.fit.adam import Adam, AdamSettings, default_learning_rate, rate_factor
from trainer.losses.endpoint import EndpointLoss
from trainer.pairs.pairs import Pairs
from trainer.pairs.targets import Targets
from trainer.pairs.teacher import Teacher
from trainer.run.network import Network

ADAM = ("--method", "adam", "--teacher", "ipndm:20")


@pytest.mark.parametrize("iterations", [10, 100, 625])
def test_the_rate_rises_over_a_tenth_from_a_tenth_then_falls_as_a_cosine_to_a_hundredth(iterations: int) -> None:
    factors = [rate_factor(i, iterations) for i in range(iterations + 1)]
    warm_up = round(0.1 * iterations)
    assert factors[0] == pytest.approx(0.1)
    assert factors[warm_up] == pytest.approx(1) == max(factors)
    assert factors[iterations] == pytest.approx(0.01)
    rising, falling = factors[: warm_up + 1], factors[warm_up:]
    assert rising == pytest.approx([0.1 + 0.9 * i / warm_up for i in range(warm_up + 1)])
    if len(falling) % 2:
        assert falling[len(falling) // 2] == pytest.approx((1 + 0.01) / 2)
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_very_few_iterations_have_a_rate_too(iterations: int) -> None:
    assert all(0 < rate_factor(i, iterations) <= 1 for i in range(iterations))


def test_the_default_rate_falls_with_the_steps_between_the_papers_bounds() -> None:
    rates = [default_learning_rate(DyWeight(schedules.flow(steps))) for steps in range(1, 200)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 5e-2 and rates[-1] == 1e-3


def algorithm_1(model: Any, pairs: Pairs, solver: DyWeight, iterations: int, rate: float, clip: float) -> list[Tensor]:
    """The textbook: mean squared endpoint error in units of the targets' variance, clipped, Adam by hand."""
    numbers = [solver.weights, solver.time_scale]
    first, second = ([torch.zeros_like(n) for n in numbers] for _ in range(2))
    for i in range(iterations):
        block = pairs.training[i % pairs.training_blocks]
        end = dyweight.sample(lambda x, s: model.denoise(x, s, None), block.noise, solver.plan())
        loss = (((end - block.target) / pairs.deviation) ** 2).mean()
        gradients = list(torch.autograd.grad(loss, numbers))
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        gradients = [g * min(1.0, clip / float(norm)) for g in gradients]
        warm = round(0.1 * iterations)
        cosine = 0.01 + 0.99 * (1 + math.cos(math.pi * (i - warm) / (iterations - warm))) / 2
        factor = 0.1 + 0.9 * i / warm if i < warm else cosine
        with torch.no_grad():
            for number, gradient, m, v in zip(numbers, gradients, first, second, strict=True):
                m.mul_(0.9).add_(gradient, alpha=0.1)
                v.mul_(0.999).add_(gradient**2, alpha=0.001)
                step = (m / (1 - 0.9 ** (i + 1))) / ((v / (1 - 0.999 ** (i + 1))).sqrt() + 1e-8)
                number.sub_(rate * factor * step)
    return [number.detach().clone() for number in numbers]


def test_it_is_algorithm_1(peaks: Any) -> None:
    """The start is poor, so the first gradients are longer than 1 and the later ones shorter: clipping shows."""
    model = peaks((4,), torch.float64)
    model.schedule = lambda steps: schedules.polynomial(steps, 0.5, 10)
    pairs = Pairs(Targets(Network(model), Teacher("ipndm", 20), 0, 8, None), 32, 8)

    def start() -> DyWeight:
        solver = DyWeight(model.schedule(3))
        with torch.no_grad():
            solver.weights[2, 0] += 20
        return solver

    expected = algorithm_1(model, pairs, start(), 40, 0.01, clip=1.0)
    unclipped = algorithm_1(model, pairs, start(), 40, 0.01, clip=1e9)
    solver = start()
    for _ in Adam(solver, Network(model), pairs, EndpointLoss(), AdamSettings(40, 0.01, recomputed=True)).run():
        pass
    for found, right, wrong in zip((solver.weights, solver.time_scale), expected, unclipped, strict=True):
        torch.testing.assert_close(found.detach(), right, rtol=1e-7, atol=1e-9)
        assert not torch.allclose(right, wrong, rtol=1e-2)


@pytest.mark.parametrize(
    ("ckpt", "more"),
    [
        ("digits", ""),
        ("gmm:8", ""),
        ("gmm:8", "--slope query"),
        ("gmm:8", "--analytic-first-step"),
        ("gmm:8", "--loss l1"),
        ("gmm:8", "--loss huber"),
    ],
)
def test_it_lowers_the_error(ckpt: str, more: str, commands: Any) -> None:
    arguments = ("--steps", 4, "--pairs", 320, "--validation-pairs", 32, *ADAM)
    outcome = commands.distill(ckpt, *arguments, *more.split())
    assert outcome.status == 0, outcome.errors
    provenance = dyweight.SolverFile.read(outcome.out).provenance
    assert provenance["method"] == "adam" and provenance["pairs"] == 320
    assert provenance["endpoint_error_after"] < 0.95 * provenance["endpoint_error_before"]


@pytest.mark.parametrize(("more", "still"), [("--no-time-scaling", "time_scale"), ("--no-time-shifting", "sigmas")])
def test_what_is_switched_off_does_not_move(more: str, still: str, commands: Any, peaks: Any) -> None:
    assert commands.distill(peaks(), "--steps", 3, "--pairs", 64, *ADAM, more).status == 0
    solver = dyweight.load_solver(commands.folder / "solver.safetensors")
    if still == "time_scale":
        assert bool((solver.time_scale == 1).all())
    else:
        torch.testing.assert_close(solver.plan().sigmas, peaks().schedule(3), rtol=1e-6, atol=0)
    assert not torch.equal(solver.weights, DyWeight(peaks().schedule(3)).weights)


def test_recomputing_gives_the_same_file_and_counts_the_calls_it_makes(
    commands: Any, peaks: Any, quick_pictures: None, tmp_path: Path
) -> None:
    model, files, calls = peaks(), [], []
    model.fingerprint = "so that no call is spent on finding one"
    for recompute in ("--recompute", "--no-recompute"):
        arguments = ("--steps", 3, "--pairs", 64, "--batch", 8, "--report-pairs", 8, "--report", tmp_path / recompute)
        outcome = commands.distill(model, *arguments, *ADAM, recompute, "--no-keep-targets")
        assert outcome.status == 0, outcome.errors
        files.append(outcome.out.read_bytes())
        calls.append(json.loads((tmp_path / recompute / "report.json").read_text())["network_calls"])
    assert files[0] == files[1]
    assert [c["backward"] for c in calls] == [64 * 3, 64 * 3]
    assert calls[0]["forward"] - calls[1]["forward"] == 64 * 3
    assert all(c["total"] == c["forward"] + 2 * c["backward"] for c in calls)


def test_targets_on_the_fly_and_from_the_cache_give_the_same_file(commands: Any, peaks: Any, tmp_path: Path) -> None:
    arguments = ("--steps", 3, "--pairs", 48, "--iterations", 7, *ADAM)
    files = [
        commands.distill(peaks(), *arguments, *more).out.read_bytes()
        for more in (("--cache", tmp_path / "c"), ("--cache", tmp_path / "c"), ("--no-keep-targets",))
    ]
    assert files[0] == files[1] == files[2]


def test_the_network_is_left_as_it_was(commands: Any, peaks: Any) -> None:
    """A frozen model: neither its weights nor their gradients change, even where they ask for gradients."""
    model = peaks()
    model.scale = torch.nn.Parameter(torch.ones(()))
    model.denoise = lambda x, sigma, cond: peaks.denoise(model, x, sigma, cond) * model.scale
    assert commands.distill(model, "--steps", 3, "--pairs", 64, *ADAM).status == 0
    assert float(model.scale.detach()) == 1 and model.scale.grad is None


@pytest.mark.parametrize("more", [(), ("--no-recompute",), ("--slope", "query")], ids=str)
def test_a_network_that_rounds_its_time_is_fitted_too(more: tuple[str, ...], commands: Any, peaks: Any) -> None:
    """As models of discrete times do: no gradient comes back through the sigma of the call."""
    model = peaks()
    times = torch.linspace(-4, 2.5, 200)

    def denoise(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        nearest = (sigma.detach().log()[:, None] - times).abs().argmin(1)
        return peaks.denoise(model, x, times[nearest].exp(), cond)

    model.denoise = denoise
    outcome = commands.distill(model, "--steps", 3, "--pairs", 160, *ADAM, "--learning-rate", 0.01, *more)
    assert outcome.status == 0, outcome.errors
    provenance = dyweight.SolverFile.read(outcome.out).provenance
    assert provenance["endpoint_error_after"] < 0.95 * provenance["endpoint_error_before"]


def test_a_network_without_any_gradient_leaves_the_solver_usable(commands: Any, peaks: Any) -> None:
    model = peaks()
    model.denoise = lambda x, sigma, cond: peaks.denoise(model, x, sigma, cond).detach()
    outcome = commands.distill(model, "--steps", 3, "--pairs", 64, *ADAM)
    assert outcome.status == 0, outcome.errors


@pytest.mark.parametrize("rate", [0.3, 3.0, 1e6])
def test_a_rate_that_is_far_too_high_is_a_clear_error_or_a_file(rate: float, commands: Any, peaks: Any) -> None:
    outcome = commands.distill(peaks(), "--steps", 4, "--pairs", 64, *ADAM, "--learning-rate", rate)
    if outcome.status == 0:
        dyweight.load_solver(outcome.out)
    else:
        assert "--learning-rate" in outcome.message and f"{rate:g}" in outcome.message
        assert not outcome.out.exists()


def test_a_gradient_that_is_not_finite_is_a_clear_error(commands: Any, peaks: Any) -> None:
    """Finite forward, as a square root at 0 has."""
    model = peaks()
    model.denoise = lambda x, sigma, cond: peaks.denoise(model, x, sigma, cond) + (x - x).abs().sqrt()
    outcome = commands.distill(model, "--steps", 3, "--pairs", 64, *ADAM)
    assert "gradient" in outcome.message
    assert not outcome.out.exists()
