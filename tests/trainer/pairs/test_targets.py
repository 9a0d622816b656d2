"""Teacher endpoints: what they are, and that the cache gives the same ones, never others, and costs no call."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import dyweight
from benchmarks.measurements.comfy_overhead import LiveBytes
from dyweight import SolverFile
from trainer.pairs.pairs import Pairs, deviation
from trainer.pairs.targets import Block, Targets
from trainer.pairs.teacher import Teacher
from trainer.run.errors import TrainerError
from trainer.run.network import Network

TEACHER = Teacher("ipndm", 5)


@pytest.fixture
def make(peaks: Any, tmp_path: Path) -> Callable[..., Targets]:
    """Targets of a fresh checkpoint, as another process would make them; the cache is kept between them."""

    def make(
        teacher: Teacher = TEACHER, seed: int = 0, batch: int = 4, cache: Path | None = tmp_path / "cache", **more: Any
    ) -> Targets:
        checkpoint = more.pop("checkpoint", None) or peaks()
        return Targets(Network(checkpoint), teacher, seed, batch, cache, **more)

    return make


def calls_for(targets: Targets, split: str = "train", index: int = 0) -> tuple[int, Block]:
    before = targets.network.forward
    block = targets.block(split, index)
    return targets.network.forward - before, block


def cached(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.safetensors") if not path.name.startswith("."))


@pytest.mark.parametrize("text", ["ipndm:35", "heun:1", "euler:1000"])
def test_a_teacher_is_read_as_it_is_written(text: str) -> None:
    assert str(Teacher.parse(text)) == text


@pytest.mark.parametrize("text", ["", ":", "ipndm", "ipndm:", ":35", "ipndm:0", "ipndm:-1", "ipndm:1.5", "idpnm:35"])
def test_a_teacher_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(TrainerError, match=re.escape(f"--teacher {text}") + ".*NAME:STEPS.*ipndm"):
        Teacher.parse(text)


@pytest.mark.parametrize("name", dyweight.baselines.NAMES)
def test_targets_are_where_the_teacher_ends(name: str, peaks: Any, make: Callable[..., Targets]) -> None:
    checkpoint, block = peaks(), make(Teacher(name, 6)).block("train", 1)
    plan = dyweight.baselines.plan(name, checkpoint.schedule(6))
    expected = dyweight.sample(lambda x, sigma: checkpoint.denoise(x, sigma, None), block.noise, plan)
    assert block.first == 4 and block.target.dtype == block.noise.dtype
    torch.testing.assert_close(block.target, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("more", [{}, {"cache": None}], ids=["kept", "on the fly"])
def test_a_block_does_not_depend_on_the_others_or_on_where_it_is_kept(
    more: dict[str, Any], make: Callable[..., Targets]
) -> None:
    backwards, alone = make(**more), make(cache=None)
    blocks = [backwards.block("train", i) for i in (2, 1, 0, 1)]
    for block, index in zip(blocks, (2, 1, 0, 1), strict=True):
        expected = alone.block("train", index)
        assert torch.equal(block.noise, expected.noise) and torch.equal(block.target, expected.target)


def test_splits_seeds_and_blocks_draw_different_noise(make: Callable[..., Targets]) -> None:
    noises = [make(seed=seed).block(split, i).noise for seed in (0, 1) for split in ("train", "test") for i in (0, 1)]
    assert len({tuple(noise.flatten().tolist()) for noise in noises}) == 8


def test_what_is_cached_costs_no_call_and_is_equal(make: Callable[..., Targets]) -> None:
    first_calls, first = calls_for(make())
    assert first_calls == 4 * TEACHER.steps
    again = make()
    assert again.missing("train", 1) == 0
    calls, block = calls_for(again)
    assert calls == 0
    assert torch.equal(block.noise, first.noise) and torch.equal(block.target, first.target)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_cache_keeps_every_dtype(dtype: torch.dtype, peaks: Any, make: Callable[..., Targets]) -> None:
    first = make(checkpoint=peaks((3, 8, 8), dtype)).block("train", 0)
    calls, block = calls_for(make(checkpoint=peaks((3, 8, 8), dtype)))
    assert calls == 0 and block.target.dtype == dtype and torch.equal(block.target, first.target)


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"teacher": Teacher("ipndm", 6)}, {"teacher": Teacher("euler", 5)}, {"batch": 8}],
    ids=["seed", "steps", "teacher", "batch"],
)
def test_other_settings_share_nothing(other: dict[str, Any], make: Callable[..., Targets]) -> None:
    make().block("train", 0)
    targets = make(**other)
    calls, block = calls_for(targets)
    assert calls == targets.batch * targets.teacher_calls
    assert torch.equal(block.target, make(**other, cache=None).block("train", 0).target)


@pytest.mark.parametrize(
    "what", ["fingerprint", "answers", "schedule", "schedule of the same weights", "noise", "condition"]
)
def test_another_model_is_not_served_old_targets(what: str, peaks: Any, make: Callable[..., Targets]) -> None:
    model, other = peaks(), peaks()
    if what in ("schedule of the same weights", "condition"):
        model.fingerprint = other.fingerprint = "weights-17"
    make(checkpoint=model).block("train", 0)
    if what == "fingerprint":
        other.fingerprint = "the weights of another epoch"
    elif what == "answers":
        other.denoise = lambda x, sigma, cond: peaks.denoise(other, x, sigma, cond) * 1.001
    elif what.startswith("schedule"):
        other.schedule = lambda steps: peaks.schedule(other, steps) ** 1.01
    elif what == "noise":
        other.draw = lambda generator, batch: (peaks.draw(other, generator, batch)[0].flip(0), None)
    else:
        labels = {"text": "another prompt", "label": torch.ones(4)}
        other.draw = lambda generator, batch: (peaks.draw(other, generator, batch)[0], labels)
    calls, block = calls_for(make(checkpoint=other))
    assert calls == 4 * TEACHER.steps
    assert torch.equal(block.target, make(checkpoint=other, cache=None).block("train", 0).target)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def scribble(path: Path) -> None:
    path.write_bytes(b"not a safetensors file, whatever its name says" * 10)


def turn_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 0x40
    path.write_bytes(content)


def rename_the_tensor(path: Path) -> None:
    save_file({"other": load_file(path)["target"]}, path)


def forget_the_metadata(path: Path) -> None:
    save_file(load_file(path), path)


@pytest.mark.parametrize(
    "damage", [truncate, empty, scribble, turn_a_bit, rename_the_tensor, forget_the_metadata], ids=lambda f: f.__name__
)
def test_a_damaged_file_is_made_anew(
    damage: Callable[[Path], None], make: Callable[..., Targets], tmp_path: Path
) -> None:
    good = make().block("train", 0)
    (path,) = cached(tmp_path)
    damage(path)
    assert torch.equal(make().block("train", 0).target, good.target)
    assert calls_for(make())[0] == 0


@pytest.mark.parametrize("size", [0, 1, 50, 150])
def test_a_write_that_fails_leaves_no_half_file(
    size: int, make: Callable[..., Targets], full_disk: Any, tmp_path: Path
) -> None:
    with full_disk(size), pytest.raises((OSError, TrainerError)):
        make().block("train", 0)
    assert cached(tmp_path) == []
    assert calls_for(make())[0] == 4 * TEACHER.steps
    assert len(cached(tmp_path)) == 1


def test_targets_carry_no_gradient_and_can_be_used_in_one(make: Callable[..., Targets]) -> None:
    for _ in range(2):
        block = make().block("train", 0)
        weight = torch.ones((), requires_grad=True)
        ((weight * block.noise - block.target) ** 2).sum().backward()
        assert weight.grad is not None and not block.target.requires_grad


def test_pairs_are_whole_blocks_and_announce_what_is_missing(make: Callable[..., Targets]) -> None:
    pairs = Pairs(make(), 10, 3)
    assert (pairs.training_pairs, pairs.validation_pairs) == (12, 4)
    assert len(pairs.training) == 3 and len(pairs.validation) == 1
    fresh = Pairs(make(seed=5), 10, 3)
    before = fresh.targets.network.forward
    assert fresh.targets.missing("train", 3) + fresh.targets.missing("validation", 1) == 16
    assert (len(fresh.training), len(fresh.validation)) == (3, 1)
    assert fresh.targets.network.forward - before == 16 * TEACHER.steps
    assert make(seed=5).missing("train", 3) == 0


def test_more_pairs_are_taken_without_the_teacher_for_those_at_hand(make: Callable[..., Targets]) -> None:
    pairs = Pairs(make(seed=6), 0, 3)
    pairs.take(1)
    before = pairs.targets.network.forward
    pairs.take(3)
    assert pairs.targets.network.forward - before == 8 * TEACHER.steps
    assert [index for index, _ in pairs.training_blocks_here()] == [0, 1, 2] and pairs.training_pairs == 12


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "on the fly"])
def test_endpoints_are_held_in_main_memory_only_where_the_cache_keeps_none(
    kept: bool, make: Callable[..., Targets]
) -> None:
    targets = make() if kept else make(cache=None)
    pairs = Pairs(targets, 0, 3)
    with LiveBytes() as live:
        pairs.take(5)
        calls, held = targets.network.forward, live.now
        endpoints = [block.target for _, block in pairs.training_blocks_here()]
    assert calls == targets.network.forward
    assert all(torch.equal(own, make(cache=None).block("train", i).target) for i, own in enumerate(endpoints))
    assert held == (0 if kept else sum(one.nbytes for one in endpoints))


def test_a_cache_that_goes_while_it_is_used_is_made_anew(make: Callable[..., Targets], tmp_path: Path) -> None:
    pairs = Pairs(make(), 8, 0)
    good, before = [block.target for block in pairs.training], pairs.targets.network.forward
    shutil.rmtree(tmp_path / "cache")
    again = [block.target for _ in range(2) for block in pairs.training]
    assert all(map(torch.equal, again, 2 * good))
    assert pairs.targets.network.forward - before == 8 * TEACHER.steps


def test_another_runs_endpoint_in_a_file_that_was_checked_is_not_taken(
    peaks: Any, make: Callable[..., Targets], tmp_path: Path
) -> None:
    """Of the same weights with other noise, which the name of the file does not tell apart."""
    model, other = peaks(), peaks()
    model.fingerprint = other.fingerprint = "weights-17"
    other.draw = lambda generator, batch: (peaks.draw(other, generator, batch)[0].flip(0), None)
    pairs = Pairs(make(checkpoint=model), 4, 0)
    good = pairs.training[0].target
    theirs = make(checkpoint=other).block("train", 0).target
    assert len(cached(tmp_path)) == 1 and not torch.equal(theirs, good)
    assert torch.equal(pairs.training[0].target, good)


@pytest.mark.parametrize("values", [[[1.0, 3.0]], [[0.0], [4.0]], [[2.0, 2.0]], [[2.0]]])
def test_the_deviation_is_that_of_all_elements_and_never_zero(values: list[list[float]]) -> None:
    blocks = [Block(0, t, None, t) for t in map(torch.tensor, values)]
    elements: Tensor = torch.cat([block.target for block in blocks]).double()
    expected = float(elements.std()) if len(elements) > 1 and bool((elements != elements[0]).any()) else 1.0
    assert deviation(blocks) == pytest.approx(expected)


def test_the_cache_is_in_the_users_cache_folder(
    commands: Any, peaks: Any, no_cache_of_the_user: Path, tmp_path: Path
) -> None:
    arguments = ("--steps", 2, "--pairs", 8, "--teacher", "euler:4", "--iterations", 1)
    assert commands.distill(peaks(), *arguments).status == 0
    assert cached(no_cache_of_the_user / "dyweight" / "targets")
    before = cached(no_cache_of_the_user)
    assert commands.distill(peaks(), *arguments, "--seed", 1, "--cache", tmp_path / "mine").status == 0
    assert commands.distill(peaks(), *arguments, "--seed", 2, "--no-keep-targets").status == 0
    assert cached(no_cache_of_the_user) == before and cached(tmp_path / "mine")


def test_the_second_run_calls_no_teacher(commands: Any, peaks: Any, quick_pictures: None, tmp_path: Path) -> None:
    arguments = ("--steps", 2, "--pairs", 16, "--validation-pairs", 8, "--teacher", "ipndm:20", "--iterations", 4)
    totals = []
    for report in ("first", "second"):
        checkpoint = peaks()
        outcome = commands.distill(checkpoint, *arguments, "--report", tmp_path / report)
        calls = outcome.report(tmp_path / report)["network_calls"]
        assert calls["total"] == calls["forward"] + 2 * calls["backward"]
        totals.append(calls["total"])
    trained = SolverFile.read(outcome.out).provenance["pairs"]
    assert trained >= 16 and totals[0] - totals[1] == 20 * (trained + 8)
