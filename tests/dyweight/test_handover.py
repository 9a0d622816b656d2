"""A solver for two networks: where the second takes over, the history begins anew, in one run and in two."""

import pytest
import torch

import dyweight
from dyweight.between import between
from dyweight.placement import place

SIGMAS = torch.tensor([1.0, 0.96, 0.9, 0.8, 0.6, 0.3, 0.0], dtype=torch.float64)
RECIPE = {"kind": "comfyui", "boundary": 0.875}
CUT = 3
"""The first step below the boundary."""


def made(family: str, **settings: object) -> dyweight.Solver:
    """A solver whose numbers all moved, as in a fit."""
    kind = {"dyweight": dyweight.DyWeight, "free-table": dyweight.FreeTable}[family]
    solver = kind(SIGMAS, schedule=RECIPE, **settings)
    generator = torch.Generator().manual_seed(0)
    plan = solver.plan()
    columns = torch.autograd.grad(plan.gains.square().sum() + plan.sigmas.sum(), solver.numbers(), allow_unused=True)
    with torch.no_grad():
        for number, moved in zip(solver.numbers(), columns, strict=True):
            if moved is not None:
                number += 0.03 * (moved != 0) * torch.randn(number.shape, generator=generator, dtype=number.dtype)
    return solver.requires_grad_(False)


@pytest.mark.parametrize("family", ["dyweight", "free-table"])
def test_no_step_of_the_second_network_uses_slopes_of_the_first(family: str) -> None:
    solver = made(family)
    gains = solver.plan().gains
    assert solver.handover == CUT
    assert not gains[CUT:, :CUT].any()
    assert gains[CUT - 1, :CUT].count_nonzero() == CUT and gains[-1, CUT:].count_nonzero() == len(SIGMAS) - 1 - CUT


@pytest.mark.parametrize("family", ["dyweight", "free-table"])
def test_untrained_it_is_two_runs_of_the_handcrafted_solver(family: str) -> None:
    settings = {"order": 3} if family == "dyweight" else {"base": "ipndm", "order": 3}
    kind = dyweight.DyWeight if family == "dyweight" else dyweight.FreeTable
    gains = kind(SIGMAS, schedule=RECIPE, **settings).plan().gains
    first = dyweight.baselines.plan("ipndm", SIGMAS[: CUT + 1], 3).gains
    second = dyweight.baselines.plan("ipndm", SIGMAS[CUT:], 3).gains
    torch.testing.assert_close(gains, torch.block_diag(first, second))


@pytest.mark.parametrize("family", ["dyweight", "free-table"])
def test_the_two_parts_alone_are_the_whole(family: str) -> None:
    """As two KSamplers run them: the second part gets the noise level where the first one ended, and no history."""
    solver = made(family)
    whole = solver.plan()
    first = place(solver, SIGMAS[: CUT + 1]).plan
    second = place(solver, SIGMAS[CUT:], start=float(first.sigmas[-1])).plan
    torch.testing.assert_close(first.sigmas[-1], whole.sigmas[CUT])
    torch.testing.assert_close(torch.block_diag(first.gains, second.gains), whole.gains)
    torch.testing.assert_close(torch.cat([first.query_sigmas, second.query_sigmas]), whole.query_sigmas)


def test_the_file_keeps_it_and_other_readers_find_zeros(tmp_path) -> None:  # type: ignore[no-untyped-def]
    solver = made("dyweight")
    dyweight.save_solver(solver, tmp_path / "a.safetensors", {})
    found = dyweight.load_solver(tmp_path / "a.safetensors")
    assert found.handover == CUT and torch.equal(found.plan().gains, solver.plan().gains)
    plain = dyweight.DyWeight(SIGMAS).requires_grad_(False)
    plain.weights.copy_(found.weights)
    plain.time_scale.copy_(found.time_scale)
    torch.testing.assert_close(plain.plan().gains, solver.plan().gains)


def test_a_table_that_crosses_is_refused() -> None:
    with pytest.raises(ValueError, match="before step 3, where another network takes over"):
        dyweight.DyWeight(SIGMAS, schedule=RECIPE).set_table(dyweight.DyWeight(SIGMAS).plan())


@pytest.mark.parametrize("boundary", [None, 0, 1.5, "0.875", True])
def test_without_a_boundary_between_two_steps_nothing_begins_anew(boundary: object) -> None:
    solver = dyweight.DyWeight(SIGMAS, schedule={"boundary": boundary})
    assert solver.handover == 0
    torch.testing.assert_close(solver.plan().gains, dyweight.DyWeight(SIGMAS).plan().gains)


@pytest.mark.parametrize("recipe", [{}, RECIPE])
def test_nothing_is_mixed_of_two_networks(recipe: dict[str, object]) -> None:
    """The step at which the second one takes over has no place in a mixture."""
    finer = torch.tensor([1.0, 0.97, 0.94, 0.91, 0.85, 0.7, 0.5, 0.2, 0.0], dtype=torch.float64)
    pair = [dyweight.DyWeight(sigmas, schedule=recipe).requires_grad_(False) for sigmas in (SIGMAS, finer)]
    assert (between(dyweight.SolverSet(pair), 7) is None) == bool(recipe)


def test_a_fit_begins_on_the_schedule_with_two_networks_too() -> None:
    """Weights of a low order sum to 1 in each row, also where the second network begins with a slope alone."""
    solver = dyweight.DyWeight(SIGMAS, schedule=RECIPE).requires_grad_(False)
    solver.set_start()
    torch.testing.assert_close(solver.plan().sigmas, SIGMAS.double())
