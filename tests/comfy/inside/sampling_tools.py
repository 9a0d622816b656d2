"""Sampling as a workflow does it: nodes called by their ids, on tiny models, and DyWeight's loop in plain words."""

import asyncio
import functools
import logging
import weakref
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from torch import Tensor

_replaced: list[Any] = []
FAMILIES = ("flux", "sd3", "sd15", "wan")
_EXTRAS = {
    **dict.fromkeys(
        (
            "BasicGuider",
            "BasicScheduler",
            "CFGGuider",
            "DisableNoise",
            "KSamplerSelect",
            "RandomNoise",
            "SamplerCustomAdvanced",
            "SplitSigmas",
        ),
        "custom_sampler",
    ),
    **dict.fromkeys(
        (
            "ModelSamplingContinuousEDM",
            "ModelSamplingDiscrete",
            "ModelSamplingFlux",
            "ModelSamplingSD3",
            "RescaleCFG",
        ),
        "model_advanced",
    ),
    "APG": "apg",
    "ContextWindowsManual": "context_windows",
    "DifferentialDiffusion": "differential_diffusion",
    "DualCFGGuider": "custom_sampler",
    "DualModelGuider": "custom_sampler",
    "EasyCache": "easycache",
    "LazyCache": "easycache",
    "PerpNegGuider": "perpneg",
    "PerturbedAttentionGuidance": "pag",
    "TemporalScoreRescaling": "eps",
    "TorchCompileModel": "torch_compile",
}


def call(node_id: str, /, **inputs: Any) -> Any:
    """The first output of a node, run as ComfyUI's executor runs it."""
    import nodes

    if node_id not in nodes.NODE_CLASS_MAPPINGS and node_id in _EXTRAS:
        file = Path(nodes.__file__).parent / "comfy_extras" / f"nodes_{_EXTRAS[node_id]}.py"
        assert asyncio.run(nodes.load_custom_node(str(file), module_parent="comfy_extras"))
    node = nodes.NODE_CLASS_MAPPINGS[node_id]
    run = node.execute if hasattr(node, "define_schema") else getattr(node(), node.FUNCTION)
    with torch.inference_mode():
        return run(**inputs)[0]


@functools.cache
def _loaded(family: str) -> Any:
    import comfy.sd

    return comfy.sd.load_diffusion_model_state_dict(tiny_models.state_dict(family))


def model(family: str) -> Any:
    """A MODEL of its own that shares the tiny weights; skips where this ComfyUI does not know the tiny one."""
    needs_tiny(family)
    return _loaded(family).clone()


def needs_tiny(family: str) -> None:
    """Skips the test where this ComfyUI does not know the tiny model of a family."""
    from comfyui_version import __version__

    if family == "flux" and tuple(int(part) for part in __version__.split(".")[:2]) < (0, 9):
        pytest.skip(f"ComfyUI {__version__} detects FLUX at its full width only")


def latent(family: str, batch: int = 1, image: bool = False) -> dict[str, Tensor]:
    """LATENT, empty or of a seeded image."""
    samples = torch.zeros(batch, *tiny_models.LATENT[family])
    if image:
        samples = torch.randn(samples.shape, generator=torch.Generator().manual_seed(5)) * 0.5
    return {"samples": samples}


def sigmas_of(model: Any, steps: int, scheduler: str = "simple") -> Tensor:
    """ComfyUI's schedule for a model."""
    import comfy.samplers

    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)


def advanced(model: Any, family: str, steps: int, **options: Any) -> Tensor:
    """Endpoint of KSamplerAdvanced with sampler and scheduler `dyweight`."""
    inputs = {
        "add_noise": "enable",
        "noise_seed": 3,
        **_learned(family),
        "start_at_step": 0,
        "end_at_step": 10000,
        "return_with_leftover_noise": "disable",
    }
    return call("KSamplerAdvanced", model=model, steps=steps, **{**inputs, **options})["samples"]


def ksampler(model: Any, family: str, steps: int, **options: Any) -> Tensor:
    """Endpoint of KSampler with sampler and scheduler `dyweight`."""
    inputs = {"seed": 3, "denoise": 1.0, **_learned(family)}
    return call("KSampler", model=model, steps=steps, **{**inputs, **options})["samples"]


def _learned(family: str) -> dict[str, Any]:
    """What the nodes of ComfyUI that have a sampler and a scheduler share."""
    return {
        "cfg": 1.0,
        "sampler_name": "dyweight",
        "scheduler": "dyweight",
        "positive": tiny_models.conditioning(family),
        "negative": tiny_models.conditioning(family, seed=2),
        "latent_image": latent(family),
    }


def custom(model: Any, family: str, sampler: Any, sigmas: Tensor, **options: Any) -> Tensor:
    """Endpoint of SamplerCustomAdvanced with a SAMPLER. Options: cfg, positive, noise, latent_image."""
    positive = options.pop("positive", None) or tiny_models.conditioning(family)
    negative = tiny_models.conditioning(family, seed=2)
    guider = call("CFGGuider", model=model, positive=positive, negative=negative, cfg=options.pop("cfg", 1.0))
    inputs = {"noise": call("RandomNoise", noise_seed=3), "latent_image": latent(family)}
    return call("SamplerCustomAdvanced", guider=guider, sampler=sampler, sigmas=sigmas, **{**inputs, **options})[
        "samples"
    ]


def guided(model: Any, family: str, sampler: Any, sigmas: Tensor, noise: Any, cfg: float = 1.0, **options: Any) -> Any:
    """Endpoint of a guider for this very noise. Options: latent_image, callback."""
    positive, negative = tiny_models.conditioning(family), tiny_models.conditioning(family, seed=2)
    guider = call("CFGGuider", model=model, positive=positive, negative=negative, cfg=cfg)
    image = options.pop("latent_image", None)
    image = noise * 0.0 if image is None else image
    with torch.inference_mode():
        return guider.sample(noise, image, sampler, sigmas, disable_pbar=True, seed=3, **options)


