"""What a fit holds in main memory follows the law that the docs state."""

import pytest
import torch
from torch import Tensor

from benchmarks.measurements.comfy_overhead import LiveBytes
from dyweight import DyWeight, schedules
from trainer.fit.budget import calls_of, teacher_steps
from trainer.fit.maps import DIRECTIONS, Probing, probe
from trainer.fit.rollout import rollout
from trainer.fit.size import endpoint_bytes, kept_bytes, probing_bytes
from trainer.fit.starts import start_of
from trainer.fit.table import Numbers
from trainer.fitting_set import FittingSet
from trainer.options.distill import DistillOptions
from trainer.pairs.targets import Block
from trainer.run.cluster import ALONE
from trainer.run.network import Network

FLUX, VIDEO = 16 * 128 * 128, 16 * 21 * 60 * 104
"""Elements of a latent of FLUX at 1024 x 1024, and of Wan's at 832 x 480 for 5 seconds."""
GB = 1e9


class Wide:
    """A small smooth network for latents of any width."""

    def __init__(self, elements: int) -> None:
        self.shape = (elements,)

    def schedule(self, steps: int) -> Tensor:
        return schedules.flow(steps)

    def draw(self, generator: torch.Generator, batch: int) -> tuple[Tensor, None]:
        return torch.randn(batch, *self.shape, generator=generator), None

    def denoise(self, x: Tensor, sigma: Tensor, cond: None) -> Tensor:
        level = sigma[:, None]
        return torch.tanh(x + 0.5 * x.roll(1, 1)) * (1 - level / 2) + level / 10


@pytest.mark.parametrize("wide", [64, 6000])
def test_maps_grow_by_two_sketches_a_network_call(wide: int, tmp_path) -> None:
    """6,000 elements are folded, 64 are not."""
    model = Wide(wide)
    options = DistillOptions(ckpt="wide", steps=(4,), out=tmp_path / "x.safetensors", calls=2_000, keep_targets=False)
    fits = FittingSet.of(options, Network(model), ALONE, None)
    fits.begin()
    fit = fits.fittings[0].fit
    for _ in fit.run():
        held = sum(value.nbytes for name, value in fit.state().items() if name.startswith("block."))
        most = kept_bytes(fit.spent, fits.pairs.training_pairs, 4, wide)
        assert 0.1 * most < held < most
    assert len(fit.history) > 3


@pytest.mark.parametrize("steps, order", [(4, 3), (6, 2), (8, 4)])
def test_a_batch_is_probed_within_what_is_said(steps: int, order: int) -> None:
    """With whole latents, whatever is folded later."""
    elements, network = 50_000, Network(Wide(50_000))
    numbers = Numbers(DyWeight(schedules.flow(steps), order))
    noise, _ = network.checkpoint.draw(torch.Generator().manual_seed(0), 2)
    block = Block(0, noise, None, noise)
    with LiveBytes() as live:
        table = numbers.table(numbers.read(start_of(DyWeight(schedules.flow(steps), order))))
        around = rollout(network, block, table.plan)
        probe(network, block, table, around, Probing(0.01, 0.01, DIRECTIONS, 1e-3, 1.0))
    most = probing_bytes(len(noise), steps, steps * order + steps, order, elements)
    assert most / 3 < live.peak < most


def test_flux_at_1024_and_five_seconds_of_video_fit_in_main_memory() -> None:
    """The figures of docs/fitting.md, 5 steps of order 3."""
    steps, calls = 5, calls_of("thorough", 5)
    pairs = calls // (teacher_steps(steps) + steps)
    of_maps = {kept_bytes(calls, pairs, steps, elements) for elements in (FLUX, VIDEO)}
    assert len(of_maps) == 1 and of_maps.pop() < 0.5 * GB
    assert probing_bytes(4, steps, 20, 3, FLUX) < 0.7 * GB
    assert probing_bytes(4, steps, 20, 3, VIDEO) < 5.3 * GB
    assert endpoint_bytes(pairs, FLUX) < 0.7 * GB
    assert endpoint_bytes(pairs, VIDEO) < 6 * GB
