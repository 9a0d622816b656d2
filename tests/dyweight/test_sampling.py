"""Laws of the sampling loop."""

import weakref
from typing import ClassVar

import pytest
import torch
from torch import nn

from dyweight import Call, Plan, baselines, sample
from dyweight.sampling import ask, run, start, update

ROWS = 4


def table(batch: int | None = None, width: int = ROWS, **options) -> Plan:
    """A plan of random numbers: the laws hold for every table."""
    lead = () if batch is None else (batch,)
    gains = 0.3 * torch.randn(*lead, ROWS, ROWS, dtype=torch.float64)
    return Plan(
        sigmas=torch.linspace(4, 0, ROWS + 1, dtype=torch.float64).expand(*lead, ROWS + 1),
        query_sigmas=0.5 + 3 * torch.rand(*lead, ROWS, dtype=torch.float64),
        gains=torch.triu(torch.tril(gains), 1 - width),
        **options,
    )


def by_hand(denoise, x, plan):
    """The table's definition, with every residual kept; plan without a batch axis."""
    residuals = []
    for i in range(plan.rows):
        if i == 0 and plan.analytic_first_step:
            sigma = plan.sigmas[0]
            residuals.append(sigma * x / (1 + sigma**2) ** 0.5)
        else:
            residuals.append(x - denoise(x, plan.query_sigmas[i].expand(len(x))))
        x = x + sum(plan.gains[i, j] * residuals[j] for j in range(i + 1))
    return x


@pytest.mark.parametrize("analytic", [False, True])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_the_loop_is_the_definition_of_the_table(width, analytic, denoise, assert_same):
    plan = table(width=width, analytic_first_step=analytic)
    noise = torch.randn(3, 5, dtype=torch.float64)
    assert_same(sample(denoise, noise, plan), by_hand(denoise, noise, plan))


@pytest.mark.parametrize("plan", [table(), table(batch=3)], ids=["shared", "batched"])
def test_a_perfect_denoiser_leaves_x_where_it_is(plan):
    noise = torch.randn(3, 5)
    assert torch.equal(sample(lambda x, sigma: x, noise, plan), noise)


@pytest.mark.parametrize("shape", [(3, 2), (3,), (3, 4, 8, 8), (3, 16, 2, 4, 4), (3, 1, 37)])
@pytest.mark.parametrize("batch", [None, 3])
def test_any_shape_is_the_flat_one(shape, batch, denoise, assert_same):
    plan, noise = table(batch), torch.randn(shape, dtype=torch.float64)
    flat = sample(denoise, noise.reshape(3, -1), plan)
    assert_same(sample(denoise, noise, plan), flat.reshape(shape))


@pytest.mark.parametrize("analytic", [False, True])
@pytest.mark.parametrize("batch", [None, 3])
def test_a_batch_is_its_members_one_by_one(batch, analytic, denoise, assert_same):
    plan, noise = table(batch, analytic_first_step=analytic), torch.randn(3, 2, 5, dtype=torch.float64)
    together = sample(denoise, noise, plan)
    for i in range(3):
        alone = plan if batch is None else Plan(plan.sigmas[i], plan.query_sigmas[i], plan.gains[i], analytic)
        assert_same(together[i : i + 1], sample(denoise, noise[i : i + 1], alone))


def test_a_plan_for_another_batch_is_refused(denoise):
    with pytest.raises(ValueError, match=r"rows for 2 samples, the noise has shape \[3, 5\]"):
        sample(denoise, torch.randn(3, 5), table(batch=2))
    with pytest.raises(ValueError, match=r"shape \[\]"):
        sample(denoise, torch.randn(()), table())


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize(
    ("dtype", "state"),
    [(torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float32,) * 2, (torch.float64,) * 2],
)
def test_dtypes(dtype, state, batch):
    """The network sees the noise's dtype, and sigma finely enough; between the calls nothing is rounded to half."""
    seen, calls = [], []
    noise = torch.randn(3, 5, dtype=dtype)

    def denoise(x, sigma):
        seen.append((x.dtype, sigma.dtype, tuple(sigma.shape)))
        return x / 3

    end = sample(denoise, noise, table(batch), calls.append)
    assert seen == [(dtype, state, (3,))] * ROWS
    assert [call.x.dtype for call in calls] == [state] * ROWS
    assert end.dtype == dtype and end.shape == noise.shape


def test_half_precision_noise_is_only_rounded_at_the_network(denoise):
    plan, noise = table(), torch.randn(3, 5).half()
    rounded = sample(lambda x, sigma: denoise(x.half().float(), sigma), noise.float(), plan)
    found = sample(lambda x, sigma: denoise(x.float(), sigma), noise, plan)
    assert torch.equal(found, rounded.half())


def test_the_noise_is_left_alone(denoise):
    noise = torch.randn(3, 5)
    before = noise.clone()
    sample(denoise, noise, table())
    assert torch.equal(noise, before)


