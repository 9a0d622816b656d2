"""The checkpoint `photographs`: EDM's preconditioning, guidance, its numerics, and whether its samples are of a class.

Real photographs are not in the repository, so the model's own samples and its judge stand in for them.
"""

import hashlib
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import dyweight
from trainer.checkpoints.builtin.photographs import WEIGHTS, Photographs, checkpoint
from trainer.checkpoints.builtin.photographs_judge import WEIGHTS as JUDGE_WEIGHTS
from trainer.checkpoints.builtin.photographs_judge import judge
from trainer.checkpoints.builtin.photographs_network import CLASSES, NO_CLASS, PhotographsNetwork
from trainer.checkpoints.protocol import full
from trainer.run.errors import CheckpointError

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def photographs() -> Photographs:
    return checkpoint()


@pytest.fixture(scope="module")
def samples(photographs: Photographs) -> tuple[Tensor, Tensor]:
    """60 samples of the model, and their classes."""
    noise, cond = photographs.draw(seeded(11), 60)
    return sampled(photographs, noise, cond), cond


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sampled(model: Photographs, noise: Tensor, cond: Tensor) -> Tensor:
    plan = dyweight.baselines.plan("ipndm", model.schedule(20))
    with torch.no_grad():
        return dyweight.sample(lambda x, sigma: full(model).denoise(x, sigma, cond), noise, plan)


def noised(clean: Tensor, low: float = 0.01, high: float = 10.0) -> tuple[Tensor, Tensor]:
    """The same with noise, and its sigma, different for each member."""
    sigma = torch.logspace(math.log10(low), math.log10(high), len(clean))
    return clean + sigma[:, None, None, None] * torch.randn(clean.shape, generator=seeded()), sigma


def test_schedule_is_the_papers(photographs: Photographs) -> None:
    expected = [(80 ** (1 / 7) + i / 4 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(5)]
    assert photographs.schedule(4).tolist() == pytest.approx(expected, rel=1e-12)


def test_draw_has_the_promised_range_and_depends_on_the_generator_alone(photographs: Photographs) -> None:
    state = torch.get_rng_state()
    (noise, cond), (again, again_cond) = (photographs.draw(seeded(3), 500) for _ in range(2))
    assert noise.shape == (500, *photographs.shape) and noise.dtype == torch.float32
    assert abs(float(noise.std()) / 80 - 1) < 0.01
    assert cond.dtype == torch.int64 and set(cond.tolist()) == set(range(len(CLASSES)))
    assert torch.equal(noise, again) and torch.equal(cond, again_cond)
    assert torch.equal(state, torch.get_rng_state())


def test_pictures_and_captions(photographs: Photographs) -> None:
    x = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])[:, None, None, None].expand(5, *photographs.shape)
    images = photographs.images(x)
    assert images.shape == (5, 16, 16, 3)
    assert images[:, 0, 0, 0].tolist() == [0, 0, 0.5, 1, 1]
    assert photographs.captions(torch.tensor([0, 7])) == ["airplane", "horse"]
    assert photographs.condition(torch.tensor([0, 7])).shape == (2, len(CLASSES))


class Known(torch.nn.Module):
    """Answers what its label says, 1 for a class and -1 for none, and remembers what it was asked."""

    def forward(self, x: Tensor, noise_level: Tensor, label: Tensor) -> Tensor:
        self.seen = x, noise_level
        return torch.where(label == NO_CLASS, -1.0, 1.0).reshape(-1, 1, 1, 1).expand_as(x)


def test_the_preconditioning_is_that_of_the_edm_paper() -> None:
    """Table 1, with the network replaced by a known one."""
    model = Photographs(known := Known(), 16, "")  # type: ignore[arg-type]
    x, sigma = torch.randn(3, *model.shape, generator=seeded()), torch.tensor([0.002, 0.5, 80.0])
    at = sigma[:, None, None, None]
    result = full(model).denoise(x, sigma, torch.zeros(3, dtype=torch.int64))
    torch.testing.assert_close(known.seen[0], x / (at**2 + 0.25).sqrt())
    torch.testing.assert_close(known.seen[1], sigma.log() / 4)
    torch.testing.assert_close(result, 0.25 / (at**2 + 0.25) * x + at * 0.5 / (at**2 + 0.25).sqrt())


@pytest.mark.parametrize("cfg", [0.5, 1.0, 2.0])
def test_guidance_goes_on_from_no_class_past_the_class(cfg: float) -> None:
    model = Photographs(Known(), 16, "known", cfg)  # type: ignore[arg-type]
    x, sigma = torch.randn(3, *model.shape, generator=seeded()), torch.tensor([0.002, 0.5, 80.0])
    at = sigma[:, None, None, None]
    expected = 0.25 / (at**2 + 0.25) * x + (2 * cfg - 1) * at * 0.5 / (at**2 + 0.25).sqrt()
    torch.testing.assert_close(full(model).denoise(x, sigma, torch.arange(3)), expected)


def test_guidance_is_told_and_makes_another_model(photographs: Photographs) -> None:
    guided = checkpoint(cfg=2.0)
    assert guided.guidance == guided.cfg == 2.0, "which the file names"
    assert (photographs.cfg, guided.cfg) == (None, 2.0)
    assert guided.fingerprint != photographs.fingerprint


def test_with_guidance_it_tells_both_predictions(photographs: Photographs) -> None:
    noise, cond = photographs.draw(seeded(), 4)
    sigma = torch.full((4,), 80.0)
    conditional, unconditional = checkpoint(cfg=2.0).denoise(noise, sigma, cond)
    torch.testing.assert_close(conditional, photographs.denoise(noise, sigma, cond))
    torch.testing.assert_close(unconditional, photographs.denoise(noise, sigma, torch.full_like(cond, NO_CLASS)))


