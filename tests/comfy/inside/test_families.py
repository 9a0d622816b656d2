"""Every family that ComfyUI samples: what the trainer ends at is what the nodes end at."""

import re
from pathlib import Path

import pytest
import sampling_tools as tools
import tiny_families
import torch
from safetensors.torch import save_file

pytestmark = pytest.mark.slow

PROMPTS = ("a fox", "two hares")
ROUNDING = 1e-6
"""of float32, after a handful of network calls of the same size; of the largest value. Measured: 1e-7."""
NUDGE = 1e-7
"""A relative change of the noise, of float32's rounding. Calls of another size sum in another order, and how far that
moves an endpoint is the network's doing: about as far as this does (measured: at most 1.4 times as far)."""
STEPS = 3
CALLS = 300
"""Of a fit to two pairs, most of them of the handcrafted solvers that it is judged by."""
PAGE = Path(__file__).parents[3] / "docs" / "families.md"
HEAD = (
    "| family | predicts | size | latent | cfg | scheduler | shift | steps | template | several prompts in one call |"
)
RULE = "|" + " --- |" * HEAD.count(" |")
TABLE = re.compile(re.escape(HEAD) + r"\n(\|.*\n)*")
CHECKED: dict[str, str] = {}
"""family -> the row of those whose endpoints were the same."""


class Encoder:
    """Stands for the text encoders of a family: seeded conditions by the text."""

    def __init__(self, family):
        self.family = family

    def tokenize(self, prompt):
        return prompt

    def encode_from_tokens_scheduled(self, prompt):
        return tiny_families.conditioning(self.family, len(prompt))


class Noise:
    """What RandomNoise is for the node, with noise that is given."""

    seed = 3

    def __init__(self, noise):
        self._noise = noise

    def generate_noise(self, latent):
        return self._noise


@pytest.fixture(scope="module", autouse=True)
def _known(comfy_version):
    """The tiny networks are those of the classes of this version and newer ones."""
    if comfy_version < (0, 33):
        pytest.skip("the table is that of ComfyUI 0.33")


@pytest.fixture(params=tiny_families.TINY)
def family(request):
    return request.param


