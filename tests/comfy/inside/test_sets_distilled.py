"""Sets that the command line distilled, at every number of steps from 3 to 12: digits with SD3's shift and shapes with
their network in the place of a tiny SD3's, and a model of ComfyUI's own, the trained tiny FLUX or else a tiny SD3."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tiny_models
import torch
import trained_flux
from safetensors.torch import save_file
from sampling_tools import advanced, answer_with, call, custom, difference, ksampler, model, select, watch_network
from torch import Tensor

MEMBERS, EVERY = (3, 6, 12), range(3, 13)
FEW = ["--teacher", "ipndm:24", "--batch", "2", "--validation-pairs", "2"]
FEWEST = ["--calls", "1500", "--iterations", "4"]
CLASS = 7


@dataclass
class Distilled:
    """A model in ComfyUI, the set that was distilled for it, and the trainer's view of the same model."""

    pack: ModuleType
    file: Path
    solvers: Any
    model: Any
    """MODEL"""
    denoise: Callable[[Tensor, Tensor], Tensor]
    """x [B, *shape], sigma [B] -> denoised, as the trainer has it."""
    rounding: float
    """Of the two views, largest difference of what they sample."""
    shape: tuple[int, ...] = (16, 8, 8)
    positive: Any = field(default_factory=lambda: tiny_models.conditioning("sd3"))
    network: Callable[[Tensor, Tensor], Tensor] | None = None
    """What answers in the place of the model's own network."""
    asked: list[float] = field(default_factory=list)
    """The noise level of each network call of ComfyUI."""

    def heard(self) -> Any:
        """MODEL whose network calls are noted from here on."""
        host = self.model.clone()

        def answer(x: Tensor, sigma: Tensor) -> Tensor:
            self.asked.append(float(sigma[0]))
            return self.network(x, sigma)

        self.asked.clear()
        if self.network is None:
            watch_network(host, lambda x, sigma: self.asked.append(float(sigma[0])))
        else:
            answer_with(host, answer)
        return host

    @property
    def inputs(self) -> dict[str, Any]:
        """What the sampling nodes get of it."""
        return {"positive": self.positive, "latent_image": {"samples": torch.zeros(1, *self.shape)}}

    def plan(self, steps: int) -> Any:
        """The plan of a member, or what the rules make for a number of steps that the file does not have."""
        if steps in MEMBERS:
            return self.solvers.member(steps).plan()
        return self.placed(self.solvers.sigmas_for(steps))

    def placed(self, sigmas: Tensor, **more: Any) -> Any:
        return self.pack.dyweight.placement.place(self.solvers, sigmas, **more).plan

    def start(self, sigma: Tensor) -> Tensor:
        """The noise of seed 3, at this noise level."""
        import comfy.sample

        unit = comfy.sample.prepare_noise(torch.zeros(1, *self.shape), 3)
        sampling = self.model.get_model_object("model_sampling")
        return sampling.noise_scaling(sigma.float(), unit, torch.zeros_like(unit), True)

    def end(self, x: Tensor, *plans: Any) -> Tensor:
        """LATENT of the trainer's loop, after one plan or one after the other."""
        with torch.inference_mode():
            for plan in plans:
                x = self.pack.dyweight.sample(self.denoise, x, plan)
        return self.model.model.process_latent_out(x)


def distil(folder, ckpt, *options):
    """The coefficient file of the command line."""
    import trainer.distill

    out = folder / "set.safetensors"
    steps = ["--steps", ",".join(map(str, MEMBERS)), *FEW, "--no-keep-targets", "--out", str(out)]
    assert trainer.distill.main(["--ckpt", str(ckpt), *steps, *map(str, options)]) == 0
    return out


def of_digits(pack, folder):
    """Each channel of SD3's is a digit of its own."""
    from trainer.checkpoints.builtin import digits

    made = digits.checkpoint()

    def denoise(x, sigma):
        alone, sigmas = x.reshape(-1, *made.shape), sigma.repeat_interleave(x.shape[1])
        return made.denoise(alone, sigmas, torch.full((len(alone),), CLASS)).reshape(x.shape)

    file = distil(folder, "benchmarks.models:digits_shifted", "--calls", 2000)
    return Distilled(pack, file, pack.dyweight.load_solver(file), model("sd3"), denoise, 5e-6, network=denoise)


def of_shapes(pack, folder):
    """A latent of 16 channels is one picture of three; the file names the family in whose place its network stands."""
    from trainer.checkpoints.builtin import shapes

    made = shapes.checkpoint()

    def denoise(x, sigma):
        alone = x.reshape(-1, *made.shape)
        return made.denoise(alone, sigma, torch.full((len(alone),), CLASS)).reshape(x.shape)

    path = distil(folder, "shapes", *FEWEST)
    file = pack.dyweight.SolverFile.read(path)
    family, shape = "SD3", (16, 6, 8)
    pack.dyweight.save_solver(file.content, path, {**file.provenance, "model_family": family, "shape": list(shape)})
    noisy = {"sampling": "edm", "sigma_max": shapes.SIGMA_MAX, "sigma_min": shapes.SIGMA_MIN}
    host = call("ModelSamplingContinuousEDM", model=model("sd3"), **noisy)
    return Distilled(pack, path, file.content, host, denoise, 5e-6, shape, network=denoise)