def test_without_noise_the_prediction_is_the_picture_itself(
    photographs: Photographs, samples: tuple[Tensor, Tensor]
) -> None:
    clean, cond = samples
    assert torch.equal(photographs.conditional(clean, torch.zeros(60), cond), clean)
    small = photographs.conditional(clean, torch.full((60,), 0.002), cond)
    assert float((small - clean).abs().max()) < 0.02


def test_denoising_comes_closer_to_the_picture_than_the_noisy_one(
    photographs: Photographs, samples: tuple[Tensor, Tensor]
) -> None:
    clean, cond = samples
    noisy, sigma = noised(clean)
    error = (photographs.conditional(noisy, sigma, cond) - clean).square().mean((1, 2, 3)).sqrt()
    assert bool((error < sigma.clamp_max(1.0)).all())
    assert float((error / sigma)[sigma > 0.1].mean()) < 0.5


def test_at_the_highest_sigma_the_prediction_is_small_beside_the_noise(photographs: Photographs) -> None:
    """What the analytic first step relies on."""
    noise, cond = photographs.draw(seeded(), 48)
    predicted = photographs.conditional(noise, torch.full((48,), 80.0), cond)
    assert float(predicted.abs().max()) < 0.02 * 80


def test_gradients_reach_x_and_sigma_and_are_those_of_finite_differences(
    photographs: Photographs, samples: tuple[Tensor, Tensor]
) -> None:
    clean, cond = samples[0][:8], samples[1][:8]
    x = noised(clean)[0].double().requires_grad_()
    sigma, step = torch.full((8,), 0.5, dtype=torch.float64, requires_grad=True), 5e-3

    def total(at: Tensor) -> Tensor:
        return photographs.conditional(x, at, cond).flatten(1).sum(1)

    by_x, by_sigma = torch.autograd.grad(total(sigma).sum(), (x, sigma))
    difference = (total(sigma + step) - total(sigma - step)).detach() / (2 * step)
    assert bool(by_x.isfinite().all()) and bool(by_x.flatten(1).abs().amax(1).gt(0).all())
    assert float((by_sigma - difference).norm() / difference.norm()) < 0.05


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.float16, 5e-3), (torch.bfloat16, 5e-2)])
def test_denoise_returns_the_dtype_of_x(
    photographs: Photographs, samples: tuple[Tensor, Tensor], dtype: torch.dtype, tolerance: float
) -> None:
    x, sigma = noised(samples[0])
    rounded = x.to(dtype)
    result = photographs.conditional(rounded, sigma.double(), samples[1])
    assert result.dtype == dtype
    wide = photographs.conditional(rounded.float(), sigma, samples[1])
    torch.testing.assert_close(result.float(), wide, atol=tolerance, rtol=tolerance)


def test_a_batch_equals_its_members_and_inputs_stay(photographs: Photographs, samples: tuple[Tensor, Tensor]) -> None:
    cond = samples[1][:8]
    x, sigma = noised(samples[0][:8])
    before = x.clone()
    together = photographs.conditional(x, sigma, cond)
    members = [photographs.conditional(x[i : i + 1], sigma[i : i + 1], cond[i : i + 1]) for i in range(8)]
    torch.testing.assert_close(together, torch.cat(members), atol=1e-5, rtol=1e-5)
    assert torch.equal(x, before)


def test_checkpoint_is_frozen_small_and_named_by_its_weights(photographs: Photographs) -> None:
    assert not photographs.network.training
    assert not any(parameter.requires_grad for parameter in photographs.network.parameters())
    assert photographs.fingerprint == "photographs-" + hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:16]
    assert WEIGHTS.stat().st_size + JUDGE_WEIGHTS.stat().st_size <= 16_000_000


def test_the_weights_lie_where_the_published_pack_has_nothing() -> None:
    ignored = (ROOT / ".comfyignore").read_text("utf-8").splitlines()
    for weights in (WEIGHTS, JUDGE_WEIGHTS):
        assert f"{weights.relative_to(ROOT).parts[0]}/" in ignored


@pytest.mark.parametrize(("make", "script"), [(checkpoint, "train_photographs`"), (judge, "train_photographs_judge`")])
def test_a_missing_weights_file_says_how_to_get_it(make: object, script: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"absent\.safetensors is missing.*published pack.*{script}"):
        make(tmp_path / "absent.safetensors")  # type: ignore[operator]


@pytest.mark.parametrize(("pixels", "widths"), [(8, [8, 64]), (32, [8, 16, 24, 64])])
def test_other_sizes_need_other_weights_only(pixels: int, widths: list[int], tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    made = f'{{"pixels": {pixels}, "widths": {widths}}}'
    weights = {name: value.contiguous() for name, value in PhotographsNetwork(widths).state_dict().items()}
    save_file(weights, file, {"model": made})
    model = checkpoint(file)
    noise, cond = model.draw(seeded(), 2)
    assert noise.shape == (2, 3, pixels, pixels)
    assert model.conditional(noise, torch.full((2,), 80.0), cond).shape == noise.shape
    assert model.features(noise).shape == (2, 128)


def test_the_judge_sees_the_class_asked_for(photographs: Photographs, samples: tuple[Tensor, Tensor]) -> None:
    """And more often with guidance."""
    x, cond = samples
    guided = sampled(checkpoint(cfg=2.0), *photographs.draw(seeded(11), 60))
    own, of_guided = (
        float((judge().answer(photographs.features(some)).argmax(1) == cond).float().mean()) for some in (x, guided)
    )
    assert float(x.abs().max()) < 1.6
    # Measured on 500 samples after 4,541 of the 5,455 batches: 0.37, and 0.61 with guidance.
    assert own > 0.25
    assert of_guided > own + 0.1
