"""Learned guidance in the core: the second table of a plan, and the weights of a DyWeight that make it."""

import weakref

import pytest
import torch
from torch import Tensor

from dyweight import DyWeight, InstanceDyWeight, Plan, SolverSet, sample
from dyweight.between import between
from dyweight.placement import place, without_time_scaling

CFG, STEPS = 3.0, 6


def conditional(x: Tensor, sigma: Tensor) -> Tensor:
    level = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1))
    return torch.tanh(1.3 * x) / (1 + 0.7 * level) + 0.2 * torch.sin(x / (1 + level))


def unconditional(x: Tensor, sigma: Tensor) -> Tensor:
    level = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1))
    return 0.4 * torch.sin(x) / (1 + level)


def both(x: Tensor, sigma: Tensor, guided: bool):
    return (conditional(x, sigma), unconditional(x, sigma)) if guided else conditional(x, sigma)


def constant(x: Tensor, sigma: Tensor) -> Tensor:
    c, u = conditional(x, sigma), unconditional(x, sigma)
    return u + CFG * (c - u)


def trained(sigmas: Tensor, guided=range(STEPS), tied=False, **settings) -> DyWeight:
    """Weights a little off, as learned ones; without guided rows, guidance is left to the network."""
    own = {"learned_guidance": {"cfg": CFG, "guided": list(guided)}} if guided else {}
    solver, generator = DyWeight(sigmas, **{"order": 3, **settings, **own}), torch.Generator().manual_seed(1)
    first = int(solver.analytic_first_step)

    def noise(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    with torch.no_grad():
        solver.weights *= 1 - 0.05 * noise(STEPS, solver.order).abs()
        solver.time_scale[first:] *= 1 - 0.03 * noise(STEPS - first).abs()
        if guided:
            solver.tie_guidance()
            if not tied:
                solver.guidance_weights += 0.3 * noise(STEPS, solver.order) * (solver.guidance_weights != 0)
    return solver


@pytest.mark.parametrize("analytic", [False, True])
@pytest.mark.parametrize("slope", ["state", "query"])
@pytest.mark.parametrize("order", [1, 3, 6])
def test_tied_and_guided_in_every_row_it_is_constant_guidance(order, slope, analytic, sigmas, noise, assert_same):
    options = {"order": order, "slope": slope, "analytic_first_step": analytic}
    guided = trained(sigmas, range(int(analytic), STEPS), tied=True, **options)
    plain = trained(sigmas, (), **options)
    assert_same(sample(both, noise, guided.plan().detach()), sample(constant, noise, plain.plan().detach()), 1e-12)
    assert guided.evaluations == guided.plan().evaluations == 2 * plain.network_calls == 2 * plain.evaluations


def test_it_moves_no_time(sigmas):
    """The first table is the one without it, to the bit: weights of the guidance shift and scale nothing."""
    plain, guided = trained(sigmas, ()).plan(), trained(sigmas, [0, 3]).plan()
    for name in ("sigmas", "query_sigmas", "gains"):
        assert torch.equal(getattr(plain, name), getattr(guided, name))


@pytest.mark.parametrize("guided", [[0], [0, 2], [1, 3, 4], [5], list(range(STEPS))])
@pytest.mark.parametrize("order", [1, 3])
def test_the_loop_is_the_recursion(guided, order, sigmas, noise, assert_same):
    """Newest guided rows first, at most `order` of them; a row asks for the second prediction where it is guided."""
    solver, asked = trained(sigmas, guided, order=order), []
    weights, guidance, scale = (w.tolist() for w in (solver.weights, solver.guidance_weights, solver.time_scale))
    x, t, slopes, directions = noise, float(sigmas[0]), [], []
    for n in range(STEPS):
        q, h = scale[n] * t, float(sigmas[n + 1]) - t
        level = torch.tensor(q, dtype=torch.float64)
        slopes = [(x - conditional(x, level)) / t, *slopes][:order]
        if n in guided:
            directions = [(conditional(x, level) - unconditional(x, level)) / t, *directions][:order]
        x = x + h * sum(w * g for w, g in zip(weights[n], slopes, strict=False))
        x = x - h * (CFG - 1) * sum(v * e for v, e in zip(guidance[n], directions, strict=False))
        t = t + h * sum(weights[n][: len(slopes)])

    def watched(x, sigma, wanted):
        asked.append(wanted)
        return both(x, sigma, wanted)

    plan = solver.plan().detach()
    assert_same(sample(watched, noise, plan), x)
    assert asked == [n in guided for n in range(STEPS)]
    assert plan.evaluations == STEPS + len(guided)


def test_the_callback_is_told_of_the_newest_direction(sigmas, noise):
    calls = []
    sample(both, noise, trained(sigmas, [1, 3]).plan().detach(), calls.append)
    first = [next(c.step for c in calls if c.direction is call.direction) for call in calls]
    assert first == [0, 1, 1, 3, 3, 3] and calls[0].direction is None
    assert torch.equal(calls[1].denoised, conditional(calls[1].x, calls[1].query_sigma.expand(3)))


class Watched(torch.Tensor):
    """A prediction; what is computed of two is weakly referenced in `made`."""

    made: list = []  # noqa: RUF012

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        result = super().__torch_function__(function, types, args, kwargs or {})
        if function in (torch.Tensor.sub, torch.Tensor.__sub__) and all(type(a) is cls for a in args):
            result = result.as_subclass(torch.Tensor)
            cls.made.append(weakref.ref(result))
        return result


def test_no_direction_outlives_its_last_use(sigmas, noise):
    plan, alive = trained(sigmas, [0, 2, 4], order=1).plan().detach(), []
    assert plan.last_use == {0: 1, 2: 3, 4: 5}

    def denoise(x, sigma, guided):
        alive.append(sum(ref() is not None for ref in Watched.made))
        found = tuple(one.as_subclass(Watched) for one in (conditional(x, sigma), unconditional(x, sigma)))
        return found if guided else found[0].as_subclass(torch.Tensor)

    Watched.made.clear()
    sample(denoise, noise, plan)
    assert alive == [0, 1, 0, 1, 0, 1]


def test_gradients_reach_the_second_table(noise):
    plan = trained(torch.linspace(4, 0, STEPS + 1, dtype=torch.float64), [0, 2]).plan().detach()

    def end(gains, guidance):
        columns = torch.zeros(STEPS, STEPS, dtype=torch.float64)
        columns[:, [0, 2]] = 1
        made = Plan(plan.sigmas, plan.query_sigmas, gains.tril(), guidance=guidance.tril() * columns, guided=(0, 2))
        return sample(both, noise[:1], made)

    assert torch.autograd.gradcheck(end, [plan.gains.clone().requires_grad_(), plan.guidance.clone().requires_grad_()])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"guided": ()}, "in order, with guidance"),
        ({"guidance": None}, "in order, with guidance"),
        ({"guided": (2, 0)}, "in order, with guidance"),
        ({"guided": (0, 9)}, "in order, with guidance"),
        ({"guided": (0, 2), "analytic_first_step": True}, "rows from 1 to 5"),
        ({"guided": (0,)}, "without a prediction"),
        ({"guidance": torch.ones(STEPS, STEPS).triu()}, "without a prediction"),
        ({"guidance": torch.ones(STEPS - 1, STEPS)}, "guidance has shape"),
        ({"guidance": torch.full((STEPS, STEPS), torch.nan)}, "guidance has a value that is not finite"),
    ],
)
def test_plans_that_are_refused(changes, complaint, sigmas):
    plan = trained(sigmas, [0, 2]).plan().detach()
    given = {**vars(plan), **changes}
    names = ("sigmas", "query_sigmas", "gains", "analytic_first_step", "guidance", "guided")
    with pytest.raises(ValueError, match=complaint):
        Plan(**{name: given[name] for name in names})


