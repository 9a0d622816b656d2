"""Kinds of models and latents: parameterisations, batches, packed latents, half precision, torch.compile."""

import pytest
import tiny_models
import torch
from sampling_tools import (
    FAMILIES,
    advanced,
    answer_with,
    call,
    custom,
    difference,
    guided,
    model,
    random_solver,
    select,
    sigmas_of,
)
from sampling_tools import textbook as textbook_of

ROUNDING = 2e-6


def seeded_noise(family, batch=1):
    return torch.randn(batch, *tiny_models.LATENT[family], generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("analytic", [False, True])
def test_a_v_prediction_model(pack, analytic):
    eps = model("sd15")
    v = call("ModelSamplingDiscrete", model=eps, sampling="v_prediction", zsnr=False)
    sigmas = sigmas_of(v, 4)
    solver = random_solver(pack, sigmas, analytic_first_step=analytic)
    expected = custom(v, "sd15", textbook_of(solver), sigmas)
    end = advanced(call("DyWeightApply", model=v, solver=solver), "sd15", 4)
    assert difference(end, expected) < ROUNDING
    assert difference(end, advanced(call("DyWeightApply", model=eps, solver=solver), "sd15", 4)) > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_equals_its_members_one_by_one(pack, family):
    tiny, noise = model(family), seeded_noise(family, batch=3)
    sigmas = sigmas_of(tiny, 4)
    sampler = call("DyWeightSampler", solver=random_solver(pack, sigmas))
    together = guided(tiny, family, sampler, sigmas, noise)
    for i in range(3):
        assert difference(together[i : i + 1], guided(tiny, family, sampler, sigmas, noise[i : i + 1])) < ROUNDING


@pytest.mark.parametrize("analytic", [False, True])
def test_packed_latents(pack, analytic):
    """Sound and pictures in one flat latent [B, 1, N], as LTX 2 has: each part comes out as it does alone."""
    from comfy.nested_tensor import NestedTensor

    tiny, seen, previews = model("sd3"), [], []

    def gaussian(x, sigma):
        sigma = sigma.reshape(-1, *[1] * (x.ndim - 1))
        seen.append(tuple(x.shape))
        return x * (1 - sigma) / ((1 - sigma) ** 2 + sigma**2)

    answer_with(tiny, gaussian)
    sigmas = sigmas_of(tiny, 4)
    sampler = call("DyWeightSampler", solver=random_solver(pack, sigmas, analytic_first_step=analytic))
    parts = [seeded_noise("sd3", batch=2), torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(6))]
    packed = guided(
        tiny,
        "sd3",
        sampler,
        sigmas,
        NestedTensor(parts),
        latent_image=NestedTensor([torch.zeros_like(part) for part in parts]),
        callback=lambda i, denoised, x, total: previews.append(i),
    )
    assert set(seen) == {(2, 1, 16 * 8 * 8 + 5 * 7)}
    assert previews == [0, 1, 2, 3]
    alone = guided(tiny, "sd3", sampler, sigmas, parts[0])
    assert difference(packed.unbind()[0], alone) < ROUNDING
    assert packed.unbind()[1].shape == parts[1].shape
    assert torch.isfinite(packed.unbind()[1]).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("family", ["flux", "sd3", "wan"])
def test_half_precision_stays_as_near_to_float32_as_it_does_with_euler(pack, family, dtype):
    import comfy.sd

    full, noise = model(family), seeded_noise(family)
    half = comfy.sd.load_diffusion_model_state_dict(tiny_models.state_dict(family), model_options={"dtype": dtype})
    sigmas = sigmas_of(full, 4)
    solver = random_solver(pack, sigmas, spread=0.05)
    errors = {}
    for name, sampler in (("learned", call("DyWeightSampler", solver=solver)), ("euler", select("euler"))):
        end = guided(half, family, sampler, sigmas, noise)
        assert end.dtype == torch.float32
        assert torch.isfinite(end).all()
        errors[name] = difference(end, guided(full, family, sampler, sigmas, noise))
    print(f"{family} {dtype}: {errors}")
    assert 0 < errors["learned"] < 2 * errors["euler"]


def test_torch_compile_compiles_once_for_euler_and_for_every_solver(pack):
    from torch._dynamo.utils import counters

    tiny, noise = model("sd3"), seeded_noise("sd3")
    compiled = call("TorchCompileModel", model=tiny, backend="eager")
    torch._dynamo.reset()
    counters.clear()
    graphs = []
    for name, steps in (("euler", 4), ("learned", 4), ("learned", 7)):
        sigmas = sigmas_of(tiny, steps)
        sampler = call("DyWeightSampler", solver=random_solver(pack, sigmas)) if name == "learned" else select(name)
        end = guided(compiled, "sd3", sampler, sigmas, noise)
        graphs.append(counters["stats"]["unique_graphs"])
        assert difference(end, guided(tiny, "sd3", sampler, sigmas, noise)) < ROUNDING
    assert graphs[0] > 0, "nothing was compiled"
    assert graphs == graphs[:1] * 3
