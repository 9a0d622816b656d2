"""What holds for every built-in checkpoint: its draws, its numerics, and its file of weights."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.checkpoints.builtin import digits, gmm, photographs, shapes
from trainer.run.errors import CheckpointError

ALL = pytest.mark.parametrize(
    "module", [digits, shapes, photographs, gmm], ids=["digits", "shapes", "photographs", "gmm"]
)
NETWORKS = pytest.mark.parametrize("module", [digits, shapes, photographs], ids=["digits", "shapes", "photographs"])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch_of(checkpoint: Any, batch: int) -> tuple[Tensor, Tensor, Any]:
    """x, sigma and cond, with a different sigma for each member."""
    noise, cond = checkpoint.draw(seeded(), batch)
    sigma = torch.linspace(0.05, 1, batch)
    return noise / float(checkpoint.schedule(1)[0]) * sigma.reshape(-1, *[1] * (noise.ndim - 1)), sigma, cond


def members(cond: Any, index: int) -> Any:
    return cond if cond is None else cond[index : index + 1]


@ALL
def test_draw_depends_on_the_generator_alone(module: Any) -> None:
    made = module.checkpoint()
    state = torch.get_rng_state()
    noise, cond = made.draw(seeded(3), 8)
    torch.manual_seed(7)
    again, same = made.draw(seeded(3), 8)
    assert torch.equal(noise, again) and (cond is same is None or torch.equal(cond, same))
    assert not torch.equal(noise, made.draw(seeded(4), 8)[0])
    torch.set_rng_state(state)
    made.draw(seeded(3), 8)
    assert torch.equal(state, torch.get_rng_state())


@ALL
def test_a_batch_equals_its_members_and_inputs_stay(module: Any) -> None:
    made = module.checkpoint()
    x, sigma, cond = batch_of(made, 8)
    before = x.clone(), sigma.clone()
    together = made.denoise(x, sigma, cond)
    assert torch.equal(together, made.denoise(x, sigma, cond))
    apart = [made.denoise(x[i : i + 1], sigma[i : i + 1], members(cond, i)) for i in range(8)]
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-5, rtol=1e-5)
    assert torch.equal(x, before[0]) and torch.equal(sigma, before[1])


@NETWORKS
def test_denoise_at_sigma_zero_is_the_identity(module: Any) -> None:
    made = module.checkpoint()
    x, _, cond = batch_of(made, 4)
    assert torch.equal(made.denoise(x, torch.zeros(4), cond), x)


@ALL
def test_gradients_reach_x_and_sigma_and_are_those_of_finite_differences(module: Any) -> None:
    made = module.checkpoint()
    x, _, cond = batch_of(made, 8)
    x = x.double().requires_grad_()
    sigma, step = torch.full((8,), 0.5, dtype=torch.float64, requires_grad=True), 5e-3

    def total(at: Tensor) -> Tensor:
        summed: Tensor = made.denoise(x, at, cond).flatten(1).sum(1)
        return summed

    by_x, by_sigma = torch.autograd.grad(total(sigma).sum(), (x, sigma))
    difference = (total(sigma + step) - total(sigma - step)).detach() / (2 * step)
    assert bool(by_x.isfinite().all()) and bool(by_x.flatten(1).abs().amax(1).gt(0).all())
    assert float((by_sigma - difference).norm() / difference.norm()) < 0.05


@NETWORKS
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.float16, 5e-3), (torch.bfloat16, 5e-2)])
def test_denoise_returns_the_dtype_of_x(module: Any, dtype: torch.dtype, tolerance: float) -> None:
    made = module.checkpoint()
    x, sigma, cond = batch_of(made, 8)
    rounded = x.to(dtype)
    result = made.denoise(rounded, sigma.double(), cond)
    assert result.dtype == dtype
    wide = made.denoise(rounded.float(), sigma, cond)
    torch.testing.assert_close(result.float(), wide, atol=tolerance, rtol=tolerance)


@NETWORKS
def test_checkpoint_is_frozen_small_and_named_by_its_weights(module: Any) -> None:
    made = module.checkpoint()
    assert not made.network.training
    assert not any(parameter.requires_grad for parameter in made.network.parameters())
    content = module.WEIGHTS.read_bytes()
    assert made.fingerprint == f"{made.model_family}-{hashlib.sha256(content).hexdigest()[:16]}"
    assert len(content) <= 3_000_000


@NETWORKS
def test_a_missing_weights_file_says_how_to_recreate_it(module: Any, tmp_path: Path) -> None:
    script = f"train_{module.__name__.rpartition('.')[2]}"
    with pytest.raises(CheckpointError, match=rf"absent\.safetensors is missing.*{script}"):
        module.checkpoint(tmp_path / "absent.safetensors")