@pytest.fixture
def made(trainer, family, tmp_path, monkeypatch):
    """The trainer's checkpoint of the tiny network."""
    import comfy.model_management
    import comfy.sd

    from trainer.checkpoints.comfy.options import ComfyOptions

    patcher, tiny = tiny_families.patcher(family), tiny_families.TINY[family]
    monkeypatch.setattr(comfy.sd, "load_diffusion_model", lambda path, model_options: patcher)
    monkeypatch.setattr(trainer.Loaded, "clip", lambda loaded, files, kind: Encoder(family))
    save_file({"stands.for.the.weights": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "clip.safetensors").write_bytes(b"stands for the encoders")
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    files = {"clip": (str(tmp_path / "clip.safetensors"),), "prompts": tmp_path / "prompts.txt"}
    size = {"width": tiny.size, "frames": tiny.frames}
    yield trainer.ComfyCheckpoint(tmp_path / "model.safetensors", ComfyOptions(**files, **size), None)
    comfy.model_management.unload_all_models()  # while all are alive: it fails on one that is collected meanwhile


def test_the_nodes_end_where_the_trainer_ends(pack, family, made, tmp_path):
    """Each of two prompts alone, in the nodes, from the noise that the trainer drew for a batch of both: what the
    trainer ends at with that prompt alone, which is what it ends at in the batch."""
    narrow = made.prediction_type == "flow"  # on a schedule from 80 down, random weights would carry time below 0
    noise, _ = made.draw(torch.Generator().manual_seed(2), 2)
    unit = torch.randn(2, *made.shape, generator=torch.Generator().manual_seed(2))
    for solver in (
        tools.random_solver(pack, made.schedule(STEPS).float(), spread=0.05, time_shifting=narrow),
        fitted(pack, made, tmp_path / "fitted.safetensors"),
    ):
        both, nudged = (trained(made, solver, start, 0, 1) for start in (noise, noise * (1 + NUDGE)))
        assert torch.isfinite(both).all() and not torch.allclose(both[0], both[1], rtol=0.1)
        for i, prompt in enumerate(PROMPTS):
            alone = trained(made, solver, noise[i : i + 1], i)
            sampled = in_the_nodes(made, tools.call("DyWeightSampler", solver=solver), solver, unit[i : i + 1], prompt)
            assert tools.difference(sampled, alone) < ROUNDING
            assert tools.difference(alone, both[i : i + 1]) <= 4 * tools.difference(nudged[i : i + 1], both[i : i + 1])
    if hasattr(made._sampling, "shift"):
        check_that_a_shift_changes_nothing_else(made)
    CHECKED[family] = row_of(family, made)


def trained(made, solver, noise, *prompts):
    """Where the trainer ends, with these prompts in one call."""
    from trainer.compare.endpoint_error import endpoint
    from trainer.pairs.pairs import Block
    from trainer.run.network import Network

    return endpoint(Network(made), Block(0, noise, torch.tensor(prompts), noise), solver)


def fitted(pack, made, path):
    """The solver of a fit to two pairs, as the pack reads it from its file."""
    import dyweight
    from trainer import fit_solver

    few = {"pairs": 2, "batch": 2, "validation_pairs": 1, "calls": CALLS, "iterations": 2, "keep_targets": False}
    solver = fit_solver(made, STEPS, teacher="euler:6", difference_step=0.02, **few).solver
    dyweight.save_solver(solver, path, {"model": "tiny"})
    return pack.dyweight.load_solver(path)


def test_the_docs_have_the_table_of_what_was_checked(request):
    """With --record it is written."""
    if missing := tiny_families.TINY.keys() - CHECKED.keys():
        pytest.skip(f"{len(missing)} families were not checked in this run")
    page = PAGE.read_text("utf-8")
    before = TABLE.search(page)
    table = "\n".join([HEAD, RULE, *(CHECKED[family] for family in sorted(CHECKED, key=str.lower))]) + "\n"
    if request.config.getoption("record"):
        PAGE.write_text(page[: before.start()] + table + page[before.end() :], "utf-8")
    assert before.group() == table or request.config.getoption("record"), "run with --record"


def check_that_a_shift_changes_nothing_else(made):
    """ComfyUI's set_parameters would put back the time scale and the shift of the sound."""
    from trainer.checkpoints.comfy.loading import _with_shift

    after, sigma = _with_shift(made._loaded.patcher, 2.5).get_model_object("model_sampling"), torch.tensor([0.5])
    assert after.shift == 2.5 and torch.equal(after.timestep(sigma), made._sampling.timestep(sigma))
    assert getattr(after, "audio_shift", None) == getattr(made._sampling, "audio_shift", None)


def row_of(family, made):
    """The row of the table: what was checked, and the defaults."""
    from trainer.checkpoints.comfy.families import FAMILIES
    from trainer.checkpoints.comfy.latents import latent_of

    known = FAMILIES[family]
    latent = latent_of(made._loaded.patcher.model, known.size, known.frames)
    numbers = " + ".join(" x ".join(map(str, stream)) for stream in latent.streams)
    size = f"{known.size[0]} x {known.size[1]}" + (f", {known.frames} frames" if known.frames > 1 else "")
    guidance = f"{known.cfg:g}" + ("" if known.guidance is None else f", guidance {known.guidance:g}")
    shift = getattr(made._sampling, "shift", None)
    cells = [family, made.prediction_type, size, numbers, guidance, known.scheduler]
    cells += ["" if shift is None else f"{shift:g}", known.steps, known.template]
    together = "yes" if made._texts([0, 1]) is not None else "no"
    return "| " + " | ".join(map(str, [*cells, together])) + " |"


def in_the_nodes(made, sampler, solver, unit, prompt):
    """The latent at the end of SamplerCustomAdvanced, as the network has it."""
    import comfy.utils

    model, latent = made._loaded.patcher, made._loaded.latent
    shapes = [(1, *stream) for stream in latent.streams]
    streams = comfy.utils.unpack_latents(unit, shapes)
    texts = [tiny_families.conditioning(made.model_family, len(text)) for text in (prompt, "")]
    if made.guidance is not None:
        texts[0][0][1]["guidance"] = made.guidance
    guider = tools.call("CFGGuider", model=model, positive=texts[0], negative=texts[1], cfg=made.cfg)
    noise = streams[0] if len(streams) == 1 else nested(streams)
    given = {"noise": Noise(noise), "latent_image": {"samples": latent.empty(1)}}
    sigmas = tools.call("DyWeightScheduler", model=model, solver=solver, denoise=1.0)
    end = tools.call("SamplerCustomAdvanced", guider=guider, sampler=sampler, sigmas=sigmas, **given)["samples"]
    packed = comfy.utils.pack_latents(end.unbind())[0] if end.is_nested else end
    model.model.latent_shapes = shapes
    return model.model.process_latent_in(packed)


def nested(streams):
    from comfy.nested_tensor import NestedTensor

    return NestedTensor(streams)
