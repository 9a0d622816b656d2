"""Runs of several processes: the same file as one process writes, and no waiting for one that died."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.ports import reserved_port
from trainer.run.cluster import Cluster

ROOT = Path(__file__).parents[3]
LIMIT = 600
slow = pytest.mark.slow
GAUSS_NEWTON = ("--pairs", 40, "--validation-pairs", 24, "--iterations", 3)
ADAM = ("--method", "adam", "--pairs", 48, "--validation-pairs", 32, "--iterations", 7)
GUIDED = (*GAUSS_NEWTON, "--ckpt", "benchmarks.models:digits_guided", "--learn-guidance", "--unconditional-calls", 2)
RUNS = {
    "gauss-newton": GAUSS_NEWTON,
    "gauss-newton, huber": (*GAUSS_NEWTON, "--loss", "huber", "--validation-pairs", 8),
    "adam": ADAM,
    "indis": (*ADAM, "--family", "indis"),
    "adam, more processes than pairs": (*ADAM, "--batch", 2, "--no-keep-targets"),
    "gauss-newton, more processes than batches": (*GAUSS_NEWTON, "--pairs", 4),
    "learned guidance, more processes than batches": (*GUIDED, "--pairs", 4, "--calls", 6400),
}
PROCESSES = dict(zip(RUNS, (2, 3, 2, 2, 3, 2, 2), strict=True))
HOST = socket.gethostname()
ON_RANK_1 = "if __import__('os').environ.get('RANK') == '1' and {when}: "
AT_CALL_150 = "self.calls == 150"
DIE = ON_RANK_1 + f"__import__('os').kill(__import__('os').getpid(), {int(signal.SIGKILL)})"


class Machines:
    """Starts `trainer.distill` in one process or many."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = "tests.trainer.run.patient_distill"

    def alone(self, *options: object, out: str = "alone") -> Path:
        done = self._finished(self._start([sys.executable], out, options))
        assert done.returncode == 0, done.stderr
        return self.folder / f"{out}.safetensors"

    def torchrun(self, count: int, *options: object, out: str = "together") -> subprocess.CompletedProcess[str]:
        """So many processes on one machine."""
        with reserved_port() as port:
            return self._finished(self._torchrun(count, 1, 0, port, out, options))

    def two_machines(self, *options: object) -> list[subprocess.CompletedProcess[str]]:
        """One process on each; they share no folder."""
        with reserved_port() as port:
            started = [self._torchrun(1, 2, node, port, f"machine-{node}/together", options) for node in range(2)]
            return [self._finished(process) for process in started]

    def without_torchrun(self, *options: tuple[object, ...]) -> list[subprocess.CompletedProcess[str]]:
        """A process for each set of options, whose exit status can be seen."""
        with reserved_port() as port:
            where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(len(options))}
            started = [
                self._start([sys.executable], "together", own, {**where, "RANK": str(rank)})
                for rank, own in enumerate(options)
            ]
            return [self._finished(process) for process in started]

    def _torchrun(
        self, count: int, nodes: int, node: int, port: int, out: str, options: tuple[object, ...]
    ) -> subprocess.Popen[str]:
        where = {"nproc-per-node": count, "nnodes": nodes, "node-rank": node, "master-port": port}
        flags = [f"--{name}={value}" for name, value in {**where, "master-addr": "127.0.0.1"}.items()]
        return self._start([sys.executable, "-m", "torch.distributed.run", *flags], out, options)

    def _start(
        self, launcher: list[str], out: str, options: tuple[object, ...], more: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        path = self.folder / f"{out}.safetensors"
        path.parent.mkdir(exist_ok=True)
        given = ("--cache", path.with_suffix(".cache"), "--teacher", "ipndm:10", "--steps", 3, *options, "--out", path)
        command = [*launcher, "-m", self.program, *map(str, given)]
        environment = {**os.environ, **(more or {})}
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    @staticmethod
    def _finished(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
        try:
            printed, errors = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, printed, errors)


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    return Machines(tmp_path)


@pytest.fixture
def watching(machines: Machines) -> Machines:
    """They notice after 15 s that a process died."""
    machines.program = "trainer.distill"
    return machines


def distance(one: Path, other: Path) -> float:
    """The largest difference of any number in two coefficient files."""
    ours, theirs = load_file(one), load_file(other)
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


@pytest.mark.parametrize(
    ("kind", "count"),
    [pytest.param(kind, count, marks=[slow] if i else []) for i, (kind, count) in enumerate(PROCESSES.items())],
)
def test_the_file_is_that_of_one_process(kind: str, count: int, machines: Machines) -> None:
    options = ("--ckpt", "digits", *RUNS[kind])
    alone, done = machines.alone(*options), machines.torchrun(count, *options)
    assert done.returncode == 0, done.stderr
    assert distance(machines.folder / "together.safetensors", alone) < 1e-5
    told = re.findall("iteration .*", done.stdout)
    assert done.stdout.count("wrote") == 1 and len(told) == len(set(told)) > 1


@slow
def test_the_printed_number_of_calls_is_that_of_all_processes(machines: Machines) -> None:
    """It is kept, by all of them together."""
    report = machines.folder / "report"
    done = machines.torchrun(3, "--ckpt", "digits", *GAUSS_NEWTON, "--report-pairs", 1, "--report", report)
    assert done.returncode == 0, done.stderr
    (most,) = re.findall(r"at most ([\d,]+) network calls by 3 processes", done.stdout)
    lines = re.findall(r"network calls ([\d,]+) of at most ([\d,]+)", done.stdout)
    most, *counts = (int(number.replace(",", "")) for number in (most, *lines[0], *lines[-1]))
    fewer, at_first, made, at_last = counts
    total = json.loads((report / "report.json").read_text())["network_calls"]["total"]
    assert fewer < made <= total <= at_last <= at_first <= most


@slow
def test_two_machines_that_share_no_folder(machines: Machines, peaks_file: Callable[..., str]) -> None:
    options = ("--ckpt", peaks_file(), *GAUSS_NEWTON)
    alone, done = machines.alone(*options), machines.two_machines(*options)
    assert [d.returncode for d in done] == [0, 0], done
    assert distance(machines.folder / "machine-0" / "together.safetensors", alone) < 1e-5
    assert not (machines.folder / "machine-1" / "together.safetensors").exists()
    assert done[1].stdout == ""


@slow
@pytest.mark.parametrize("kind", ["gauss-newton", "adam"])
def test_a_worker_that_dies_is_named_and_resume_goes_on(
    kind: str, watching: Machines, peaks_file: Callable[..., str]
) -> None:
    """Also with another number of processes."""
    kept = watching.folder / "together.safetensors.resume"
    alone = watching.alone("--ckpt", peaks_file(), *RUNS[kind])
    dying = peaks_file(("        pass", "        " + DIE.format(when=f"__import__('os').path.exists({str(kept)!r})")))
    killed = watching.torchrun(2, "--ckpt", dying, *RUNS[kind])
    assert killed.returncode != 0 and f"error: {HOST}:1 died" in killed.stderr
    assert kept.exists()
    resumed = watching.torchrun(3, "--ckpt", peaks_file(), *RUNS[kind], "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming after" in resumed.stdout
    assert distance(watching.folder / "together.safetensors", alone) < 1e-5


@slow
def test_a_worker_that_dies_on_another_machine_is_named(watching: Machines, peaks_file: Callable[..., str]) -> None:
    dying = peaks_file(("        pass", "        " + DIE.format(when=AT_CALL_150)))
    first, second = watching.two_machines("--ckpt", dying, *GAUSS_NEWTON)
    assert first.returncode != 0 and second.returncode != 0
    assert f"error: {HOST}:1 died" in first.stderr and "exitcode  : 2" in first.stderr


def test_an_error_of_one_process_stops_all_with_its_message(machines: Machines, peaks_file: Callable[..., str]) -> None:
    bad = peaks_file(
        ("        return (0.1 * x", "        if hasattr(self, 'bad'): x = x * float('nan')\n        return (0.1 * x"),
        ("        pass", "        " + ON_RANK_1.format(when=AT_CALL_150) + "self.bad = True"),
    )
    done = machines.without_torchrun(*[("--ckpt", bad, *GAUSS_NEWTON)] * 2)
    for process in done:
        assert process.returncode == 2, process.stderr
        assert f"error: {HOST}:1: pair " in process.stderr and "not finite" in process.stderr
        assert "Traceback" not in process.stderr


@slow
def test_processes_that_were_started_differently_are_told_apart(machines: Machines) -> None:
    done = machines.without_torchrun(
        ("--ckpt", "digits", *GAUSS_NEWTON), ("--ckpt", "digits", *GAUSS_NEWTON, "--seed", 4)
    )
    for process in done:
        assert process.returncode == 2
        assert f"{HOST}:1 has seed = 4, {HOST}:0 has 0" in process.stderr


@slow
def test_a_process_that_fails_before_the_others_begin_is_named(machines: Machines) -> None:
    done = machines.without_torchrun(("--ckpt", "digits", *GAUSS_NEWTON), ("--ckpt", "nowhere.py:make", *GAUSS_NEWTON))
    for process in done:
        assert process.returncode == 2 and f"{HOST}:1: --ckpt" in process.stderr


@slow
def test_a_condition_that_can_not_be_cut_gives_the_same_file(
    machines: Machines, peaks_file: Callable[..., str]
) -> None:
    """One process then takes all pairs of a batch; a shift as long as the batch must not be taken for one by pair."""
    class_ = "class Shift:\n    def __init__(self, value):\n        self.value = value\n\nclass Peaks:"
    shifts = {"object": "Shift(torch.randn(batch, 4, generator=generator))", "tensor": "torch.ones(batch)"}
    uses = {"object": "x = x + cond.value", "tensor": "x = x + cond.sum()"}
    for kind, shift in shifts.items():
        model = peaks_file(
            ("class Peaks:", class_),
            ("generator=generator), None", f"generator=generator), {shift}"),
            ("        square =", f"        {uses[kind]}\n        square ="),
            name=f"{kind}.py",
        )
        alone = machines.alone("--ckpt", model, *ADAM, out=f"{kind}-alone")
        done = machines.torchrun(2, "--ckpt", model, *ADAM, out=kind)
        assert done.returncode == 0, done.stderr
        assert distance(machines.folder / f"{kind}.safetensors", alone) < 1e-5


def test_alone_a_cluster_changes_nothing_and_talks_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with Cluster.from_environment() as cluster:
        values = torch.randn(4, dtype=torch.float64)
        assert torch.equal(cluster.sum(values), values)
        assert cluster.gather("a") == ["a"] and cluster.from_first(lambda: 3) == 3
        assert cluster.first and all(cluster.mine(i) for i in range(5))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("devices", "told"),
    [
        (("cuda:0", "cuda:0", "cuda:1"), f"warning: 2 processes share cuda:0 of {HOST}: "),
        (("cuda:0", "cuda:1", "cuda:2"), ""),
        (("cpu", "cpu", "cpu"), ""),
    ],
)
def test_processes_that_share_a_gpu_are_told_and_those_that_share_a_cpu_are_not(
    devices: tuple[str, ...], told: str
) -> None:
    store = torch.distributed.HashStore()
    everyone = [Cluster(rank, len(devices), store) for rank in range(len(devices))]
    with ThreadPoolExecutor(len(devices)) as pool:
        found = list(pool.map(lambda one: one[0].sharing(torch.device(one[1])), zip(everyone, devices, strict=True)))
    assert found == found[:1] * len(devices) and found[0].startswith(told) and bool(found[0]) == bool(told)


@slow
def test_the_first_process_is_named_when_it_dies(watching: Machines, peaks_file: Callable[..., str]) -> None:
    """Though the messages went through it."""
    dying = peaks_file(("        pass", "        " + DIE.replace("'1'", "'0'").format(when=AT_CALL_150)))
    first, second = watching.without_torchrun(*[("--ckpt", dying, *GAUSS_NEWTON)] * 2)
    assert first.returncode == -signal.SIGKILL and second.returncode == 2
    assert f"error: {HOST}:0" in second.stderr and "died" in second.stderr and "Traceback" not in second.stderr


@slow
def test_the_report_counts_the_calls_of_all_processes(machines: Machines, peaks_file: Callable[..., str]) -> None:
    """Adam cuts batches: as many calls as alone, but for those of each process's start."""
    options = ("--ckpt", peaks_file(), *ADAM, "--report-pairs", 1)
    machines.alone(*options, "--report", machines.folder / "alone")
    done = machines.torchrun(2, *options, "--report", machines.folder / "together")
    assert done.returncode == 0, done.stderr
    alone, together = (
        json.loads((machines.folder / name / "report.json").read_text())["network_calls"]
        for name in ("alone", "together")
    )
    assert together["backward"] == alone["backward"] > 0
    assert together["total"] == together["forward"] + 2 * together["backward"]
    assert 0 <= together["forward"] - alone["forward"] <= 64
