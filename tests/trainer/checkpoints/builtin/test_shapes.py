"""The pixel-space checkpoint `shapes`: EDM's preconditioning, its numerics, and whether its samples are shapes."""

import math

import pytest
import torch
from torch import Tensor

from tools.models.train_shapes import drawn, nearest, sample
from trainer.checkpoints.builtin import shapes_data
from trainer.checkpoints.builtin.shapes import SIGMA_DATA, Shapes, checkpoint


@pytest.fixture(scope="module")
def shapes() -> Shapes:
    return checkpoint()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noised(batch: int, low: float = 0.01, high: float = 10.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Clean drawings, the same with noise, its sigma, different for each member, and the classes."""
    generator = seeded()
    clean, cond = drawn(batch, generator)
    sigma = torch.logspace(math.log10(low), math.log10(high), batch)
    return clean, clean + sigma[:, None, None, None] * torch.randn(clean.shape, generator=generator), sigma, cond


def test_schedule_is_the_papers(shapes: Shapes) -> None:
    sigmas = shapes.schedule(4)
    expected = [(80 ** (1 / 7) + i / 4 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(5)]
    assert sigmas.dtype == torch.float64
    assert sigmas.tolist() == pytest.approx(expected, rel=1e-12)


def test_draw_has_the_promised_shapes_and_range(shapes: Shapes) -> None:
    noise, cond = shapes.draw(seeded(), 500)
    assert noise.shape == (500, *shapes.shape) and noise.dtype == torch.float32
    assert cond.dtype == torch.int64 and set(cond.tolist()) == set(range(36))
    assert abs(float(noise.std()) / 80 - 1) < 0.01


def test_the_data_have_the_deviation_that_the_preconditioning_is_told() -> None:
    clean, cond = drawn(2000, seeded())
    assert abs(float(clean.mean())) < 0.02
    assert abs(float(clean.std()) / SIGMA_DATA - 1) < 0.02
    assert len(torch.bincount(cond)) == 36 and torch.bincount(cond).min() > 30


def test_a_picture_of_the_data_is_the_drawing(shapes: Shapes) -> None:
    prompts = torch.randint(len(shapes_data.PROMPTS), (8,), generator=(generator := seeded()))
    pictures = shapes_data.draw(prompts, generator)
    clean, cond = drawn(8, seeded())
    torch.testing.assert_close(shapes.images(clean), (pictures.movedim(1, -1) + 1) / 2)
    assert shapes.images(clean).shape == (8, 16, 16, 3)
    assert shapes.captions(cond) == [shapes_data.PROMPTS[i] for i in prompts]


def test_without_noise_the_prediction_is_the_picture_itself(shapes: Shapes) -> None:
    clean, _, _, cond = noised(8)
    assert torch.equal(shapes.denoise(clean, torch.zeros(8), cond), clean)
    small = shapes.denoise(clean, torch.full((8,), 0.002), cond)
    assert float((small - clean).abs().max()) < 0.01


def test_the_preconditioning_is_that_of_the_edm_paper(shapes: Shapes) -> None:
    """Table 1, with the network replaced by a known one."""

    class Ones(torch.nn.Module):
        def forward(self, x: Tensor, noise_level: Tensor, label: Tensor) -> Tensor:
            self.seen = x, noise_level
            return torch.ones_like(x)

    known = Shapes(ones := Ones(), "")  # type: ignore[arg-type]
    x, sigma = torch.randn(3, *shapes.shape, generator=seeded()), torch.tensor([0.002, 0.5, 80.0])
    result = known.denoise(x, sigma, torch.zeros(3, dtype=torch.int64))
    at = sigma[:, None, None, None]
    torch.testing.assert_close(ones.seen[0], x / (at**2 + 0.25).sqrt())
    torch.testing.assert_close(ones.seen[1], sigma.log() / 4)
    torch.testing.assert_close(result, 0.25 / (at**2 + 0.25) * x + at * 0.5 / (at**2 + 0.25).sqrt())


def test_at_the_highest_sigma_the_prediction_is_small_beside_the_noise(shapes: Shapes) -> None:
    """What the analytic first step relies on; the exact denoiser would give the mean of the class."""
    noise, cond = shapes.draw(seeded(), 48)
    predicted = shapes.denoise(noise, torch.full((48,), 80.0), cond)
    clean, labels = drawn(5000, seeded(1))
    means = torch.stack([clean[labels == label].mean(0) for label in range(36)])
    assert float(predicted.abs().max()) < 0.02 * 80
    # Measured: 0.62, as EDM's training hardly meets such noise.
    assert float((predicted - means[cond]).square().mean().sqrt()) < 0.7 * SIGMA_DATA


def test_denoising_comes_closer_to_the_picture_than_the_noisy_one_and_the_mean(shapes: Shapes) -> None:
    clean, noisy, sigma, cond = noised(64)
    error = (shapes.denoise(noisy, sigma, cond) - clean).square().mean((1, 2, 3)).sqrt()
    assert bool((error < 0.7 * sigma.clamp_max(2 * SIGMA_DATA)).all())
    assert float((error / sigma)[sigma < 1].mean()) < 0.3


def test_samples_are_new_drawings_of_the_class_asked_for(shapes: Shapes) -> None:
    noise, cond = shapes.draw(seeded(11), 60)
    with torch.no_grad():
        samples = sample(shapes, noise, cond, steps=20)
    assert float(samples.abs().max()) < 1.3
    generator = seeded(12)
    judges, judged = drawn(5000, generator)
    distance, found = nearest(samples, judges)
    ratio = distance.mean() / nearest(drawn(200, generator)[0], judges)[0].mean()
    # Measured: 0.85 and 1.04.
    assert float((judged[found] == cond).float().mean()) > 0.8
    assert 0.9 < float(ratio) < 2
