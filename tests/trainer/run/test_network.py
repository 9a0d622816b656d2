"""The network as the trainer sees it: each call counted by sample, and stopped at the first bad value."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.run.errors import CheckpointError, NonFiniteError
from trainer.run.network import Network


def network(denoise: Callable[[Tensor, Tensor, Any], Any]) -> Network:
    return Network(SimpleNamespace(denoise=denoise, shape=(2,), schedule=None, draw=None))  # type: ignore[arg-type]


def halve(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
    return x / (1 + sigma[:, None])


def test_calls_are_counted_by_sample() -> None:
    counted = network(halve)
    denoise = counted.bound(None)
    denoise(torch.ones(3, 2), torch.ones(3))
    denoise(torch.ones(5, 2), torch.ones(5))
    assert (counted.forward, counted.backward, counted.total) == (8, 0, 8)


@pytest.mark.parametrize(("recomputed", "forward"), [(False, 3), (True, 6)])
def test_a_backward_call_counts_two_and_a_recomputed_forward_again(recomputed: bool, forward: int) -> None:
    counted, told = network(halve), []
    counted.on_calls = told.append
    x = torch.ones(3, 2, requires_grad=True)
    counted.bound(None, recomputed=recomputed)(x, torch.ones(3)).sum().backward()
    assert (counted.forward, counted.backward, counted.total) == (forward, 3, forward + 6)
    assert sum(told) == counted.total
    torch.testing.assert_close(x.grad, torch.full((3, 2), 0.5))


def test_recomputing_changes_neither_answer_nor_gradient() -> None:
    def denoise(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        return torch.tanh(x * sigma[:, None]) * cond

    found = []
    for recomputed in (False, True):
        x, sigma = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)).requires_grad_(), torch.ones(4) / 2
        sigma.requires_grad_()
        answer = network(denoise).bound(3.0, recomputed=recomputed)(x, sigma)
        found.append((answer.detach(), *torch.autograd.grad(answer.square().sum(), (x, sigma))))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_the_condition_is_handed_over_untouched() -> None:
    cond, seen = object(), []
    denoise = network(lambda x, sigma, cond: seen.append(cond) or x / 2).bound(cond)
    denoise(torch.ones(1, 2), torch.ones(1))
    assert seen[0] is cond


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("who", ["teacher", "student"])
def test_a_bad_value_names_pair_and_step(bad: float, who: str) -> None:
    calls = []

    def denoise(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        calls.append(1)
        answer = x + 1
        if len(calls) == 3:
            answer[1, 0] = bad
        return answer

    bound = network(denoise).bound(None, 16, who=who)
    bound(torch.zeros(4, 2), torch.ones(4))
    bound(torch.zeros(4, 2), torch.ones(4))
    with pytest.raises(NonFiniteError, match=rf"\bpair 17\b.*\bstep 2\b.*{who}"):
        bound(torch.zeros(4, 2), torch.ones(4))


def test_a_rollout_from_the_middle_counts_its_steps_from_there() -> None:
    bound = network(lambda x, sigma, cond: x * torch.nan).bound(None, 0, step=5)
    with pytest.raises(NonFiniteError, match=r"\bpair 0\b.*\bstep 5\b"):
        bound(torch.zeros(4, 2), torch.ones(4))


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: x[:, :1],
        lambda x: x[:1],
        lambda x: x[None],
        lambda x: x.sum(),
        lambda x: (x,),
        lambda x: {"sample": x},
        lambda x: None,
    ],
    ids=["broadcastable", "one of the batch", "an axis more", "a number", "a tuple", "a dict", "nothing"],
)
def test_an_answer_of_another_shape_is_a_clear_error(answer: Callable[[Tensor], Any]) -> None:
    with pytest.raises(CheckpointError, match=r"denoise.*\(3, 2\)"):
        network(lambda x, sigma, cond: answer(x)).bound(None)(torch.ones(3, 2), torch.ones(3))
