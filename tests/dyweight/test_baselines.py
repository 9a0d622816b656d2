"""Handcrafted solvers: each plan against its textbook loop, and the order of convergence of each."""

from itertools import pairwise

import numpy as np
import pytest
import torch

import dyweight
from dyweight import baselines

ADAMS = {1: [1.0], 2: [1.5, -0.5], 3: [23 / 12, -16 / 12, 5 / 12], 4: [55 / 24, -59 / 24, 37 / 24, -9 / 24]}
MEASURED_ORDER = {
    "euler": {1: 0.99},
    "heun": {2: 2.01},
    "dpm_solver_2": {2: 2.01},
    "ipndm": {1: 0.99, 2: 2.01, 3: 2.02, 4: 2.01},
    "ipndm_v": {1: 0.99, 2: 1.97, 3: 2.91, 4: 3.42},
    "dpmpp_2m": {2: 2.01},
    "dpmpp_3m": {3: 1.95},
    "unipc": {1: 2.00, 2: 3.01, 3: 4.01},
}
"""name -> order -> slope of log error over log steps, 64 to 256 steps from sigma 10 to 0.05, even in sigma^(1/7).

iPNDM's weights are those of equal steps, so on this grid it has order 2 at most. ipndm_v of order 4 is held back by its
low-order first steps, dpmpp_3m by its halved second derivative. UniPC's corrector adds one order.
"""
EVERY = [(name, order) for name, orders in MEASURED_ORDER.items() for order in orders]
NAMES = list(MEASURED_ORDER)


def euler(denoise, x, sigmas, order):
    for s, t in pairwise(sigmas.tolist()):
        x = x + (t - s) * (x - denoise(x, s)) / s
    return x


def heun(denoise, x, sigmas, order):
    for s, t in pairwise(sigmas.tolist()):
        d = (x - denoise(x, s)) / s
        trial = x + (t - s) * d
        x = trial if t == 0 else x + (t - s) * (d + (trial - denoise(trial, t)) / t) / 2
    return x


def dpm_solver_2(denoise, x, sigmas, order):
    """In noise prediction, as the paper writes it: alpha = 1, lambda = -log sigma, r = 1/2."""
    for s, t in pairwise(sigmas.tolist()):
        eps = (x - denoise(x, s)) / s
        if t == 0:
            x = x - s * eps
            continue
        h = np.log(s) - np.log(t)
        middle = s * np.exp(-h / 2)
        u = x - middle * np.expm1(h / 2) * eps
        x = x - t * np.expm1(h) * (u - denoise(u, middle)) / middle
    return x


def ipndm(denoise, x, sigmas, order):
    buffer = []
    for s, t in pairwise(sigmas.tolist()):
        buffer.append((x - denoise(x, s)) / s)
        weights = ADAMS[min(len(buffer), order)]
        x = x + (t - s) * sum(w * buffer[-1 - i] for i, w in enumerate(weights))
    return x


def ipndm_v(denoise, x, sigmas, order):
    """The polynomial through the newest slopes, fitted and integrated by numpy.polynomial on the scaled step."""
    buffer, sigmas = [], sigmas.tolist()
    for n, (s, t) in enumerate(pairwise(sigmas)):
        buffer.append((x - denoise(x, s)) / s)
        used = min(n + 1, order)
        u = np.array([(sigmas[n - i] - s) / (t - s) for i in range(used)])
        for i in range(used):
            basis = np.polynomial.Polynomial.fromroots(np.delete(u, i)) if used > 1 else np.polynomial.Polynomial([1.0])
            x = x + (t - s) * float(basis.integ()(1.0) / basis(u[i])) * buffer[n - i]
    return x


def dpmpp_2m(denoise, x, sigmas, order):
    old, h_old = None, None
    for s, t in pairwise(sigmas.tolist()):
        denoised = denoise(x, s)
        if t == 0:
            return denoised
        h = np.log(s) - np.log(t)
        r = None if old is None else h_old / h
        mean = denoised if old is None else (1 + 1 / (2 * r)) * denoised - 1 / (2 * r) * old
        x = t / s * x - np.expm1(-h) * mean
        old, h_old = denoised, h
    return x