def select(name: str) -> Any:
    """SAMPLER of a name in ComfyUI's list."""
    return call("KSamplerSelect", sampler_name=name)


def wrapping(sampler: Any, factor: float = 1.0) -> Any:
    """SAMPLER around another one, as Detail Daemon makes it: a plain function that asks at other sigmas."""
    import comfy.samplers

    def loop(model: Any, x: Tensor, sigmas: Tensor, extra_args: Any = None, callback: Any = None, disable: Any = None):
        def asked(x: Tensor, sigma: Tensor, **extra: Any) -> Tensor:
            return model(x, sigma * factor, **extra)

        asked.inner_model, asked.sigmas = model.inner_model, model.sigmas
        run = {"extra_args": extra_args, "callback": callback, "disable": disable, **sampler.extra_options}
        return sampler.sampler_function(asked, x, sigmas, **run)

    return comfy.samplers.KSAMPLER(loop)


def answer_with(model: Any, network: Any) -> None:
    """Put network(x, sigma) -> denoised in the place of the model's own, below all that ComfyUI does around it."""
    _replaced.append(model.model)
    model.add_object_patch("_apply_model", lambda x, sigma, *args, **conds: network(x, sigma))


def watch_network(model: Any, told: Any) -> None:
    """Call told(x, sigma) with what reaches the network."""
    apply = type(model.model)._apply_model.__get__(weakref.proxy(model.model))

    def network(x: Tensor, sigma: Tensor, *args: Any, **conds: Any) -> Tensor:
        told(x, sigma)
        return apply(x, sigma, *args, **conds)

    _replaced.append(model.model)
    model.add_object_patch("_apply_model", network)


def put_networks_back() -> None:
    """Undo `answer_with` and `watch_network`: ComfyUI leaves a model with its own method, so that it holds itself."""
    import comfy.model_management

    if _replaced:
        comfy.model_management.unload_all_models()
    while _replaced:
        vars(_replaced.pop()).pop("_apply_model", None)


def textbook(solver: Any) -> Any:
    """SAMPLER that runs the recursion of the papers line by line, with its own history and its own times."""
    import comfy.samplers

    weights, scale = solver.weights.tolist(), solver.time_scale.tolist()

    @torch.no_grad()
    def loop(model: Any, x: Tensor, sigmas: Tensor, extra_args: Any = None, callback: Any = None, disable: Any = None):
        base = [float(sigma) for sigma in sigmas]
        time, slopes = base[0], []
        for n in range(len(base) - 1):
            if n == 0 and solver.analytic_first_step:
                slope = x / (1 + time**2) ** 0.5
            else:
                query = time * scale[n] if solver.time_scaling else time
                denoised = model(x, x.new_full((x.shape[0],), query), **(extra_args or {}))
                slope = (x - denoised) / (time if solver.slope == "state" else query)
            slopes = [slope, *slopes][: solver.order]
            used = weights[n][: len(slopes)]
            mean = torch.stack([w * g for w, g in zip(used, slopes, strict=True)]).sum(0)
            step = base[n + 1] - time
            x = x + step * mean
            time = time + step * sum(used) if solver.time_shifting else base[n + 1]
        return x

    return comfy.samplers.KSAMPLER(loop)


def untrained(pack: Any, sigmas: Tensor) -> Any:
    """SAMPLER that runs the table of iPNDM of order 3, of 2 up to six steps."""
    import comfy.samplers

    plan = pack.dyweight.baselines.plan("ipndm", sigmas, 3 if len(sigmas) > 7 else min(2, len(sigmas) - 1))

    @torch.no_grad()
    def loop(model: Any, x: Tensor, sigmas: Tensor, extra_args: Any = None, callback: Any = None, disable: Any = None):
        return pack.dyweight.sample(lambda x, sigma: model(x, sigma, **(extra_args or {})), x, plan)

    return comfy.samplers.KSAMPLER(loop)


def random_solver(pack: Any, sigmas: Tensor, spread: float = 0.1, seed: int = 0, **settings: Any) -> Any:
    """A solver with weights and time scales away from 1, as a learned one has."""
    generator = torch.Generator().manual_seed(seed)
    solver = pack.dyweight.DyWeight(sigmas.double(), **settings)
    used = solver.weights != 0
    with torch.no_grad():
        solver.weights += used * spread * torch.randn(solver.weights.shape, generator=generator, dtype=torch.float64)
        solver.time_scale += 0.3 * spread * torch.randn(solver.steps, generator=generator, dtype=torch.float64)
        if solver.analytic_first_step:
            solver.time_scale[0] = 1
    return solver.requires_grad_(False)


def said(caplog: pytest.LogCaptureFixture, level: int | None = None) -> list[str]:
    """The lines of the pack in ComfyUI's log, of one level or of all."""
    records = [record for record in caplog.records if record.name == "DyWeight" and level in (None, record.levelno)]
    return [record.getMessage() for record in records]


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Those of them that are warnings."""
    return said(caplog, logging.WARNING)


def difference(one: Tensor, other: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    assert one.shape == other.shape
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-9))


def in_file(pack: Any, solver: Any, name: str, provenance: dict[str, Any] | None = None) -> Any:
    """The solver as if it came from a file of this name that says this of it."""
    return pack.dyweight.SolverFile(solver, provenance or {}, Path("/models/dyweight") / f"{name}.safetensors")


def save(pack: Any, path: Path, solver: Any, **provenance: Any) -> None:
    """Write a coefficient file that says this of its solver."""
    pack.dyweight.save_solver(solver, path, provenance)
