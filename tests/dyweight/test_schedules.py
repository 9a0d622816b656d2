"""Schedules against closed forms and published numbers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dyweight import schedules

EVERY = {
    "polynomial": schedules.polynomial,
    "log_snr": schedules.log_snr,
    "vp_uniform": schedules.vp_uniform,
    "vp_discrete": schedules.vp_discrete,
    "flow": schedules.flow,
    "flux": schedules.flux,
}


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 50, 999])
@pytest.mark.parametrize("name", EVERY)
def test_steps_plus_1_sigmas_that_decrease(name, steps):
    sigmas = EVERY[name](steps)
    assert sigmas.shape == (steps + 1,) and sigmas.dtype == torch.float64
    assert bool((sigmas[1:] < sigmas[:-1]).all()) and sigmas[-1] >= 0


@pytest.mark.parametrize("name", ["polynomial", "log_snr", "vp_uniform"])
def test_the_ends_are_exactly_those_asked_for(name):
    sigmas = EVERY[name](7, sigma_min=0.03, sigma_max=14.6)
    assert (sigmas[0], sigmas[-1]) == (14.6, 0.03)


@given(steps=st.integers(1, 40), rho=st.floats(0.5, 20), low=st.floats(1e-3, 1), ratio=st.floats(1.1, 1e5))
def test_polynomial_is_even_in_its_root(steps, rho, low, ratio):
    sigmas = schedules.polynomial(steps, sigma_min=low, sigma_max=low * ratio, rho=rho)
    roots = sigmas ** (1 / rho)
    torch.testing.assert_close(roots.diff(), (roots[-1] - roots[0]).expand(steps) / steps, rtol=1e-9, atol=0)
    assert bool((sigmas.diff() < 0).all())


def test_polynomial_is_edms():
    """Karras et al. 2022, equation 5, for 18 steps; there the last point is followed by 0."""
    expected = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)]
    assert schedules.polynomial(17).tolist() == pytest.approx(expected, rel=1e-12)


def test_polynomial_gives_the_numbers_published_with_dyweight():
    """FFHQ, 3 network calls after the analytic first step; float32 in the authors' file."""
    published = [79.99998474121094, 17.527830123901367, 2.515219211578369, 0.16975267231464386, 0.0019999996293336153]
    assert schedules.polynomial(4).tolist() == pytest.approx(published, rel=1e-6)


def test_rho_1_is_even():
    assert schedules.polynomial(4, 1.0, 9.0, rho=1).tolist() == pytest.approx([9, 7, 5, 3, 1])


def test_log_snr_has_one_ratio():
    sigmas = schedules.log_snr(4, sigma_min=0.01, sigma_max=100)
    assert sigmas.tolist() == pytest.approx([100, 10, 1, 0.1, 0.01])


@given(
    steps=st.integers(1, 40),
    low=st.floats(1e-4, 5),
    ratio=st.floats(1.5, 1e4),
    time_min=st.sampled_from([1e-3, 1e-2, 0.1, 0.5]),
)
def test_vp_uniform_decreases_or_says_why_not(steps, low, ratio, time_min):
    try:
        sigmas = schedules.vp_uniform(steps, sigma_min=low, sigma_max=low * ratio, time_min=time_min)
    except ValueError:
        return
    assert bool((sigmas.diff() < 0).all()), sigmas.tolist()


def test_vp_uniform_is_even_in_the_time_of_the_process():
    """log(1 + sigma^2) is the integral of beta, a parabola through 0 with the asked values at times 0.001 and 1."""
    sigmas = schedules.vp_uniform(10, sigma_min=0.002, sigma_max=80, time_min=1e-3)
    time = torch.linspace(1, 1e-3, 11, dtype=torch.float64)
    beta = torch.log1p(sigmas**2) / time
    torch.testing.assert_close(beta.diff(), (beta[-1] - beta[0]).expand(10) / 10, rtol=1e-9, atol=1e-12)