@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("analytic", [False, True])
def test_gradients_reach_noise_network_and_table(batch, analytic, denoise):
    plan = table(batch, analytic_first_step=analytic)

    def end(noise, scale, sigmas, query_sigmas, gains):
        made = Plan(sigmas, query_sigmas, torch.tril(gains), analytic)
        return sample(lambda x, sigma: denoise(scale * x, sigma), noise, made)

    inputs = (torch.randn(2, 3, dtype=torch.float64), torch.tensor(0.9, dtype=torch.float64), plan.sigmas.clone())
    inputs += (plan.query_sigmas, plan.gains)
    assert torch.autograd.gradcheck(end, [value.detach().clone().requires_grad_() for value in inputs])


def test_gradients_reach_a_module(denoise):
    network = nn.Linear(5, 5)
    sample(lambda x, sigma: network(x), torch.randn(3, 5), table()).square().sum().backward()
    assert all(bool(parameter.grad.abs().sum() > 0) for parameter in network.parameters())


def test_without_gradients_asked_for_there_is_no_graph(denoise):
    assert sample(denoise, torch.randn(3, 5), table()).grad_fn is None


@pytest.mark.parametrize("analytic", [False, True])
@pytest.mark.parametrize("batch", [None, 3])
def test_the_callback_is_told_of_each_network_call(batch, analytic, denoise):
    plan, noise = table(batch, analytic_first_step=analytic), torch.randn(3, 5, dtype=torch.float64)
    asked: list[tuple[torch.Tensor, ...]] = []
    calls: list[Call] = []

    def watched(x, sigma):
        assert len(calls) == len(asked)
        asked.append((x, sigma, denoise(x, sigma)))
        return asked[-1][2]

    sample(watched, noise, plan, calls.append)
    assert len(asked) == len(calls) == plan.network_calls
    assert [call.step for call in calls] == list(range(int(analytic), ROWS))
    for call, (x, sigma, denoised) in zip(calls, asked, strict=True):
        assert torch.equal(call.x, x) and torch.equal(call.denoised, denoised)
        assert torch.equal(call.state_sigma, plan.sigmas[..., call.step])
        assert torch.equal(call.query_sigma.expand(3), sigma)
        assert call.state_sigma.dtype == call.query_sigma.dtype == torch.float64


def test_the_callback_changes_nothing(denoise):
    plan, noise = table(), torch.randn(3, 5)
    assert torch.equal(sample(denoise, noise, plan, lambda call: None), sample(denoise, noise, plan))


class Watched(torch.Tensor):
    """A network output; what is computed from it is a plain tensor, weakly referenced in `made`."""

    made: ClassVar[list[weakref.ref]] = []

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        result = super().__torch_function__(function, types, args, kwargs or {})
        if isinstance(result, torch.Tensor):
            result = result.as_subclass(torch.Tensor)
            cls.made.append(weakref.ref(result))
        return result


@pytest.mark.parametrize("history", [1, 2, 3, 4])
def test_no_more_residuals_live_than_the_history(history):
    """Counted where it matters, while the network runs: its own residual is still to come."""
    alive = []

    def denoise(x, sigma):
        alive.append(sum(ref() is not None for ref in Watched.made))
        return (x / 3).as_subclass(Watched)

    Watched.made.clear()
    sample(denoise, torch.randn(3, 5), table(width=history))
    assert alive == [min(i, history - 1) for i in range(ROWS)]


def test_a_state_keeps_only_what_later_rows_use(denoise):
    plan, noise = table(width=2), torch.randn(3, 5)
    state = start(noise, plan)
    for i in range(plan.rows):
        state = update(ask(denoise, state, plan), plan)
        assert list(state.residuals) == [i] and state.step == i + 1


@pytest.mark.parametrize("step", range(ROWS))
def test_a_kept_state_goes_on_as_the_whole_run(step, denoise):
    plan, noise = table(width=3, analytic_first_step=True), torch.randn(3, 5)
    state = start(noise, plan)
    for _ in range(step):
        state = update(ask(denoise, state, plan), plan)
    for _ in range(2):
        assert torch.equal(run(denoise, state, plan).x, sample(denoise, noise, plan))


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("where", ["denoise", "callback"])
def test_exceptions_pass_through(where, denoise):
    def interrupt(*_):
        raise StoppedError

    with pytest.raises(StoppedError):
        if where == "denoise":
            sample(interrupt, torch.randn(3, 5), table())
        else:
            sample(denoise, torch.randn(3, 5), table(), interrupt)


def test_inference_mode(denoise):
    plan = baselines.plan("dpmpp_2m", torch.tensor([4.0, 2.0, 1.0, 0.0]))
    noise = torch.randn(3, 5)
    with torch.inference_mode():
        found = sample(denoise, noise, plan)
    assert torch.equal(found, sample(denoise, noise, plan))
