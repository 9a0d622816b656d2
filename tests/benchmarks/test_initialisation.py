"""The study of where a fit begins: a table fits on every base schedule, and all have one teacher."""

import json
import math

import pytest
import torch

from benchmarks.studies.initialisation import RESCHEDULED, SCHEDULES, STUDY
from benchmarks.studies.rescheduled import flow_log_snr, gmm_log_snr, gmm_time_uniform
from dyweight import DyWeight, schedules
from trainer.checkpoints.load import load_checkpoint
from trainer.pairs.targets import Targets
from trainer.pairs.teacher import Teacher
from trainer.run.network import Network

BASES = {
    "EDM": schedules.polynomial(4),
    "time-uniform": schedules.polynomial(4, rho=1.0),
    "log-SNR": schedules.log_snr(4),
}


@pytest.mark.slow
def test_the_quick_study_writes_its_numbers_and_its_figure(tmp_path):
    assert STUDY.main(["--quick", "--out", str(tmp_path)]) == 0
    numbers = json.loads((tmp_path / "initialisation.json").read_text("utf-8"))["numbers"]["digits"]
    for part, count in (("weights", 3), ("schedule", 3)):
        assert len(numbers[part]["adam"]) == count
        for variants in numbers[part].values():
            assert all(0 < error < math.inf for by_calls in variants.values() for [error] in by_calls.values())
    assert (tmp_path / "study-initialisation.png").stat().st_size > 10_000


@pytest.mark.parametrize("other", ["time-uniform", "log-SNR"])
def test_a_table_fits_on_every_base_schedule(other):
    """So a base schedule decides where a fit begins, not what it can reach."""
    solver = DyWeight(BASES["EDM"], 3).requires_grad_(False)
    solver.time_scale[:] = torch.tensor([0.9, 1.1, 0.8, 1.2], dtype=torch.float64)
    again = DyWeight(BASES[other], 3).requires_grad_(False).set_table(solver.plan())
    assert torch.allclose(again.plan().gains, solver.plan().gains, rtol=1e-9)
    assert torch.allclose(again.plan().query_sigmas, solver.plan().query_sigmas, rtol=1e-9)


def test_students_get_the_schedule_and_the_teacher_keeps_the_models(tmp_path):
    own = load_checkpoint("gmm")
    other = gmm_time_uniform()
    assert torch.equal(other.schedule(4), schedules.polynomial(4, rho=1.0))
    assert torch.equal(other.schedule(35), own.schedule(35))
    generators = (torch.Generator().manual_seed(3) for _ in range(2))
    assert torch.equal(other.draw(next(generators), 2)[0], own.draw(next(generators), 2)[0])


def test_the_endpoints_are_kept_once_for_all_schedules(tmp_path):
    checkpoints = (load_checkpoint("gmm"), gmm_time_uniform(), gmm_log_snr())
    folders = {Targets(Network(c), Teacher("ipndm", 35), 0, 8, tmp_path).folder for c in checkpoints}
    assert len(folders) == 1


def test_log_snr_times_of_a_flow_run_from_one_to_zero_evenly_in_between():
    times = flow_log_snr(8)
    assert times[0] == 1 and times[-1] == 0 and bool((times[1:] < times[:-1]).all())
    gaps = torch.diff(torch.log(times[1:-1] / (1 - times[1:-1])))
    assert torch.allclose(gaps, gaps[0].expand_as(gaps), rtol=1e-9)


def test_every_schedule_names_a_checkpoint():
    for model, named in SCHEDULES.items():
        for other in filter(None, named.values()):
            if model != "shapes":
                load_checkpoint(f"{RESCHEDULED}:{model}_{other}")