def dpmpp_3m(denoise, x, sigmas, order):
    """multistep_dpm_solver_third_update of the authors' code, after one second_update."""
    outputs, steps = [], []
    for s, t in pairwise(sigmas.tolist()):
        outputs.append(denoise(x, s))
        if t == 0:
            return outputs[-1]
        h = np.log(s) - np.log(t)
        phi_1 = np.expm1(-h)
        phi_2 = phi_1 / h + 1
        phi_3 = phi_2 / h - 0.5
        x = t / s * x - phi_1 * outputs[-1]
        if len(outputs) == 2:
            x = x - 0.5 * phi_1 * (outputs[-1] - outputs[-2]) / (steps[-1] / h)
        elif len(outputs) > 2:
            r0, r1 = steps[-1] / h, steps[-2] / h
            d1_0, d1_1 = (outputs[-1] - outputs[-2]) / r0, (outputs[-2] - outputs[-3]) / r1
            x = x + phi_2 * (d1_0 + r0 / (r0 + r1) * (d1_0 - d1_1)) - phi_3 * (d1_0 - d1_1) / (r0 + r1)
        steps.append(h)
    return x


def unipc(denoise, x, sigmas, order):
    """multistep_uni_pc_bh_update of the authors' code: variant bh2, predict_x0, no corrector on the last step."""
    sigmas = sigmas.tolist()
    outputs = [denoise(x, sigmas[0])]
    for n in range(1, len(sigmas)):
        if sigmas[n] == 0:
            return outputs[-1]
        p = min(order, n)
        lambdas = -np.log(sigmas[: n + 1])
        h = lambdas[n] - lambdas[n - 1]
        rks = np.array([(lambdas[n - 1 - i] - lambdas[n - 1]) / h for i in range(1, p)] + [1.0])
        d1s = [(outputs[-1 - i] - outputs[-1]) / rks[i - 1] for i in range(1, p)]
        phi_k, factorial, b = np.expm1(-h) / -h - 1, 1, []
        for k in range(1, p + 1):
            b.append(phi_k * factorial / np.expm1(-h))
            factorial *= k + 1
            phi_k = phi_k / -h - 1 / factorial
        r, b = np.vander(rks, p, increasing=True).T, np.array(b)
        rho_p = [0.5] if p == 2 else np.linalg.solve(r[:-1, :-1], b[:-1])
        rho_c = [0.5] if p == 1 else np.linalg.solve(r, b)
        linear = sigmas[n] / sigmas[n - 1] * x - np.expm1(-h) * outputs[-1]
        x = linear - np.expm1(-h) * sum((float(w) * d for w, d in zip(rho_p, d1s, strict=True)), torch.zeros(()))
        if n < len(sigmas) - 1:
            arrived = denoise(x, sigmas[n])
            corrections = [*d1s, arrived - outputs[-1]]
            x = linear - np.expm1(-h) * sum(float(w) * d for w, d in zip(rho_c, corrections, strict=True))
            outputs.append(arrived)
    return x


TEXTBOOK = {loop.__name__: loop for loop in (euler, heun, dpm_solver_2, ipndm, ipndm_v, dpmpp_2m, dpmpp_3m, unipc)}


@pytest.mark.parametrize(("name", "order"), EVERY)
def test_the_plan_is_the_textbook_loop(name, order, sigmas, noise, denoise, assert_same):
    found = dyweight.sample(denoise, noise, baselines.plan(name, sigmas, order))
    assert_same(found, TEXTBOOK[name](denoise, noise, sigmas, order))


@pytest.mark.parametrize(("name", "order"), EVERY)
def test_order_of_convergence(name, order):
    assert convergence_order(name, order) == pytest.approx(MEASURED_ORDER[name][order], abs=0.01)


def convergence_order(name: str, order: int) -> float:
    """On N(0, 1/4) data, whose denoiser and solution are exact."""
    high, low, variance = 10.0, 0.05, 0.25
    x = torch.ones(1, 1, dtype=torch.float64)
    exact = x * ((variance + low**2) / (variance + high**2)) ** 0.5
    steps, errors = [64, 128, 256], []
    for n in steps:
        sigmas = torch.from_numpy(np.linspace(high ** (1 / 7), low ** (1 / 7), n + 1) ** 7)
        plan = baselines.plan(name, sigmas, order)
        end = dyweight.sample(lambda x, s: x * variance / (variance + s[:, None] ** 2), x, plan)
        errors.append(float((end - exact).abs()))
    return float(-np.polyfit(np.log(steps), np.log(errors), 1)[0])