def of_comfyui(pack, folder, flux):
    """The trained tiny FLUX; where ComfyUI does not know it, a tiny SD3."""
    import trainer.checkpoints.comfy.checkpoint as comfy_checkpoint
    from trainer.checkpoints.comfy.options import ComfyOptions

    if flux:
        weights, conditions = trained_flux.MODEL, trained_flux.CONDITIONS
        host, positive = trained_flux.model(), trained_flux.prompts()[0]
    else:
        weights, conditions = folder / "sd3.safetensors", folder / "conditions.safetensors"
        host, positive = model("sd3"), tiny_models.conditioning("sd3")
        save_file(tiny_models.state_dict("sd3"), weights)
        rows = [tiny_models.conditioning("sd3", seed)[0] for seed in (1, 3)]
        tensors = {"cross_attn": torch.cat([cross for cross, _ in rows])}
        save_file(tensors | {"pooled": torch.cat([extra["pooled_output"] for _, extra in rows])}, conditions)
    options = {"conditioning": conditions, "width": 64, "cfg": 1.0}
    given = [one for name, value in options.items() for one in (f"--{name}", value)]
    file = distil(folder, weights, *given, *FEWEST, "--comfyui", os.environ["COMFYUI_PATH"])
    made = comfy_checkpoint.ComfyCheckpoint(weights, ComfyOptions(**options), None)

    def denoise(x, sigma):
        return made.denoise(x, sigma, torch.zeros(len(x), dtype=torch.int64))

    solvers = pack.dyweight.load_solver(file)
    return Distilled(pack, file, solvers, host, denoise, 1e-4, positive=positive)


@pytest.fixture(scope="session", params=["digits", pytest.param("shapes", marks=pytest.mark.slow), "comfyui"])
def distilled(request, pack, beside_comfyui, comfy_version, tmp_path_factory):
    folder = tmp_path_factory.mktemp("distilled")
    if request.param == "comfyui":
        made = of_comfyui(pack, folder, flux=comfy_version >= (0, 9))
    else:
        made = {"digits": of_digits, "shapes": of_shapes}[request.param](pack, folder)
    # The first time the notes ask the network too, to tell the model from others.
    applied = call("DyWeightApply", model=made.model, solver=pack.dyweight.SolverFile.read(made.file))
    ksampler(applied, "sd3", MEMBERS[0], **made.inputs)
    return made


@pytest.fixture
def host(distilled):
    return distilled.heard()


@pytest.fixture
def loaded(distilled, user_files):
    """DYWEIGHT_SOLVER after Load Solver, the file in models/dyweight."""
    (user_files / distilled.file.name).write_bytes(distilled.file.read_bytes())
    return call("DyWeightLoadSolver", solver_name=distilled.file.name)


@pytest.fixture
def applied(host, loaded):
    """The MODEL after Apply Solver."""
    return call("DyWeightApply", model=host, solver=loaded)


def asked_as_in(distilled, *plans):
    """Whether the network was called as often as the plans have it, and at their noise levels."""
    expected = [float(sigma) for plan in plans for sigma in plan.query_sigmas]
    return len(distilled.asked) == len(expected) and distilled.asked == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("steps", EVERY)
def test_the_steps_of_ksampler_give_what_the_trainer_samples(distilled, applied, steps):
    plan = distilled.plan(steps)
    end = ksampler(applied, "sd3", steps, **distilled.inputs)
    assert torch.isfinite(end).all() and plan.network_calls == steps
    assert asked_as_in(distilled, plan)
    assert difference(end, distilled.end(distilled.start(plan.sigmas[0]), plan)) < distilled.rounding


@pytest.mark.parametrize("distilled", ["digits"], indirect=True)
@pytest.mark.parametrize("steps", EVERY)
def test_it_ends_nearer_to_a_fine_teacher_than_euler_and_a_member_half_as_far(distilled, host, applied, steps):
    teacher = distilled.pack.dyweight.baselines.plan("ipndm", distilled.pack.dyweight.schedules.flow(100, 3.0))
    fine = distilled.end(distilled.start(teacher.sigmas[0]), teacher)
    sigmas = distilled.solvers.sigmas_for(steps).float()
    euler = custom(host, "sd3", select("euler"), sigmas, **distilled.inputs)
    far = float((ksampler(applied, "sd3", steps, **distilled.inputs) - fine).norm() / (euler - fine).norm())
    assert far < (0.5 if steps in MEMBERS else 1)


@pytest.mark.parametrize("steps", EVERY)
def test_two_parts_of_ksampler_advanced(distilled, applied, steps):
    sigmas = distilled.solvers.sigmas_for(steps)
    split = (1, steps // 2, steps - 1)[steps % 3]
    first = {"end_at_step": split, "return_with_leftover_noise": "enable"}
    left = advanced(applied, "sd3", steps, **{**distilled.inputs, **first})
    rest = {"start_at_step": split, "add_noise": "disable", "latent_image": {"samples": left}}
    end = advanced(applied, "sd3", steps, **{**distilled.inputs, **rest})
    begun = distilled.placed(sigmas[: split + 1])
    ended = distilled.placed(sigmas[split:], start=float(begun.sigmas[-1]))
    assert asked_as_in(distilled, begun, ended) and len(distilled.asked) == steps
    assert difference(end, distilled.end(distilled.start(begun.sigmas[0]), begun, ended)) < distilled.rounding


@pytest.mark.parametrize("steps", EVERY)
def test_sampler_custom_advanced(distilled, host, loaded, steps):
    sigmas = call("DyWeightScheduler", model=host, solver=loaded, denoise=1.0, steps=steps)
    plan = distilled.plan(steps)
    end = custom(host, "sd3", call("DyWeightSampler", solver=loaded), sigmas, **distilled.inputs)
    assert asked_as_in(distilled, plan) and len(distilled.asked) == steps
    assert difference(end, distilled.end(distilled.start(plan.sigmas[0]), plan)) < distilled.rounding
