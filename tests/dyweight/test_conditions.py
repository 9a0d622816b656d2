"""What a solver is told of a condition."""

import torch

from dyweight import conditions


def test_a_class_is_one_hot_over_the_root_of_the_classes():
    rows = conditions.of_class(torch.tensor([2, 0]), 4)
    assert torch.equal(rows, torch.tensor([[0, 0, 0.5, 0], [0.5, 0, 0, 0]]))


def test_a_text_is_its_mean_token_beside_its_pooled_vector_each_of_length_one():
    tokens, pooled = torch.randn(2, 7, 5) * 40, torch.randn(2, 3) * 0.01
    found = conditions.of_text(tokens, pooled)
    assert found.shape == (2, 8)
    mean = tokens.mean(1)
    torch.testing.assert_close(found[:, :5], mean / mean.norm(dim=1, keepdim=True))
    torch.testing.assert_close(found[:, 5:], pooled / pooled.norm(dim=1, keepdim=True))
    torch.testing.assert_close(conditions.of_text(tokens, None), found[:, :5])


def test_an_empty_text_is_zero_and_not_a_division_by_it():
    assert torch.equal(conditions.of_text(torch.zeros(1, 4, 5), torch.zeros(1, 3)), torch.zeros(1, 8))
