"""The name of a condition's content: the same for the same, another for any other, none where that can't be told."""

import copy
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from trainer.pairs.digest import digest


class Prompt:
    def __init__(self, text: str, embedding: torch.Tensor) -> None:
        self.text, self.embedding = text, embedding


class Slotted:
    __slots__ = ("label",)

    def __init__(self, label: int) -> None:
        self.label = label


VALUES: list[Any] = [
    None,
    0,
    False,
    0.0,
    "",
    "0",
    b"0",
    [],
    (),
    {},
    ["a", "b"],
    ["ab"],
    [["a"], "b"],
    ["a", ["b"]],
    {"a": 1, "b": 2},
    {"a": 2, "b": 1},
    {"a": {"b": 1}},
    torch.zeros(0),
    torch.zeros(()),
    torch.zeros(4),
    torch.zeros(2, 2),
    torch.zeros(4, dtype=torch.float64),
    torch.zeros(4, dtype=torch.bfloat16),
    torch.zeros(4, dtype=torch.int64),
    torch.tensor([0.0, 0.0, 0.0, 1e-30]),
    np.zeros(4, dtype=np.float32),
    np.zeros(4),
    Prompt("a cat", torch.zeros(2)),
    Prompt("a dog", torch.zeros(2)),
    Prompt("a cat", torch.ones(2)),
    SimpleNamespace(text="a cat"),
]


def test_different_values_have_different_names() -> None:
    names = [digest(value) for value in VALUES]
    assert len(set(names)) == len(VALUES)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_copy_has_the_same_name(value: Any) -> None:
    assert digest(copy.deepcopy(value)) == digest(value)


def test_order_of_keys_and_of_memory_do_not_matter() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    matrix = torch.arange(6.0).reshape(2, 3)
    assert digest(matrix.T) == digest(matrix.T.contiguous()) != digest(matrix)
    assert digest(torch.arange(9.0)[3:6]) == digest(torch.tensor([3.0, 4.0, 5.0]))


def a_ring() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: 1, lambda: 2),
        (partial(pow, 2), partial(pow, 3)),
        (Slotted(1), Slotted(2)),
        (iter([1]), iter([2])),
        ({1}, {2}),
        (a_ring(), a_ring()),
        (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)),
    ],
    ids=["functions", "partials", "slots", "iterators", "sets", "rings", "generators"],
)
def test_what_cannot_be_told_apart_has_no_name(one: Any, other: Any) -> None:
    """A TypeError, or names that differ; never one name for two."""
    try:
        names = digest(one), digest(other)
    except TypeError:
        return
    assert names[0] != names[1]
