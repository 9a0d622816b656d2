"""The fit of learned guidance: the maps of both predictions, evaluations counted as made, and the choice of rows."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import dyweight
from dyweight import DyWeight, schedules
from trainer.distillation.fitting import Fitting
from trainer.distillation.fitting_set import FittingSet
from trainer.fit.maps import imagined, tangents
from trainer.fit.probing import Probing, probe
from trainer.fit.rollout import rollout
from trainer.fit.starts import start_of
from trainer.fit.table import Numbers
from trainer.options.distill import DistillOptions
from trainer.pairs.targets import Block
from trainer.run.cluster import ALONE
from trainer.run.errors import CheckpointError, TrainerError
from trainer.run.network import Network

CFG, SIZE, OUT = 3.0, 48, Path("x.safetensors")


class Pair:
    """A smooth flow whose two predictions differ; it counts the samples that each of them was asked for."""

    shape = (SIZE,)
    cfg = CFG

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.mix = torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64) / SIZE**0.5
        self.asked = [0, 0]

    def schedule(self, steps: int) -> Tensor:
        return schedules.flow(steps)

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, None]:
        return torch.randn(batch, SIZE, generator=generator), None

    def _prediction(self, which: int, x: Tensor, sigma: Tensor) -> Tensor:
        self.asked[which] += len(x)
        level = sigma[:, None].double()
        strength, offset = ((1.0, 0.3), (0.5, 0.0))[which]
        answer = 0.6 * torch.tanh(strength * x.double() @ self.mix + offset) * (1 - level / 2)
        return answer.to(x.dtype)

    def denoise(self, x: Tensor, sigma: Tensor, cond: None) -> Any:
        return self._prediction(0, x, sigma), self._prediction(1, x, sigma)

    def conditional(self, x: Tensor, sigma: Tensor, cond: None) -> Tensor:
        return self._prediction(0, x, sigma)


def solver_of(rows: tuple[int, ...], steps: int = 4, **settings: Any) -> DyWeight:
    guidance = {"cfg": CFG, "guided": list(rows)}
    return DyWeight(schedules.flow(steps), 3, learned_guidance=guidance, **settings)


def probed(solver: DyWeight, step: float = 1e-3):
    """numbers, vector, network, block, table, rollout and maps, with all directions asked."""
    numbers, network = Numbers(solver), Network(Pair(), 2)
    vector = numbers.read(start_of(solver))
    table = numbers.table(vector)
    noise = torch.randn(3, SIZE, generator=torch.Generator().manual_seed(0))
    block = Block(0, noise, None, noise)
    around = rollout(network, block, table.plan)
    return (
        numbers,
        vector,
        network,
        block,
        table,
        around,
        probe(network, block, table, around, Probing(step, step, 99, 1e-3, 1.0)),
    )


SOLVERS = {
    "all": solver_of((0, 1, 2, 3)),
    "some": solver_of((0, 2)),
    "late": solver_of((1, 3)),
    "query slope": solver_of((0, 2), slope="query"),
    "analytic": solver_of((1, 2), analytic_first_step=True),
}
each_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)


@each_solver
def test_the_chain_rule_through_both_tables_is_the_jacobian(solver: DyWeight) -> None:
    numbers, vector, _, block, table, around, maps = probed(solver)
    *_, found = tangents(table, around, maps, table.plan.rows)
    exact_solver, model = numbers.solver_of(vector).requires_grad_(True), Pair()

    def denoise(x: Tensor, sigma: Tensor, guided: bool) -> Any:
        return model.denoise(x, sigma, None) if guided else model.conditional(x, sigma, None)

    end = dyweight.sample(denoise, block.noise.double(), exact_solver.plan())

    def gradient(element: Tensor) -> Tensor:
        parts = torch.autograd.grad(element, exact_solver.numbers(), retain_graph=True, materialize_grads=True)
        return torch.cat([part.flatten() for part in parts])

    exact = torch.stack([gradient(element) for element in end.flatten()]).reshape(*end.shape, -1).movedim(-1, 1)
    assert float((found - exact).norm() / exact.norm()) < 1e-2
    weights = exact[:, -solver.guidance_weights.numel() :]
    assert float((found[:, -weights.shape[1] :] - weights).norm() / weights.norm()) < 1e-2


@each_solver
def test_maps_are_right_about_what_they_were_taught(solver: DyWeight) -> None:
    numbers, vector, network, block, _, around, maps = probed(solver)
    away = numbers.plan(vector + 0.02 * torch.randn(len(vector), generator=torch.Generator().manual_seed(2)))
    there = rollout(network, block, away)
    wrong = float((imagined(away, around, maps).x[-1] - there.x[-1]).norm())
    maps.learn(around, there, SIZE, int(away.analytic_first_step))
    assert float((imagined(away, around, maps).x[-1] - there.x[-1]).norm()) < 1e-3 * wrong + 1e-5


@each_solver
def test_evaluations_are_counted_as_the_network_makes_them(solver: DyWeight) -> None:
    _, _, network, block, table, _, _ = probed(solver)
    model = network.checkpoint.made
    before, made = network.total, sum(model.asked)
    rollout(network, block, table.plan)
    assert network.total - before == sum(model.asked) - made == 3 * solver.evaluations
    before, made = network.total, sum(model.asked)
    probe(network, block, table, rollout(network, block, table.plan), Probing(0.01, 0.01, 3, 1e-3, 1.0))
    counted = network.total - before - 3 * solver.evaluations
    assert network.total - before == sum(model.asked) - made
    assert counted <= 3 * table.probe_calls(3, 1, 1)


def fits_of(model: Any, steps: int, **given: Any) -> FittingSet:
    options = DistillOptions(ckpt="pair", steps=(steps,), out=OUT, keep_targets=False, **given)
    fits = FittingSet(options, Network(model, options.per_call), ALONE, None)
    fits.begin()
    return fits


def fitted(model: Any, steps: int = 3, **options: Any) -> Fitting:
    fits = fits_of(model, steps, **{"learn_guidance": True, "effort": "draft", **options})
    for fitting in fits.unfinished():
        for _ in fitting.run():
            pass
        fitting.judge()
    return fits.fittings[0]


@pytest.mark.slow
def test_fewer_unconditional_calls_end_below_constant_guidance_at_as_many_evaluations() -> None:
    constant = fitted(Pair(), 3, learn_guidance=False).fitted
    model = Pair()
    fitting = fitted(model, 4, unconditional_calls=2, calls=8000)
    assert isinstance(fitting.solver, DyWeight) and len(fitting.solver.guided) == 2
    assert fitting.solver.evaluations == 2 * 3
    assert fitting.network.total == sum(model.asked) <= 8000
    assert fitting.fitted < 0.6 * constant and fitting.fitted < fitting.before


@pytest.mark.slow
def test_a_row_whose_two_predictions_agree_is_not_guided() -> None:
    """Below the middle the second prediction is the first: asking for it there brings nothing."""
    model = Pair()
    answer: Callable[..., Tensor] = model._prediction

    def agreeing(which: int, x: Tensor, sigma: Tensor) -> Tensor:
        return answer(which if float(sigma[0]) > 0.5 else 0, x, sigma)

    model._prediction = agreeing  # type: ignore[method-assign]
    fitting = fitted(model, 4, unconditional_calls=2, calls=10_000)
    assert max(fitting.solver.guided) <= 2 and 0 in fitting.solver.guided


@pytest.mark.slow
def test_choices_are_tried_without_maps_of_their_own() -> None:
    """While they are, the state stays that before them, and a line costs one rollout of the pairs or nothing."""
    fitting = fits_of(Pair(), 4, learn_guidance=True, unconditional_calls=2, calls=8000).current
    spent, before, whole = list[float](), 0, fitting.fit.expected_calls()
    for told, line in enumerate(fitting.run(), 1):
        if len(fitting.fit.state()["told"]) < told:
            spent.append((line.network_calls - before) / fitting.pairs.training_pairs)
            assert fitting.fit.spent + fitting.fit.expected_calls() == whole
        before = line.network_calls
    assert len(spent) > 4 and set(spent) <= {0, 6}


def test_choices_are_tried_on_the_pairs_that_are_there() -> None:
    """Also where the budget would hold more of them at once."""
    fitting = fitted(Pair(), 3, unconditional_calls=2, calls=24_000, pairs=4, iterations=3)
    assert len(fitting.solver.guided) == 2


def test_the_first_part_begins_as_initial_says() -> None:
    """That of `auto` is not the untrained solver."""

    def begun(initial: str) -> Tensor:
        fits = fits_of(Pair(), 3, learn_guidance=True, effort="draft", initial=initial)
        return fits.current.fit.current().weights

    assert torch.equal(begun("euler"), DyWeight(schedules.flow(3), 3, initial="euler").weights)
    assert not torch.equal(begun("auto"), DyWeight(schedules.flow(3), 3).weights)


def test_the_handcrafted_solver_makes_as_many_evaluations() -> None:
    """As the fit with its guided steps, known before it; it takes the fit's place only with as many steps."""
    given = {"learn_guidance": True, "unconditional_calls": 1, "calls": 4000}
    fitting = fits_of(Pair(), 3, **given).current
    assert {plan.network_calls for plan in fitting._rivals.values()} == {2}
    for _ in fitting.run():
        pass
    fitting.handcrafted = "ipndm:2", [1e-9] * fitting.pairs.test_pairs
    told = fitting.judge()
    assert fitting.kept == "fitted" and fitting.solver.steps == 3
    assert "as that takes 2 steps, the file holds the fitted one all the same" in told[0]