def test_the_names_are_the_public_ones():
    assert set(baselines.NAMES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_without_an_order_it_is_the_highest(name, sigmas):
    default, highest = baselines.plan(name, sigmas), baselines.plan(name, sigmas, max(MEASURED_ORDER[name]))
    assert torch.equal(default.gains, highest.gains)


@pytest.mark.parametrize("name", NAMES)
def test_network_calls(name, sigmas, noise, denoise):
    """One a step; two for the two-stage solvers, but for the step that ends at 0."""
    asked = []
    plan = baselines.plan(name, sigmas)
    dyweight.sample(lambda x, s: asked.append(s) or denoise(x, s), noise, plan)
    steps = len(sigmas) - 1
    expected = 2 * steps - int(sigmas[-1] == 0) if name in ("heun", "dpm_solver_2") else steps
    assert len(asked) == plan.network_calls == expected


@pytest.mark.parametrize(("name", "order"), EVERY)
def test_a_batch_of_schedules_is_each_alone(name, order, sigmas, assert_same):
    batch = torch.stack([sigmas, sigmas**2 / sigmas[0], sigmas * 0.9])
    together = baselines.plan(name, batch, order)
    assert together.batch == 3
    for i, alone in enumerate(baselines.plan(name, row, order) for row in batch):
        assert_same(together.gains[i], alone.gains)
        assert_same(together.query_sigmas[i], alone.query_sigmas)
        assert_same(together.sigmas[i], alone.sigmas)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize(("name", "order"), EVERY)
def test_gradients_reach_the_schedule(name, order, batched, denoise):
    sigmas = torch.tensor([3.0, 1.7, 0.8, 0.3, 0.1], dtype=torch.float64)
    sigmas = (torch.stack([sigmas, sigmas**1.2]) if batched else sigmas).requires_grad_()
    x = torch.randn(2, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: dyweight.sample(denoise, x, baselines.plan(name, s, order)), sigmas)


def test_the_history_is_what_the_solver_uses(sigmas):
    """A plan that kept more would hold more latents in memory."""
    history = {(n, o): baselines.plan(n, sigmas, o).history for n, o in EVERY if not n.startswith(("dpmpp", "unipc"))}
    assert history == {
        ("euler", 1): 1,
        ("heun", 2): 2,
        ("dpm_solver_2", 2): 2,
        **{(name, order): order for name in ("ipndm", "ipndm_v") for order in (1, 2, 3, 4)},
    }


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("dpm++2m", "dpmpp_2m"),
        ("ipdnm", "ipndm"),
        ("UniPC", "unipc"),
        ("heunn", "heun"),
        ("dpm_solver2", "dpm_solver_2"),
    ],
)
def test_an_unknown_name_gives_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=f"{name.replace('+', '.')}.*did you mean .*{nearest}.*The solvers are euler"):
        baselines.plan(name, torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize(
    ("name", "order", "allowed"),
    [
        *[("ipndm", order, "1 to 4") for order in (0, 5, -1, True, 2.5, 2.0, "2")],
        ("ipndm_v", 5, "1 to 4"),
        ("unipc", 4, "1 to 3"),
        ("euler", 2, "1 only"),
        ("heun", 1, "2 only"),
        ("dpmpp_3m", 2, "3 only"),
    ],
)
def test_an_order_the_solver_has_not(name, order, allowed):
    with pytest.raises(ValueError, match=f"order {order!r} is not one of {name}'s: give {allowed}"):
        baselines.plan(name, torch.tensor([1.0, 0.5, 0.0]), order)


@pytest.mark.parametrize(
    ("sigmas", "complaint"),
    [
        ([1.0], "shape"),
        ([[[1.0, 0.0]]], "shape"),
        ([1.0, 1.0, 0.0], "decrease"),
        ([0.0, 1.0], "decrease"),
        ([1.0, 0.5, -0.1], "0 or above"),
        ([1.0, float("nan"), 0.0], "decrease"),
        ([float("inf"), 1.0], "decrease"),
        ([[1.0, 0.0], [1.0, 0.5]], "all end at 0 or all above"),
    ],
)
def test_sigmas_that_make_no_schedule(sigmas, complaint):
    with pytest.raises(ValueError, match=complaint):
        baselines.plan("euler", torch.tensor(sigmas))
