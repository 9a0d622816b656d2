"""Sampling and fits on the device and in the memory mode of this process, beside the CPU in float32.

The tests inside ComfyUI run on the CPU; `tests/comfy/test_on_a_gpu.py` runs this file on a GPU, in each memory mode.
"""

import statistics
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import tiny_families
import torch
import trained_flux
from sampling_tools import call, random_solver, sigmas_of

STEPS = 3
LATENT = {"Flux": (16, 8, 8), "SDXL": (4, 8, 8)}
CFG = {"Flux": 1.0, "SDXL": 4.0}
FITS = {
    "gauss-newton": {"iterations": 8, "pairs": 16, "validation_pairs": 4},
    "adam": {"method": "adam", "iterations": 4, "pairs": 8, "batch": 8, "validation_pairs": 2, "report_pairs": 4},
}


@dataclass(frozen=True)
class Kind:
    """How a network is kept and computed, and how far from the CPU in float32 its results may be."""

    weights: torch.dtype
    computed: torch.dtype | None
    """Where it is another one than that of the weights."""
    endpoint: float
    """Of a sample, as a part of its norm."""
    error: float
    """Of the endpoint error that a fit ends with, relative to it."""
    fits: int = 1
    """Of gauss-newton, whose mean is compared: one in bf16 ends at 0.7 to 1.5 of that on the CPU, three at 1.0."""


KINDS = {
    "float32": Kind(torch.float32, None, 2e-3, 0.1),
    "bf16": Kind(torch.bfloat16, None, 5e-2, 0.3, 3),
    "fp8": Kind(torch.float8_e4m3fn, torch.bfloat16, 5e-2, 0.3, 3),
    "compiled": Kind(torch.float32, None, 2e-3, 0.1),
}
"""On a GPU float32 may be TF32. Networks computed in bf16 have tables of their own, which do as well: the fit asks them
further away, and to both sides."""


def pytest_generate_tests(metafunc):
    """On the CPU there is nothing to compare float32 with."""
    if "kind" in metafunc.fixturenames:
        kinds = [kind for kind in KINDS if kind != "float32" or metafunc.config.getoption("--device") != "cpu"]
        marks = {"compiled": [pytest.mark.slow]}
        metafunc.parametrize("kind", [pytest.param(kind, marks=marks.get(kind, [])) for kind in kinds])


@pytest.fixture(scope="session")
def device(request):
    import comfy.model_management

    found = comfy.model_management.get_torch_device()
    assert found.type == request.config.getoption("--device")
    return found


@pytest.fixture(scope="session")
def room(pack):
    """The trainer."""
    sys.path.append(str(Path(pack.__file__).parent))
    import trainer

    return trainer


@pytest.fixture(scope="module", autouse=True)
def _let_go():
    """ComfyUI's models want to go before its modules do."""
    yield
    for kept in (on_the_device, reference, fitted_on_the_cpu):
        kept.cache_clear()


@pytest.fixture
def own(family, kind, device, request):
    """The network of a family as this kind has it, on the device."""
    mode = request.config.getoption("--vram")
    if kind == "compiled" and (mode, family) != ("normal", "Flux"):
        pytest.skip("one network is compiled, whose weights stay")
    made = on_the_device(family, KINDS[kind].weights, KINDS[kind].computed, device)
    if kind != "compiled":
        return made
    return call("TorchCompileModel", model=made, backend="eager" if device.type == "cpu" else "inductor")


def tiny(family, weights, computed, device):
    """A small network: the trained FLUX where this ComfyUI knows it, else one with random weights."""
    import comfy.model_management as management
    import comfy.model_patcher
    import comfy.sd

    if family != "Flux" or not knows_tiny_flux():
        return tiny_families.patcher(family, 0, weights, computed, device, management.unet_offload_device())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(management, "unet_manual_cast", lambda *given: computed)  # on a CPU too
        made = comfy.sd.load_diffusion_model(str(trained_flux.MODEL), model_options={"dtype": weights})
    return comfy.model_patcher.ModelPatcher(made.model, device, made.offload_device)


on_the_device = cache(tiny)