@pytest.mark.parametrize("slope", ["state", "query"])
def test_set_table_is_the_inverse_of_plan(slope, assert_same):
    sigmas = torch.tensor([5.0, 3.0, 1.8, 0.9, 0.5, 0.3, 0.1], dtype=torch.float64)
    solver = trained(sigmas, [0, 1, 4], slope=slope)
    guidance = {"cfg": CFG, "guided": [0, 1, 4]}
    found = DyWeight(sigmas, 3, slope, learned_guidance=guidance).set_table(solver.plan())
    assert_same(found.guidance_weights.detach(), solver.guidance_weights.detach(), 1e-10)
    with pytest.raises(ValueError, match=r"guided rows \(0, 1, 4\), this solver \(\)"):
        DyWeight(sigmas, 3, slope).set_table(solver.plan())


def test_fewer_rows_are_served_by_the_newest_before_them(sigmas):
    full = trained(sigmas, order=3)
    few = DyWeight(sigmas, 3, learned_guidance={"cfg": CFG, "guided": [0, 3]})
    few.tie_guidance(full)
    full_weights, weights = full.guidance_weights.detach(), few.guidance_weights.detach()
    torch.testing.assert_close(weights.sum(1), full_weights.sum(1))
    torch.testing.assert_close(weights[4, 0], full_weights[4, :2].sum())  # rows 4 and 3 by row 3
    torch.testing.assert_close(weights[4, 1], full_weights[4, 2])  # row 2 by row 0
    torch.testing.assert_close(weights[2, 0], full_weights[2].sum())


