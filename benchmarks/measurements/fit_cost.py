"""The time of a fit in ComfyUI, beside that of its network calls made bare.

The node Fit Solver fits a draft for the small FLUX of tools/models. Each of its network calls is made once more on the
spot, bare: what ComfyUI's own samplers ask its guider for, of the same batch, with nothing of ours around it. So a busy
machine slows both alike; the seconds of the second calls are not the fit's. All else is: setting up the guider, three
answers to tell the model from others, the loops of ComfyUI's samplers to compare with, files and pictures.
"""

import argparse
import asyncio
import importlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from trainer.checkpoints.comfy.installation import find_comfyui, start

from ..harness.bench import ROOT, TINY_FLUX, synchronize, use_stand_ins
from ..harness.study import Numbers, Options, Study, Tables, table

LIMIT = 1.15
"""Of the fit's seconds over those of its bare calls."""


def node_of_fits(comfyui: Path, folder: Path) -> Any:
    """The node, in a ComfyUI whose models and caches are in this folder."""
    use_stand_ins()
    start(comfyui)
    importlib.import_module("comfy.cli_args").args.cpu = not torch.cuda.is_available()
    vars(importlib.import_module("folder_paths"))["models_dir"] = str(folder)
    nodes = importlib.import_module("nodes")
    asyncio.run(nodes.load_custom_node(str(ROOT)))
    pack = next(m for m in list(sys.modules.values()) if vars(m).get("__file__") == str(ROOT / "__init__.py"))
    fit_run = importlib.import_module(f"{pack.__name__}.nodes.fit_run")  # brings the trainer, once for all fits
    vars(fit_run)["default_cache"] = lambda: folder / "cache" / "targets"
    return nodes.NODE_CLASS_MAPPINGS["DyWeightFit"]


def twice_asked(model: Any, cfg: float) -> Any:
    """A guider of a MODEL that makes each call once more, and keeps in `bare` the seconds of those."""
    samplers = importlib.import_module("comfy.samplers")

    class Twice(samplers.CFGGuider):  # type: ignore[misc, name-defined]
        def predict_noise(self, x: Any, timestep: Any, model_options: Any = None, seed: Any = None) -> Any:
            answer = super().predict_noise(x, timestep, model_options, seed)
            synchronize(x.device)
            began = time.perf_counter()
            transformer = {**model_options["transformer_options"], "wrappers": {}}
            super().predict_noise(x, timestep, {**model_options, "transformer_options": transformer}, seed)
            synchronize(x.device)
            bare.append(time.perf_counter() - began)
            return answer

    bare = list[float]()
    guider = Twice(model)
    guider.bare = bare
    guider.set_cfg(cfg)
    return guider


def prompts() -> list[Any]:
    """CONDITIONING of each prompt of the small FLUX."""
    told = load_file(TINY_FLUX.with_name("tiny-flux-conditions.safetensors"))
    texts = zip(told["cross_attn"], told["pooled"], strict=True)
    return [[[cross[None], {"pooled_output": pooled[None], "guidance": 3.5}]] for cross, pooled in texts]


def seconds(node: Any, model: Any, cfg: float, steps: str, seed: int) -> dict[str, float]:
    """Of one fit, and of its calls."""
    guider, texts = twice_asked(model, cfg), prompts()
    guider.set_conds(texts[0], [[0 * texts[0][0][0], texts[0][0][1]]])
    given = {
        "guider": guider,
        "positive": texts,
        "latent_image": {"samples": torch.zeros(1, 16, 8, 8)},
        "steps": steps,
        "scheduler": "simple",
        "effort": "draft",
        "seed": seed,
        "name": f"{cfg:g}-{seed}",
    }
    began = time.perf_counter()
    with torch.inference_mode():
        node.execute(**{name: value if name == "positive" else [value] for name, value in given.items()})
    calls = sum(guider.bare)
    return {"calls": len(guider.bare), "bare": calls, "fit": time.perf_counter() - began - calls}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--comfyui", type=Path, help="by default as for the trainer")
    parser.add_argument("--steps", default="5")
    parser.add_argument("--cfg", type=float, nargs="+", default=[1.0, 2.0])


def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """Guidance -> by seed, the number of network calls, and the seconds of the fit and of its calls made bare."""
    given = options.more
    with tempfile.TemporaryDirectory() as folder:
        node = node_of_fits(find_comfyui(given.comfyui), Path(folder))
        model = importlib.import_module("comfy.sd").load_diffusion_model(str(TINY_FLUX))
        steps = "1" if options.quick else given.steps
        for cfg in given.cfg:
            runs = [seconds(node, model, cfg, steps, seed) for seed in options.seeds]
            yield f"cfg {cfg:g}", {"steps": steps, "runs": runs}


def ratio(found: Numbers) -> float:
    """Of the seconds of a fit over those of its calls, median over the seeds."""
    return float(statistics.median(run["fit"] / run["bare"] for run in found["runs"]))


def tables(numbers: Numbers) -> Tables:
    """Medians over the seeds."""
    rows = []
    for guidance, found in numbers.items():
        calls, bare, fit = (statistics.median(run[name] for run in found["runs"]) for name in ("calls", "bare", "fit"))
        rows.append([guidance, found["steps"], f"{calls:.0f}", f"{bare:.2f}", f"{fit:.2f}", f"{ratio(found):.3f}"])
    header = ["guidance", "steps", "calls of the network", "bare, s", "fit, s", f"ratio (at most {LIMIT})"]
    return {"seconds": table(header, rows)}


STUDY = Study(
    *("fit-cost", __doc__, measure, tables),
    add_options=add_options,
    passes=lambda numbers: all(ratio(found) <= LIMIT for found in numbers.values()),
)
