"""The cost of the sampler inside ComfyUI: time and memory compared with ComfyUI's euler at the same number of calls.

Samples the small FLUX of tools/models (1.3 M parameters) through comfy.sample. A real model's network takes longer and
the sampler the same time, so that the ratio is closer to 1.
"""

import argparse
import asyncio
import importlib
import statistics
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from trainer.checkpoints.comfy.installation import find_comfyui, start

from ..harness.bench import ROOT, TINY_FLUX, seconds_by_turns, use_stand_ins
from ..harness.study import Numbers, Options, Study, Tables, table

ORDER = 3
TIME_LIMIT = 1.05
"""Limit of a step's time relative to euler's. For memory it is ORDER, the number of latents that the solver keeps."""


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The peak bytes of tensors made under this mode, on a device that keeps no count of its own."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now, self.peak = 0, 0
        self._users: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_flatten(out)[0]:
            if isinstance(tensor, Tensor):
                self._watch(tensor)
        self.peak = max(self.peak, self.now)
        return out

    def _watch(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        self.now += 0 if key in self._users else size
        self._users[key] = self._users.get(key, 0) + 1
        weakref.finalize(tensor, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]
            self.now -= size


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """The peak memory of the tensors of one run."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return int(torch.cuda.max_memory_allocated(device))
    with LiveBytes() as live:
        run()
    return int(live.peak)


def pack_in_comfyui(comfyui: Path) -> ModuleType:
    """The pack as ComfyUI loads it; ComfyUI is started."""
    use_stand_ins()
    start(comfyui)
    nodes = importlib.import_module("nodes")
    asyncio.run(nodes.load_custom_node(str(ROOT)))
    return next(m for m in list(sys.modules.values()) if vars(m).get("__file__") == str(ROOT / "__init__.py"))


def beside_euler(
    pack: ModuleType, model: Any, scheduler: str, steps: int, cfg: float, texts: Sequence[Any], noise: Tensor
) -> dict[str, Callable[[], Tensor]]:
    """A sampling run with ComfyUI's euler, and one with a solver of order 3 from DyWeightApply.

    pack: of `pack_in_comfyui`. model: ComfyUI's MODEL. texts: CONDITIONING, positive and negative.
    """
    sample = importlib.import_module("comfy.sample").sample
    samplers, nodes = (importlib.import_module(name) for name in ("comfy.samplers", "nodes"))
    sigmas = samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)
    solver = pack.dyweight.DyWeight(sigmas.double(), ORDER).requires_grad_(False)
    learned = nodes.NODE_CLASS_MAPPINGS["DyWeightApply"].execute(model, solver).result[0]
    empty = torch.zeros_like(noise)

    def run(patched: Any, sampler: str) -> Callable[[], Tensor]:
        return lambda: sample(patched, noise, steps, cfg, sampler, scheduler, *texts, empty, disable_pbar=True, seed=0)

    return {"euler": run(model, "euler"), "dyweight": run(learned, "dyweight")}


def sampling_runs(comfyui: Path, device: torch.device, steps: int, size: int) -> dict[str, Callable[[], Tensor]]:
    """`beside_euler` of the small FLUX, at this many numbers along a side of its latent."""
    start(comfyui)
    importlib.import_module("comfy.cli_args").args.cpu = device.type == "cpu"
    pack = pack_in_comfyui(comfyui)
    model = importlib.import_module("comfy.sd").load_diffusion_model(str(TINY_FLUX))
    told = load_file(TINY_FLUX.with_name("tiny-flux-conditions.safetensors"))
    positive = [[told["cross_attn"][:1], {"pooled_output": told["pooled"][:1]}]]
    noise = torch.randn(1, 16, size, size, generator=torch.Generator().manual_seed(0))
    return beside_euler(pack, model, "simple", steps, 1.0, (positive, positive), noise)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--comfyui", type=Path, help="ComfyUI's folder; the default is the trainer's")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--size", type=int, default=64, help="width and height of the latent")
    parser.add_argument("--repeats", type=int, default=30)


@torch.inference_mode()
def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """Device -> the sizes, seconds of a step and their median ratio, and latents at the peak."""
    given = options.more
    runs = sampling_runs(find_comfyui(given.comfyui), given.device, given.steps, given.size)
    seconds = seconds_by_turns(runs, 2 if options.quick else given.repeats, given.device)
    latent = 16 * given.size**2 * 4
    found = {
        "steps": given.steps,
        "size": given.size,
        "seconds": {name: statistics.median(taken) / given.steps for name, taken in seconds.items()},
        "ratio": statistics.median(d / e for d, e in zip(seconds["dyweight"], seconds["euler"], strict=True)),
        "latents": {name: peak_bytes(run, given.device) / latent for name, run in runs.items()},
    }
    yield f"{given.device}", found


def tables(numbers: Numbers) -> Tables:
    """Time and memory, and the difference that DyWeight makes."""
    found = {}
    for device, one in numbers.items():
        time, memory = one["seconds"], one["latents"]
        rows = [
            ["milliseconds a step", *(f"{1000 * t:.2f}" for t in time.values()), f"x {one['ratio']:.3f}", TIME_LIMIT],
            ["latents at the peak", *(f"{m:.1f}" for m in memory.values()), f"{extra(one):+.2f}", ORDER],
        ]
        size = f"{one['steps']} steps, latent 1x16x{one['size']}x{one['size']}"
        found[device] = table([size, *time, "difference", "at most"], rows)
    return found


def extra(found: Numbers) -> float:
    """The number of latents that DyWeight holds in addition to euler's."""
    return float(found["latents"]["dyweight"] - found["latents"]["euler"])


STUDY = Study(
    "comfy-overhead",
    __doc__,
    measure,
    tables,
    seeds=0,
    add_options=add_options,
    passes=lambda numbers: all(one["ratio"] <= TIME_LIMIT and extra(one) <= ORDER for one in numbers.values()),
)