def test_a_handover_begins_the_directions_anew():
    sigmas = torch.linspace(1, 0, STEPS + 1, dtype=torch.float64)
    solver = trained(sigmas, range(STEPS), schedule={"boundary": 0.5})
    guidance = solver.plan().guidance
    assert solver.handover == 4 and not guidance[4:, :4].any() and guidance[4:, 4:].any()


def test_at_another_cfg_the_second_table_scales(sigmas, noise, assert_same):
    plan = trained(sigmas, tied=True).plan().detach()
    weaker = plan.with_guidance_times((2.0 - 1) / (CFG - 1))

    def at_2(x, sigma):
        c, u = conditional(x, sigma), unconditional(x, sigma)
        return u + 2 * (c - u)

    assert_same(sample(both, noise, weaker), sample(at_2, noise, plan.without_guidance()), 1e-12)


FLOW = torch.linspace(1, 0, STEPS + 1, dtype=torch.float64)


def mild(guided=range(STEPS), **settings) -> DyWeight:
    return trained(FLOW, guided, tied=True, **settings).requires_grad_(False)


OTHERS = {"near": FLOW * 1.02, "other": FLOW.pow(1.3), "end": FLOW[2:], "begin": FLOW[:4]}


@pytest.mark.parametrize("sigmas", OTHERS.values(), ids=OTHERS)
def test_on_other_sigmas_tied_guidance_stays_constant_guidance(sigmas, assert_same):
    noise = float(sigmas[0]) * torch.randn(3, 5, dtype=torch.float64)
    guided, plain = place(mild(), sigmas), place(mild(()), sigmas)
    assert guided.rule == plain.rule and guided.guided_at == CFG and plain.guided_at is None
    assert_same(sample(both, noise, guided.plan), sample(constant, noise, plain.plan), 1e-12)


def test_a_part_asks_for_what_it_lacks():
    placement = place(mild([0, 1, 5]), FLOW[3:])
    assert placement.rule == "part" and placement.plan.guided == (0, 2)


@pytest.mark.parametrize("slope", ["state", "query"])
def test_without_time_scaling_it_stays_tied(slope, assert_same):
    noise = torch.randn(3, 5, dtype=torch.float64)
    solvers = [mild(slope=slope), mild((), slope=slope)]
    guided, plain = (without_time_scaling(SolverSet([one]), place(one, FLOW)).plan for one in solvers)
    assert_same(sample(both, noise, guided), sample(constant, noise, plain), 1e-12)


def test_what_can_not_have_it():
    shorter = DyWeight(torch.linspace(1, 0, 5, dtype=torch.float64))
    assert between(SolverSet([shorter, mild()]), 5) is None
    assert between(SolverSet([shorter, mild(())]), 5) is not None
    with pytest.raises(ValueError, match="learned guidance can't be corrected"):
        InstanceDyWeight(mild(), (1, 8, 8))
