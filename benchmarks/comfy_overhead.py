"""What the sampler costs inside ComfyUI: time and memory against ComfyUI's own euler at the same number of calls.

`python -m benchmarks.comfy_overhead [--comfyui PATH] [--device cuda]` samples a tiny FLUX of ComfyUI's own class (1.3 M
parameters, random weights) through comfy.sample and prints both ratios. A real model takes longer in the network and
the same in the sampler, so its ratio is nearer to 1.
"""

import argparse
import asyncio
import importlib
import statistics
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests" / "comfy"
ORDER = 3
TIME_LIMIT = 1.05


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most bytes that tensors made under this mode held at one time, on a device that does not count itself."""

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
    """The most memory of tensors that one run holds at one time."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return int(torch.cuda.max_memory_allocated(device))
    with LiveBytes() as live:
        run()
    return int(live.peak)


def seconds_by_turns(runs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each run; they take turns, so a busy machine slows all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 3):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if turn >= 3:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def sampling_runs(comfyui: Path, device: torch.device, steps: int, size: int) -> dict[str, Callable[[], Tensor]]:
    """One sampling run with ComfyUI's euler, and one with a solver of order 3 given by DyWeightApply."""
    sys.path[:0] = [str(comfyui)]
    sys.path += [str(TESTS / "inside"), str(TESTS / "standins")]
    importlib.import_module("sitecustomize")
    from comfy.cli_args import args

    args.cpu = device.type == "cpu"
    import comfy.sample
    import comfy.sd
    import tiny_models

    nodes = importlib.import_module("nodes")

    asyncio.run(nodes.load_custom_node(str(ROOT)))
    pack = next(m for m in list(sys.modules.values()) if vars(m).get("__file__") == str(ROOT / "__init__.py"))
    model = comfy.sd.load_diffusion_model_state_dict(tiny_models.state_dict("flux"))
    solver = pack.dyweight.DyWeight(pack.dyweight.schedules.flow(steps, 3.0), ORDER).requires_grad_(False)
    learned = nodes.NODE_CLASS_MAPPINGS["DyWeightApply"].execute(model, solver).result[0]
    positive = tiny_models.conditioning("flux")
    noise = torch.randn(1, 16, size, size, generator=torch.Generator().manual_seed(0))

    def run(patched: Any, sampler: str) -> Callable[[], Tensor]:
        empty = torch.zeros_like(noise)
        return lambda: comfy.sample.sample(
            patched, noise, steps, 1.0, sampler, "simple", positive, positive, empty, disable_pbar=True, seed=0
        )

    return {"euler": run(model, "euler"), "dyweight": run(learned, "dyweight")}


@torch.inference_mode()
def main() -> int:
    """Print both figures; exit status 1 where one is over its limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.comfy_overhead", description=__doc__)
    parser.add_argument("--comfyui", type=Path, default=Path.home() / "comfy" / "ComfyUI")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--size", type=int, default=64, help="width and height of the latent")
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    runs = sampling_runs(options.comfyui, options.device, options.steps, options.size)
    seconds = seconds_by_turns(runs, options.repeats)
    per_step = {name: statistics.median(values) / options.steps for name, values in seconds.items()}
    ratio = statistics.median(d / e for d, e in zip(seconds["dyweight"], seconds["euler"], strict=True))
    latent = 16 * options.size**2 * 4
    peaks = {name: peak_bytes(run, options.device) / latent for name, run in runs.items()}
    extra = peaks["dyweight"] - peaks["euler"]
    print(f"{options.steps} steps of a tiny FLUX, latent 1x16x{options.size}x{options.size}, on {options.device}")
    print(", ".join(f"{name} {1000 * value:.2f} ms a step" for name, value in per_step.items()))
    print(f"time: dyweight / euler = {ratio:.3f} (median of {options.repeats} turns; at most {TIME_LIMIT})")
    print(
        f"memory at the peak, in latents: euler {peaks['euler']:.1f}, dyweight {peaks['dyweight']:.1f}, so "
        f"{extra:+.2f} (at most {ORDER}, the order of the solver)"
    )
    return int(ratio > TIME_LIMIT or extra > ORDER)


if __name__ == "__main__":
    sys.exit(main())
