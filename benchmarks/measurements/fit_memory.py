"""Peak memory of a forward-only fit against ComfyUI sampling the same model, on a CPU or a GPU.

Both run in fresh processes: the fit, and ComfyUI's `euler` by ComfyUI's code. The models are a FLUX of ComfyUI's own
class with random weights, and the small trained one of tools/models. A peak is that of the whole process on a CPU, that
of torch's allocator on a GPU, from when the model is loaded. One step on one pair needs the memory of all steps, so
only that is taken; maps of the other pairs, which lie in main memory, are added by their size where that is what is
measured: as many as a normal fit of the small FLUX has.

In both processes glibc gives blocks from 128 KiB on back as soon as they are freed. By default it learns to keep them,
and what it keeps in pieces grows with the number of calls: `--default-heap` measures that.
"""

import argparse
import contextlib
import ctypes
import io
import multiprocessing
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tools.models.small_flux import small_flux
from trainer.checkpoints.comfy.checkpoint import ComfyCheckpoint
from trainer.checkpoints.comfy.installation import find_comfyui, start
from trainer.checkpoints.load import load_checkpoint
from trainer.distill import distill
from trainer.fit.size import kept_bytes
from trainer.options.distill import DistillOptions
from trainer.run.memory import peak_bytes, reset_peak

from ..harness.bench import TINY_FLUX, use_stand_ins
from ..harness.study import Numbers, Options, Study, Tables, table

STEPS, TOKENS, WIDTH, POOLED, PIXELS = 3, 64, 256, 64, 8
PAIRS, DIRECTIONS = 48, 19
"""Of a normal fit of the small FLUX at STEPS steps, where it holds the most: pairs, and of each the directions of its
maps, two sketches each."""
LIMIT, LARGE = 1.05, 300_000_000
"""Of the fit's memory over sampling's, where the model's file has so many bytes: a small one is less than Python."""


M_MMAP_THRESHOLD, KEPT_UNTIL = -3, 1 << 17
"""Of glibc's mallopt, and what it begins with; once set, it stays."""


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


def options_for(model: Path, latent: int, given: argparse.Namespace, folder: Path) -> DistillOptions:
    """A fit with one call's pairs and one trial, and with the cheapest teacher."""
    return DistillOptions(
        ckpt=str(model),
        conditioning=conditions_of(model),
        comfyui=given.comfyui,
        width=PIXELS * latent,
        steps=(STEPS,),
        out=folder / "solver.safetensors",
        cache=folder / "cache",
        teacher="euler:1",
        batch=given.batch,
        initial="adams-bashforth",
        iterations=1,
        difference_step=1e-2,
        pairs=given.batch,
        validation_pairs=1,
    )


def give_freed_blocks_back() -> None:
    """In this process, where the C library is glibc."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, KEPT_UNTIL)


def measured(fits: bool, options: DistillOptions, batch: int) -> int:
    """Bytes at the peak of one of the two in this process."""
    use_stand_ins()
    if fits:
        with contextlib.redirect_stdout(io.StringIO()):
            peak = distill(options).peak_memory_bytes
    else:
        checkpoint = load_checkpoint(options.ckpt, options).made
        assert isinstance(checkpoint, ComfyCheckpoint)
        noise, prompts = checkpoint.draw(torch.Generator().manual_seed(0), batch)
        reset_peak(noise.device)
        with torch.inference_mode():
            checkpoint.sample_with("euler", checkpoint.scheduler, STEPS, noise, prompts)
        peak = peak_bytes(noise.device)
    assert peak is not None
    return peak


def in_a_process(fits: bool, model: Path, latent: int, given: argparse.Namespace) -> int:
    """`measured` in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        options = options_for(model, latent, given, Path(folder))
        begin = None if given.default_heap else give_freed_blocks_back
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), begin) as pool:
            return pool.submit(measured, fits, options, given.batch).result()


def pairs_left_out(batch: int, latent: int) -> int:
    """Bytes of what a normal fit keeps of the pairs that `options_for` leaves out, on a CPU; endpoints are on disk."""
    pairs = PAIRS - batch
    return 0 if torch.cuda.is_available() else kept_bytes(pairs * DIRECTIONS, pairs, STEPS, 16 * latent**2)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--comfyui", type=Path, help="by default as for the trainer")
    parser.add_argument("--hidden", type=int, default=1024, help="width of the random FLUX, a multiple of 128")
    parser.add_argument("--latent", type=int, default=64, help="width and height of the random FLUX's latent")
    parser.add_argument("--batch", type=int, default=1, help="samples in one network call, of both")
    parser.add_argument("--default-heap", action="store_true", help="leave glibc as it is: it keeps what is freed")


def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """Model -> latent, and megabytes: of its file, of sampling, of the fit as measured, and of it with all pairs."""
    given = options.more
    use_stand_ins()
    start(find_comfyui(given.comfyui))
    with tempfile.TemporaryDirectory() as folder:
        flux = Path(folder) / "random-flux.safetensors"
        write_flux(flux, 128 if options.quick else given.hidden, torch.Generator().manual_seed(0))
        for model, latent in ((TINY_FLUX, 8), (flux, 8 if options.quick else given.latent)):
            sampling, fit = (in_a_process(fits, model, latent, given) for fits in (False, True))
            sizes = {
                "file": model.stat().st_size,
                "sampling": sampling,
                "fit": fit,
                "with all pairs": fit + pairs_left_out(given.batch, latent),
            }
            yield model.stem, {"latent": f"16x{latent}x{latent}", **{name: n / 1e6 for name, n in sizes.items()}}


def tables(numbers: Numbers) -> Tables:
    """A row a model."""
    rows = []
    for model, found in numbers.items():
        sizes = (f"{found[name]:.1f}" for name in ("file", "sampling", "fit", "with all pairs"))
        rows.append([model, found["latent"], *sizes, f"{found['with all pairs'] / found['sampling']:.3f}"])
    header = [
        "model",
        "latent",
        "file, MB",
        "sampling, MB",
        "fit, MB",
        "with all pairs, MB",
        f"ratio (at most {LIMIT} from {LARGE / 1e6:.0f} MB on)",
    ]
    return {"peaks": table(header, rows)}


STUDY = Study(
    "fit-memory",
    __doc__,
    measure,
    tables,
    seeds=0,
    add_options=add_options,
    passes=lambda numbers: all(
        one["with all pairs"] <= LIMIT * one["sampling"] for one in numbers.values() if one["file"] >= LARGE / 1e6
    ),
)
