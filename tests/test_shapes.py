"""The checker of shapes itself: what it reads in a docstring, and what it lets pass."""

import pytest
import torch
from torch import Tensor

import dyweight
from tests.shapes import ShapeError, checked, told_by
from trainer.checkpoints.builtin import digits
from trainer.compare import endpoint_error
from trainer.run.cluster import Cluster


def moved(x: Tensor, sigmas: Tensor, steps: int = 2, more: Tensor | None = None) -> Tensor:
    """x: [B, *shape]. sigmas: [steps + 1] or [B, steps + 1]. more: [n, n]. Returns what n [n + n] is not, [B]."""
    return sigmas.new_zeros(len(x) if more is None else len(more))


def test_shapes_are_read_by_the_names_of_parameters() -> None:
    told = {"x": "[B, *shape]", "sigmas": "[steps + 1] or [B, steps + 1]", "more": "[n, n]"}
    assert told_by(moved) == {**told, "the result": "[n + n]"}
    assert told_by(moved, "labels [B] -> [B, classes]: one-hot") == {"the result": "[B]"}


@pytest.mark.parametrize(
    ("x", "sigmas", "said"),
    [
        ((2, 3), (4,), r"sigmas is \[steps \+ 1\] or \[B, steps \+ 1\], got \[4\]; x \[2, 3\]"),
        ((2, 3), (3, 3), r"sigmas is .*, got \[3, 3\]; x \[2, 3\]"),
        ((), (3,), r"x is \[B, \*shape\], got \[\]"),
    ],
)
def test_another_shape_is_an_error_that_names_both(x: tuple[int, ...], sigmas: tuple[int, ...], said: str) -> None:
    function = checked(moved, "x: [B, *shape]. sigmas: [steps + 1] or [B, steps + 1].")
    with pytest.raises(ShapeError, match=f"moved: {said}"):
        function(torch.zeros(x), torch.zeros(sigmas), more=torch.zeros(1))


def test_sizes_of_one_name_agree_and_numbers_count() -> None:
    function = checked(moved, "x: [B, *shape]. sigmas: [steps + 1] or [B, steps + 1]. Returns [B]")
    for _ in range(2):
        assert function(torch.zeros(2, 3), torch.zeros(2, 3)).shape == (2,)
        assert function(torch.zeros(2), torch.zeros(5), 4).shape == (2,)
        with pytest.raises(ShapeError, match=r"the result is \[B\], got \[3\]"):
            function(torch.zeros(2, 3), torch.zeros(3), more=torch.zeros(3, 3))


def test_what_a_function_refuses_it_refuses_in_its_own_words() -> None:
    plan = dyweight.baselines.plan("euler", dyweight.schedules.flow(3))
    with pytest.raises(ValueError, match="the noise has shape"):
        dyweight.sample(lambda x, sigma: x, torch.zeros(()), plan)


def test_both_packages_are_checked_by_their_own_docstrings() -> None:
    of_dyweight = (dyweight.sample, dyweight.baselines.plan, dyweight.DyWeight.plan, dyweight.Plan.__init__)
    for function in (*of_dyweight, digits.Digits.denoise, endpoint_error.endpoint, Cluster.sum):
        assert hasattr(function, "__wrapped__"), f"{function} is not checked"
    with pytest.raises(ShapeError, match=r"VelocityNetwork.forward: sigma is \[B\], got \[1\]; x \[2, 1, 8, 8\]"):
        digits.checkpoint().denoise(torch.zeros(2, 1, 8, 8), torch.ones(1), torch.zeros(2).long())
    with pytest.raises(ShapeError, match=r"Call.__init__: x is \[B, \*shape\], got \[\]"):
        dyweight.Call(0, *[torch.zeros(())] * 4)
