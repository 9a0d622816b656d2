"""A sketch of a model's answers: near for rounding, far for another model, of the answers' own size."""

import json
import math

import pytest
import torch

from dyweight.sketch import NUMBERS, OTHER, SAME, distance, nearest, sketch


def answers(seed: int, elements: int = 4096) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 16, elements // 16, generator=generator) for _ in range(3)]


def test_the_same_answers_have_one_sketch_that_a_file_can_hold():
    found = sketch(answers(0))
    assert len(found) == 3 * NUMBERS and json.loads(json.dumps(found)) == found == sketch(answers(0))
    assert distance(found, found) == 0


@pytest.mark.parametrize("change", [1e-3, 0.05, 0.5])
def test_the_distance_is_about_that_of_the_answers(change):
    before, noise = answers(0), answers(1)
    after = [answer + change * other for answer, other in zip(before, noise, strict=True)]
    assert distance(sketch(before), sketch(after)) == pytest.approx(change, rel=0.35)


def test_another_model_is_far_and_rounding_to_16_bits_is_near():
    before = answers(0)
    assert distance(sketch(before), sketch(answers(1))) > OTHER
    assert distance(sketch(before), sketch([answer.bfloat16() for answer in before])) < SAME


@pytest.mark.parametrize("other", [[], [1.0], [math.nan] * 48, [0.0] * 48])
def test_what_is_no_sketch_is_far_from_all(other):
    one = [0.0] * 48 if other == [0.0] * 48 else sketch(answers(0))
    assert distance(one, other) > OTHER


def test_each_of_two_networks_is_near_a_sketch_of_both():
    both = sketch([*answers(0), *answers(1)])
    assert [nearest(both, sketch(answers(seed))) for seed in (0, 1)] == [0, 0]
    assert nearest(both, sketch(answers(2))) > OTHER
    assert nearest(both, [1.0] * 5) == nearest(both, []) == math.inf