def test_vp_discrete_gives_sd_15s_published_numbers():
    """Published from float32 products, whose last differs by 1.2e-5."""
    published = [14.6146, 7.30198, 4.08608, 2.49597, 1.61558, 1.07116, 0.695151, 0.399703, 0.0291675]
    assert schedules.vp_discrete(8).tolist() == pytest.approx(published, rel=2e-5)


def test_vp_discrete_visits_the_models_own_sigmas():
    kept, sigmas = 1.0, []
    for i in range(1000):
        kept *= 1 - (0.00085**0.5 + i / 999 * (0.012**0.5 - 0.00085**0.5)) ** 2
        sigmas.append(math.sqrt((1 - kept) / kept))
    assert schedules.vp_discrete(999).tolist() == pytest.approx(sigmas[::-1], rel=1e-9)
    assert schedules.vp_discrete(9).tolist() == pytest.approx(sigmas[::-111], rel=1e-9)


@given(steps=st.integers(1, 100), shift=st.floats(0.01, 100))
def test_flow_is_the_shifted_time(steps, shift):
    sigmas = schedules.flow(steps, shift)
    time = sigmas / (shift + (1 - shift) * sigmas)
    torch.testing.assert_close(time, 1 - torch.arange(steps + 1, dtype=torch.float64) / steps, rtol=1e-9, atol=1e-12)
    assert sigmas[0].item() == pytest.approx(1, abs=1e-12) and sigmas[-1] == 0
    assert bool((sigmas.diff() < 0).all())


def test_flow_without_a_shift_is_even():
    assert schedules.flow(4).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]


@pytest.mark.parametrize(("tokens", "mu"), [(256, 0.5), (4096, 1.15), (1024, 0.63)])
def test_flux_shifts_by_the_number_of_image_tokens(tokens, mu):
    """exp(mu) / (exp(mu) + 1/t - 1), as the authors of FLUX write it."""
    expected = [math.exp(mu) / (math.exp(mu) + 1 / t - 1) for t in (1, 0.75, 0.5, 0.25)]
    assert schedules.flux(4, tokens)[:-1].tolist() == pytest.approx(expected, rel=1e-12)
    assert schedules.flux(4, tokens)[-1] == 0


def test_flux_is_made_for_512_pixels_unless_told():
    assert torch.equal(schedules.flux(4), schedules.flux(4, 512 // 16 * 512 // 16))


@pytest.mark.parametrize("steps", [0, -1, 2.0, True, None, "3"])
@pytest.mark.parametrize("name", EVERY)
def test_steps_are_a_whole_number(name, steps):
    with pytest.raises(ValueError, match=f"steps is {steps!r}"):
        EVERY[name](steps)


@pytest.mark.parametrize("name", ["polynomial", "log_snr", "vp_uniform"])
@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-1, 1), (1, 1), (2, 1), (1, math.inf), (math.nan, 1), (1, math.nan)]
)
def test_a_range_that_is_none(name, low, high):
    with pytest.raises(ValueError, match="0 < sigma_min < sigma_max"):
        EVERY[name](4, sigma_min=low, sigma_max=high)


@pytest.mark.parametrize(
    ("name", "arguments", "complaint"),
    [
        ("polynomial", {"rho": 0}, "rho is 0"),
        ("polynomial", {"rho": math.inf}, "rho is inf"),
        ("polynomial", {"rho": math.nan}, "rho is nan"),
        ("vp_uniform", {"time_min": 0}, "time_min is 0"),
        ("vp_uniform", {"time_min": 1}, "time_min is 1"),
        ("vp_discrete", {"beta_start": 0}, "betas from 0"),
        ("vp_discrete", {"beta_end": 1}, "betas from"),
        ("vp_discrete", {"beta_start": 0.02}, "betas from 0.02"),
        ("vp_discrete", {"times": 1}, "over 1 times"),
        ("flow", {"shift": 0}, "shift is 0"),
        ("flow", {"shift": math.nan}, "shift is nan"),
        ("flow", {"shift": math.inf}, "shift is inf"),
        ("flux", {"image_tokens": 0}, "image_tokens is 0"),
    ],
)
def test_arguments_that_make_no_schedule(name, arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        EVERY[name](4, **arguments)
