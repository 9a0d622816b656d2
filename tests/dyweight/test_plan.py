"""What a plan refuses, and what it infers."""

import pytest
import torch

from dyweight import Plan

ROWS = 4


def numbers(batch: int | None = None) -> dict[str, torch.Tensor]:
    lead = () if batch is None else (batch,)
    return {
        "sigmas": torch.linspace(4, 0, ROWS + 1, dtype=torch.float64).expand(*lead, ROWS + 1).clone(),
        "query_sigmas": torch.linspace(4, 1, ROWS, dtype=torch.float64).expand(*lead, ROWS).clone(),
        "gains": torch.tril(torch.full((*lead, ROWS, ROWS), -0.25, dtype=torch.float64)),
    }


def banded(width: int, batch: int | None = None) -> torch.Tensor:
    return torch.triu(numbers(batch)["gains"], 1 - width)


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_counts(batch):
    plan = Plan(**numbers(batch))
    assert (plan.rows, plan.network_calls, plan.batch) == (ROWS, ROWS, batch)
    analytic = Plan(**numbers(batch), analytic_first_step=True)
    assert (analytic.rows, analytic.network_calls) == (ROWS, ROWS - 1)


def test_tables_are_float64_and_their_values_are_kept():
    plan = Plan(**{name: value.float() for name, value in numbers().items()})
    for name, value in numbers().items():
        assert getattr(plan, name).dtype == torch.float64
        torch.testing.assert_close(getattr(plan, name), value, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("query_sigmas", torch.tensor(1.0), r"query_sigmas has shape \[\]"),
        ("query_sigmas", torch.ones(0), r"query_sigmas has shape \[0\]"),
        ("query_sigmas", torch.ones(1, 1, ROWS), r"query_sigmas has shape \[1, 1, 4\]"),
        ("query_sigmas", torch.ones(ROWS - 1), r"sigmas has shape \[5\]: 3 query sigmas need \[4\]"),
        ("query_sigmas", torch.ones(2, ROWS), r"sigmas has shape \[5\]: 4 query sigmas need \[2, 5\]"),
        ("sigmas", torch.ones(ROWS), r"sigmas has shape \[4\]: 4 query sigmas need \[5\]"),
        ("gains", torch.zeros(ROWS), r"gains has shape \[4\]: 4 query sigmas need \[4, 4\]"),
        ("gains", torch.zeros(ROWS, ROWS + 1), r"gains has shape \[4, 5\]: 4 query sigmas need \[4, 4\]"),
        ("gains", torch.zeros(2, ROWS, ROWS), r"gains has shape \[2, 4, 4\]: 4 query sigmas need \[4, 4\]"),
    ],
)
def test_shapes_that_disagree(field, value, complaint):
    with pytest.raises(ValueError, match=complaint):
        Plan(**{**numbers(), field: value})


@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("field", ["sigmas", "query_sigmas", "gains"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite(field, value, batch):
    table = numbers(batch)
    table[field][..., -1] = value
    with pytest.raises(ValueError, match=f"^{field} has a value that is not finite"):
        Plan(**table)


@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("value", [0.0, -0.5])
def test_query_sigmas_are_above_0(value, batch):
    table = numbers(batch)
    table["query_sigmas"][..., 2] = value
    with pytest.raises(ValueError, match="query_sigmas must be above 0"):
        Plan(**table)


@pytest.mark.parametrize("batch", [None, 2])
def test_gains_use_no_residual_of_the_future(batch):
    table = numbers(batch)
    table["gains"][..., 1, 2] = 1e-300
    with pytest.raises(ValueError, match="gains has a value above the diagonal"):
        Plan(**table)


@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_history_is_the_band_of_the_gains(width, batch):
    assert Plan(**{**numbers(batch), "gains": banded(width, batch)}).history == width


def test_history_is_the_widest_band_of_a_batch():
    gains = torch.stack([banded(1), banded(3)])
    assert Plan(**{**numbers(2), "gains": gains}).history == 3


def test_history_of_no_gains_is_1():
    assert Plan(**{**numbers(), "gains": torch.zeros(ROWS, ROWS)}).history == 1


def test_a_run_holds_as_many_residuals_as_it_is_told_to_keep():
    for keep, history in ((1, 2), (2, 2), (3, 3)):
        assert Plan(**{**numbers(), "gains": banded(2)}, keep=keep).history == history


def test_history_is_all_rows_where_a_zero_may_be_a_parameter():
    assert Plan(**{**numbers(), "gains": banded(1).requires_grad_()}).history == ROWS


def test_detach_keeps_the_numbers_and_drops_the_gradients():
    table = {name: value.requires_grad_() for name, value in numbers().items()}
    plan = Plan(**table, analytic_first_step=True)
    detached = plan.detach()
    for name, value in table.items():
        assert getattr(plan, name).requires_grad and not getattr(detached, name).requires_grad
        assert torch.equal(getattr(detached, name), value)
    assert detached.analytic_first_step and detached.history == ROWS