def test_the_parts_begin_where_the_one_before_ended() -> None:
    plain = DyWeight(schedules.flow(4), 3)
    with torch.no_grad():
        plain.weights *= 0.97
    full = solver_of((0, 1, 2, 3)).guiding((0, 1, 2, 3))
    with torch.no_grad():
        full.weights.copy_(plain.weights)
    full.tie_guidance()
    model, noise = Pair(), torch.randn(2, SIZE, dtype=torch.float64)

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        conditional, unconditional = model.denoise(x, sigma, None)
        return unconditional + CFG * (conditional - unconditional)

    def denoise(x: Tensor, sigma: Tensor, both: bool) -> Any:
        return model.denoise(x, sigma, None) if both else model.conditional(x, sigma, None)

    ends = [dyweight.sample(guided, noise, one.plan().detach()) for one in (plain, full.guiding(()))]
    ends.append(dyweight.sample(denoise, noise, full.plan().detach()))
    assert torch.equal(ends[0], ends[1]) and torch.allclose(ends[0], ends[2], atol=1e-12)


@pytest.mark.slow
def test_an_interrupted_fit_goes_on_to_the_same_solver() -> None:
    """Wherever it is, also while finalists are tried."""

    def begun() -> Fitting:
        return fits_of(Pair(), 3, unconditional_calls=1, calls=4000, learn_guidance=True).current

    whole = begun()
    states = [copy.deepcopy(whole.fit.state()) for _ in whole.run()]
    assert len(states) > 8
    for state in states[::3]:
        later = begun()
        later.fit.restore(state)
        for _ in later.run():
            pass
        assert later.solver.guided == whole.solver.guided
        assert [line.training_error for line in later.fit.history] == [
            line.training_error for line in whole.fit.history
        ]
        for name, value in whole.solver.state_dict().items():
            torch.testing.assert_close(later.solver.state_dict()[name], value, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_adam_learns_it_too_and_counts_evaluations() -> None:
    model = Pair()
    pairs: dict[str, Any] = {"pairs": 256, "validation_pairs": 32, "report_pairs": 32}
    fitting = fitted(model, 3, method="adam", effort="normal", **pairs)
    assert fitting.fitted < fitting.before
    assert fitting.network.backward > 0 and fitting.solver.guided == (0, 1, 2)
    moved = fitting.solver.guidance_weights - copy.deepcopy(fitting.solver).tie_guidance().guidance_weights
    assert float(moved.detach().abs().max()) > 1e-3


def test_a_checkpoint_without_both_predictions_is_told_what_to_do() -> None:
    class Lumped(Pair):
        def denoise(self, x: Tensor, sigma: Tensor, cond: None) -> Any:
            return super().denoise(x, sigma, cond)[0] * 1.0

        conditional = None  # type: ignore[assignment]

    with pytest.raises(CheckpointError, match=r"let denoise return the pair \(conditional, unconditional\)"):
        fitted(Lumped())

    class Unguided(Pair):
        cfg = 1.0

    with pytest.raises(TrainerError, match="is sampled without classifier-free guidance; give a --cfg"):
        fitted(Unguided())

    class Nameless(Pair):
        cfg = None  # type: ignore[assignment]

    with pytest.raises(CheckpointError, match="denoise gave a pair: set its cfg"):
        fitted(Nameless(), learn_guidance=False)