@cache
def reference(family, weights):
    """The network on the CPU in float32, with weights rounded as those of a kind."""
    made = tiny(family, torch.float32, None, tiny_families.CPU)
    with torch.inference_mode(False), torch.no_grad():
        for value in made.model.diffusion_model.parameters():
            value.copy_(value.to(weights).float())
    return made


def knows_tiny_flux():
    from comfyui_version import __version__

    return tuple(int(part) for part in __version__.split(".")[:2]) >= (0, 9)


def texts(family):
    if family == "Flux" and knows_tiny_flux():
        return trained_flux.prompts()[:2]
    return [tiny_families.conditioning(family, seed) for seed in (1, 2)]


def guider(model, family):
    import comfy.samplers

    made = comfy.samplers.CFGGuider(model)
    made.set_conds(*texts(family))
    made.set_cfg(CFG[family])
    return made


def sampled(pack, model, family):
    """The endpoint of one solver from one noise."""
    noise = torch.randn(2, *LATENT[family], generator=torch.Generator().manual_seed(3))
    sigmas = sigmas_of(model, STEPS)
    sampler = call("DyWeightSampler", solver=random_solver(pack, sigmas))
    with torch.inference_mode():
        return guider(model, family).sample(noise, noise * 0, sampler, sigmas, disable_pbar=True, seed=0).cpu()


@cache
def fitted_on_the_cpu(weights, method, fits):
    return fitted(reference("Flux", weights), method, fits)


def fitted(model, method, fits):
    """Errors of so many fits for the trained FLUX, geometric means, and the calls that they took."""
    from trainer import fit_solver
    from trainer.checkpoints.comfy.canvas import CanvasCheckpoint

    checkpoint = CanvasCheckpoint(
        "Flux", guider(model, "Flux"), [], {"samples": torch.zeros(1, *LATENT["Flux"])}, "simple"
    )
    found = [fit_solver(checkpoint, STEPS, teacher="euler:12", seed=seed, **FITS[method]) for seed in range(fits)]
    errors = {name: statistics.geometric_mean(one.errors[name] for one in found) for name in found[0].errors}
    return errors, sum(one.network_calls for one in found)


@pytest.mark.parametrize("family", LATENT)
def test_a_sample_ends_where_it_ends_on_the_cpu(pack, own, kind, family):
    given = KINDS[kind]
    end, expected = sampled(pack, own, family), sampled(pack, reference(family, given.weights), family)
    found = float((end - expected).norm() / expected.norm())
    print(f"{family} {kind}: {found:.2g}")
    assert found < given.endpoint


@pytest.mark.parametrize("family", ["Flux"])
@pytest.mark.parametrize("method", [pytest.param("gauss-newton", marks=pytest.mark.slow), "adam"])
def test_a_fit_ends_as_near_to_its_teacher_as_on_the_cpu(room, own, kind, family, method, device):
    if not knows_tiny_flux():
        pytest.skip("this ComfyUI does not know the trained FLUX")
    if (kind, method) == ("compiled", "adam"):
        pytest.skip("gradients go through the network as it is, not compiled")
    if (kind, method, device.type) == ("fp8", "gauss-newton", "cpu"):
        pytest.skip("a CPU computes fp8 in bf16, whose fits are compared")
    given = KINDS[kind]
    fits = given.fits if method == "gauss-newton" else 1
    (errors, calls), (expected, expected_calls) = (
        fitted(own, method, fits),
        fitted_on_the_cpu(given.weights, method, fits),
    )
    print(f"{kind} {method}: {errors}, on the CPU {expected}; {calls} and {expected_calls} calls")
    assert expected["fitted"] < 0.9 * expected["untrained"], "a fit that finds nothing shows nothing"
    for name, error in expected.items():
        assert errors[name] == pytest.approx(error, rel=given.error), name


@pytest.mark.parametrize("family", LATENT)
def test_weights_lie_where_the_memory_mode_has_them(pack, own, family, device, request):
    """Under novram in main memory, and they are sampled on the device all the same."""
    sampled(pack, own, family)
    places = {parameter.device.type for parameter in own.model.diffusion_model.parameters()}
    if device.type == "cuda" and request.config.getoption("--vram") == "novram":
        assert "cpu" in places
    else:
        assert places == {device.type}
