"""A set that the command line distilled on digits with SD3's shift, at each number of steps, with the network of the
digits in the place of a tiny SD3's."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sampling_tools import advanced, answer_with, call, custom, difference, ksampler, latent, model, select

MEMBERS, EVERY = (3, 4, 6), range(3, 7)
ROUNDING = 5e-6
CLASS, SHIFT = 7, 3.0


@pytest.fixture(scope="session")
def distilled(pack, tmp_path_factory):
    """The coefficient file, by a process of its own."""
    folder = tmp_path_factory.mktemp("distilled")
    out, root = folder / "digits.safetensors", Path(pack.__file__).parent
    options = ["--steps", "3,4,6", "--effort", "draft", "--no-keep-targets", "--out", str(out)]
    command = [sys.executable, "-m", "trainer.distill", "--ckpt", "benchmarks.models:digits_shifted", *options]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return out


@pytest.fixture(scope="session")
def digits(beside_comfyui):
    """x [B, 16, 8, 8], sigma [B] -> denoised, each channel as a digit of its own."""
    from trainer.checkpoints.builtin import digits

    made = digits.checkpoint()

    def denoise(x, sigma):
        alone = x.reshape(-1, 1, 8, 8)
        sigmas = sigma.repeat_interleave(x.shape[1])
        return made.denoise(alone, sigmas, torch.full((len(alone),), CLASS)).reshape(x.shape)

    return denoise


@pytest.fixture
def tiny(digits):
    """A MODEL of a flow, with the digits' network."""
    made = model("sd3")
    answer_with(made, digits)
    return made


@pytest.fixture
def solvers(pack, distilled):
    return pack.dyweight.load_solver(distilled)


@pytest.fixture
def applied(pack, tiny, distilled, user_files):
    """The MODEL after Load Solver and Apply Solver, the file in models/dyweight."""
    (user_files / distilled.name).write_bytes(distilled.read_bytes())
    return call("DyWeightApply", model=tiny, solver=call("DyWeightLoadSolver", solver_name=distilled.name))


def in_trainer(pack, digits, plan, x):
    with torch.inference_mode():
        return pack.dyweight.sample(digits, x, plan)


def noise():
    import comfy.sample

    return comfy.sample.prepare_noise(latent("sd3")["samples"], 3)


def ends_of(pack, tiny, digits, solvers, steps):
    """Of the trainer's loop: with the solver that the file has for these steps, and of a fine teacher."""
    placed = pack.dyweight.placement.place(solvers, solvers.sigmas_for(steps))
    fine = pack.dyweight.baselines.plan("ipndm", pack.dyweight.schedules.flow(100, SHIFT))
    return [tiny.model.process_latent_out(in_trainer(pack, digits, plan, noise())) for plan in (placed.plan, fine)]


@pytest.mark.parametrize("steps", EVERY)
def test_the_steps_of_ksampler_give_what_the_trainer_samples_and_beat_euler(
    pack, tiny, applied, digits, solvers, steps
):
    assert solvers.steps == MEMBERS
    expected, fine = ends_of(pack, tiny, digits, solvers, steps)
    end = ksampler(applied, "sd3", steps)
    assert difference(end, expected) < ROUNDING
    euler = custom(tiny, "sd3", select("euler"), pack.dyweight.schedules.flow(steps, SHIFT).float())
    assert float((end - fine).norm()) < 0.5 * float((euler - fine).norm())


@pytest.mark.parametrize("steps", EVERY)
def test_two_parts_of_ksampler_advanced(pack, tiny, applied, digits, solvers, steps):
    sigmas, place = solvers.sigmas_for(steps), pack.dyweight.placement.place
    for split in range(1, steps):
        first = advanced(applied, "sd3", steps, end_at_step=split, return_with_leftover_noise="enable")
        rest = {"start_at_step": split, "add_noise": "disable", "latent_image": {"samples": first}}
        end = advanced(applied, "sd3", steps, **rest)
        begun = place(solvers, sigmas[: split + 1]).plan
        ended = place(solvers, sigmas[split:], start=float(begun.sigmas[-1])).plan
        expected = in_trainer(pack, digits, ended, in_trainer(pack, digits, begun, noise()))
        assert difference(end, tiny.model.process_latent_out(expected)) < ROUNDING


@pytest.mark.parametrize("steps", EVERY)
def test_sampler_custom_advanced(pack, tiny, distilled, user_files, digits, solvers, steps):
    (user_files / distilled.name).write_bytes(distilled.read_bytes())
    loaded = call("DyWeightLoadSolver", solver_name=distilled.name)
    sigmas = call("DyWeightScheduler", model=tiny, solver=loaded, denoise=1.0, steps=steps)
    end = custom(tiny, "sd3", call("DyWeightSampler", solver=loaded), sigmas)
    assert difference(end, ends_of(pack, tiny, digits, solvers, steps)[0]) < ROUNDING
