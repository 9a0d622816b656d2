"""Peak memory of a forward-only fit against ComfyUI sampling the same model, on a CPU or a GPU.

`python -m benchmarks.fit_memory [--comfyui PATH] [--hidden 1024] [--latent 64]` runs both in fresh processes: the fit,
and ComfyUI's `euler` by ComfyUI's code. The models are a FLUX of ComfyUI's own class with random weights, and the small
trained one of the tests. A peak is that of the whole process on a CPU, that of torch's allocator on a GPU, from when
the model is loaded. One step on one pair needs the memory of all steps, so only that is taken; the endpoints of the
other pairs, which lie in main memory, are added by their size where that is what is measured.
"""

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from tools.models.small_flux import small_flux
from trainer.checkpoints.comfy.checkpoint import ComfyCheckpoint
from trainer.checkpoints.comfy.installation import find_comfyui, start
from trainer.checkpoints.load import load_checkpoint
from trainer.distill import distill
from trainer.fit.budget import calls_of, teacher_steps
from trainer.options.distill import DistillOptions
from trainer.run.memory import peak_bytes, reset_peak

ROOT = Path(__file__).parents[1]
SMALL_FLUX = ROOT / "tools" / "models" / "tiny-flux.safetensors"
STEPS, TOKENS, WIDTH, POOLED, PIXELS = 3, 64, 256, 64, 8
LIMIT = 1.1


def write_flux(path: Path, hidden: int, generator: torch.Generator) -> None:
    """A FLUX with one double and two single blocks, 264 hidden^2 bytes, and a condition for it beside it."""
    shapes = {name: value.shape for name, value in small_flux(hidden, WIDTH, POOLED).state_dict().items()}
    weights = {name: torch.randn(shape, generator=generator) * shape[-1] ** -0.5 for name, shape in shapes.items()}
    save_file(weights, path)
    told = {"cross_attn": torch.randn(2, TOKENS, WIDTH, generator=generator)}
    told["pooled"] = torch.randn(2, POOLED, generator=generator)
    save_file({**told, **{f"negative_{name}": 0 * value[:1] for name, value in told.items()}}, conditions_of(path))


def conditions_of(model: Path) -> Path:
    """Where the conditions of a model lie."""
    return model.with_name(f"{model.stem}-conditions.safetensors")


def options_for(given: argparse.Namespace) -> DistillOptions:
    """A fit with one call's pairs and one iteration from one start, and with the cheapest teacher."""
    folder = Path(given.folder)
    return DistillOptions(
        ckpt=str(given.model),
        conditioning=conditions_of(given.model),
        comfyui=given.comfyui,
        width=PIXELS * given.latent,
        steps=STEPS,
        out=folder / "solver.safetensors",
        cache=folder / "cache",
        teacher="euler:1",
        batch=given.batch,
        initial="adams-bashforth",
        iterations=1,
        difference_step=1e-3,
        pairs=given.batch,
        validation_pairs=given.batch,
    )


def measured(given: argparse.Namespace) -> int:
    """Bytes at the peak of one of the two in this process."""
    options = options_for(given)
    if given.measure == "fit":
        with contextlib.redirect_stdout(io.StringIO()):
            peak = distill(options).peak_memory_bytes
    else:
        checkpoint = load_checkpoint(options.ckpt, options)
        assert isinstance(checkpoint, ComfyCheckpoint)
        noise, prompts = checkpoint.draw(torch.Generator().manual_seed(0), given.batch)
        reset_peak(noise.device)
        with torch.inference_mode():
            checkpoint.sample_with("euler", options.scheduler, STEPS, noise, prompts)
        peak = peak_bytes(noise.device)
    assert peak is not None
    return peak


def in_a_process(given: argparse.Namespace, model: Path, latent: int, measure: str) -> int:
    """`measured` in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        told = {**vars(given), "model": model, "latent": latent, "measure": measure, "folder": folder}
        arguments = [f"--{name}={value}" for name, value in told.items() if value is not None]
        where = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(SMALL_FLUX.parents[1] / "standins")])}
        command = [sys.executable, "-m", "benchmarks.fit_memory", *arguments]
        done = subprocess.run(command, env=where, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def endpoints_left_out(given: argparse.Namespace, latent: int) -> int:
    """Bytes of the endpoints that a fit with the default pairs holds beside those of `options_for`, on a CPU."""
    if torch.cuda.is_available():
        return 0
    elements = 16 * latent**2
    pairs = calls_of("normal", STEPS) // (teacher_steps("normal", STEPS) + 4 * STEPS)
    return 4 * elements * (pairs - 2 * int(given.batch))


def main() -> int:
    """Print the table; exit status 1 where a ratio is over the limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fit_memory", description=__doc__)
    parser.add_argument("--comfyui", type=Path, help="by default as for the trainer")
    parser.add_argument("--hidden", type=int, default=1024, help="width of the random FLUX, a multiple of 128")
    parser.add_argument("--latent", type=int, default=64, help="width and height of the random FLUX's latent")
    parser.add_argument("--batch", type=int, default=1, help="samples in one network call, of both")
    for of_a_measuring_process in ("model", "measure", "folder"):
        parser.add_argument(f"--{of_a_measuring_process}", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure is not None:
        given.model = Path(given.model)
        print(measured(given))
        return 0
    print(f"{STEPS} steps, {given.batch} a call; megabytes at the peak, from when the model is loaded")
    print(f"{'model':<28} {'latent':>10} {'sampling':>9} {'fit':>9} {'with all pairs':>15} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as folder:
        flux = Path(folder) / "flux.safetensors"
        start(find_comfyui(given.comfyui))
        write_flux(flux, given.hidden, torch.Generator().manual_seed(0))
        worst = 0.0
        for model, latent in ((SMALL_FLUX, 8), (flux, given.latent)):
            sampling, fit = (in_a_process(given, model, latent, measure) for measure in ("sampling", "fit"))
            name = f"{model.stem}, {model.stat().st_size / 1e6:.1f} MB"
            size, whole = f"16x{latent}x{latent}", fit + endpoints_left_out(given, latent)
            columns = f"{sampling / 1e6:>9.1f} {fit / 1e6:>9.1f} {whole / 1e6:>15.1f} {whole / sampling:>6.3f}"
            print(f"{name:<28} {size:>10} {columns}", flush=True)
            worst = max(worst, whole / sampling)
    print(f"the fit takes at most {worst:.3f} times what sampling takes (limit {LIMIT:g})")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
