"""Is it still the same model? How far its sketch moves when weights are rounded, a LoRA is added or all are others, and
what a solver fitted to the rounded model is worth on the model itself.

Everything is done on the tiny FLUX, on whose unrounded weights all errors are measured.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from safetensors.torch import load_file, save_file
from torch import Tensor

from dyweight.sketch import distance
from trainer.fit.distillation import Distillation

from ..harness.bench import FLUX, TINY_FLUX, Bench, use_stand_ins
from ..harness.study import Numbers, Options, Study, Tables, significant, table

LORA = TINY_FLUX.with_name("tiny-flux-lora.safetensors")
FORMATS = ("fp16", "bf16", "fp8_e4m3fn", "fp8_e5m2")
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1)
ITSELF, FITTED = "fp32", ("bf16", "fp8_e4m3fn")
STEPS, SAMPLES, BLOCK = (3, 5), 200, 32
QUICK_STEPS, QUICK_SAMPLES = (2,), 8
FIT, QUICK_FIT = {"batch": 16}, {"pairs": 8, "iterations": 1}
"""Larger network calls than by default are faster on few cores."""


def measure(options: Options) -> Iterator[tuple[str, Any]]:
    """The distances of sketches; the errors of fits and of the unrounded model's solver."""
    yield "distances", distances()
    yield "fits", fits(options)


def distances() -> dict[str, float]:
    """What was changed -> the distance from the model in float32."""
    use_stand_ins()
    model = _sketch(dtype=ITSELF)
    found = {f"in {name}": distance(model, _sketch(dtype=name)) for name in FORMATS}
    for strength in STRENGTHS:
        found[f"with the tiny LoRA at {strength:g}"] = distance(model, _sketch(lora=(f"{LORA}:{strength}",)))
    weights = {name: value.float() for name, value in load_file(TINY_FLUX).items()}
    generator = torch.Generator().manual_seed(0)
    others = {
        f"with weights of 4 bits, in blocks of {BLOCK}": {name: rounded(value) for name, value in weights.items()},
        "another one of its class, with random weights": {
            name: torch.randn(value.shape, generator=generator) * value.shape[-1] ** -0.5
            for name, value in weights.items()
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        for index, (name, other) in enumerate(others.items()):
            file = Path(folder) / f"{index}.safetensors"
            save_file(other, file)
            found[name] = distance(model, _sketch(ckpt=str(file)))
    return found


def _sketch(**changed: Any) -> list[float]:
    sketch = Bench(FLUX, **{"dtype": ITSELF, **changed}).checkpoint.sketch()
    assert sketch is not None
    return sketch


def rounded(weights: Tensor) -> Tensor:
    """Matrices [out, into] with each BLOCK of a row rounded to the whole multiples, -7 to 7, of one number."""
    if weights.ndim != 2 or weights.shape[1] % BLOCK:
        return weights
    blocks = rearrange(weights, "out (block n) -> out block n", n=BLOCK)
    unit = blocks.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny) / 7
    return rearrange((blocks / unit).round() * unit, "out block n -> out (block n)")


def fits(options: Options) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Steps -> number format -> errors over seeds: of solvers fitted in it, on the model itself, and the other way."""
    few = options.quick
    samples, more = (QUICK_SAMPLES, QUICK_FIT) if few else (SAMPLES, FIT)
    benches = {name: Bench(FLUX, few, samples=samples, dtype=name) for name in (ITSELF, *FITTED)}
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for steps in QUICK_STEPS if few else STEPS:
        made: dict[str, list[Distillation]] = {
            name: [bench.fit(steps, seed, **more) for seed in options.seeds] for name, bench in benches.items()
        }
        found[str(steps)] = {
            name: {
                "fitted in it": [benches[ITSELF].error(one.solver) for one in made[name]],
                "sampled in it": [bench.error(one.solver) for one in made[ITSELF]],
            }
            for name, bench in benches.items()
        }
    return found


def tables(numbers: Numbers) -> Tables:
    """One a part."""
    made = {}
    if "distances" in numbers:
        rows = [[name, f"{found:.3f}"] for name, found in numbers["distances"].items()]
        made["distances"] = table(["the tiny FLUX", "distance"], rows)
    if "fits" in numbers:
        rows = [
            [steps, name, significant(errors["fitted in it"]), significant(errors["sampled in it"])]
            for steps, by_format in numbers["fits"].items()
            for name, errors in by_format.items()
        ]
        header = ["steps", "format", "fitted in it, sampled in fp32", "fitted in fp32, sampled in it"]
        made["fits"] = table(header, rows)
    return made


STUDY = Study("same-model", __doc__, measure, tables)
