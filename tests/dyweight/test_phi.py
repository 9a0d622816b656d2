"""phi: what it reads of latents of any size, and what it leaves alone."""

import pytest
import torch

from dyweight.solvers.phi import Phi

SHAPES = [(7,), (3000,), (1, 8, 8), (16, 64, 48), (1, 5000), (16, 5, 24, 32), (4, 3, 5)]


def speaking(shape, condition_width=0, outputs=5, instance=True):
    """A phi whose last layer is not zero."""
    torch.manual_seed(0)
    phi = Phi(outputs, **Phi.settings_for(shape, condition_width, instance))
    torch.nn.init.normal_(phi.leave.weight)
    return phi


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_untrained_it_says_nothing(shape):
    phi = Phi(5, **Phi.settings_for(shape, 3, True))
    assert torch.equal(phi(torch.randn(2, *shape), torch.randn(2, 3)), torch.zeros(2, 5))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_samples_are_read_one_by_one(shape):
    phi, noise, condition = speaking(shape, 3), torch.randn(3, *shape), torch.randn(3, 3)
    phi.requires_grad_(False)
    said = phi(noise, condition)
    assert said.shape == (3, 5) and float(said.std(0).min()) > 1e-3
    alone = torch.cat([phi(noise[i : i + 1], condition[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(said, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_reads_every_element(shape):
    phi, noise = speaking(shape), torch.randn(1, *shape, requires_grad=True)
    (gradient,) = torch.autograd.grad(phi(noise, None).square().sum(), noise)
    assert bool((gradient != 0).all())


@pytest.mark.parametrize(("small", "large"), [((16, 32, 32), (16, 128, 64)), ((4, 3, 16, 16), (4, 9, 40, 24))])
def test_another_size_is_read_at_the_same_scale(small, large):
    """Averages over more places would shrink; they are scaled so that noise keeps its unit variance."""
    phi = speaking(small).requires_grad_(False)
    cells = [phi._cells(torch.randn(8, *shape)) for shape in (small, large)]
    assert cells[0].shape == cells[1].shape
    for values in cells:
        assert float(values.std()) == pytest.approx(1, abs=0.1)
    assert phi(torch.randn(2, *large), None).shape == (2, 5)


def test_what_is_missing_counts_as_zero():
    phi, zero = speaking((1, 8, 8), 3), torch.zeros(1, 1, 8, 8)
    torch.testing.assert_close(phi(None, None), phi(zero, torch.zeros(1, 3)))
    torch.testing.assert_close(phi(None, torch.ones(2, 3)), phi(zero.expand(2, -1, -1, -1), torch.ones(2, 3)))


def test_the_condition_scales_what_is_read_of_the_noise():
    """A condition with scale 0 hides the noise."""
    phi = speaking((1, 8, 8), 3).requires_grad_(False)
    phi.enter_condition.weight[phi.enter.out_features :] = torch.tensor([0.0, -1.0, 0.0])
    noise, conditions = torch.randn(2, 1, 8, 8), torch.eye(3)
    for condition, matters in zip(conditions, (True, False, True), strict=True):
        one, other = phi(noise, condition.expand(2, -1))
        assert (float((one - other).abs().max()) > 1e-3) == matters


def test_without_the_instance_noise_changes_nothing():
    phi = speaking((1, 8, 8), 3, instance=False)
    condition = torch.randn(2, 3)
    assert torch.equal(phi(torch.randn(2, 1, 8, 8), condition), phi(torch.randn(2, 1, 8, 8), condition))
    assert float((phi(None, condition)[0] - phi(None, condition)[1]).abs().max()) > 1e-3


@pytest.mark.parametrize("noise", [torch.zeros(1, 4, 8, 8), torch.zeros(1, 1, 3, 8, 8), torch.zeros(1, 64)])
def test_a_latent_of_another_kind_is_an_error(noise):
    with pytest.raises(ValueError, match="another kind of model"):
        speaking((1, 8, 8))(noise, None)


def test_a_condition_of_another_width_is_an_error():
    with pytest.raises(ValueError, match="condition has 5 numbers, this solver was made for 3"):
        speaking((1, 8, 8), 3)(torch.zeros(1, 1, 8, 8), torch.zeros(1, 5))


def test_a_latent_with_too_many_axes_is_an_error():
    with pytest.raises(ValueError, match="1 to 4 axes"):
        Phi.settings_for((1, 2, 3, 4, 5), 0, True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_shapes_are_those_of_its_tensors(shape):
    settings = Phi.settings_for(shape, 3, True)
    expected = {name: tuple(value.shape) for name, value in Phi(5, **settings).state_dict().items()}
    assert Phi.shapes(5, settings) == expected
