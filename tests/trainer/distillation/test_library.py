"""The fit as a library."""

from pathlib import Path
from typing import Any

import pytest
import torch

import dyweight
import trainer
from dyweight import SolverFile
from trainer.run.errors import TrainerError


def test_the_library_gives_what_the_command_writes(commands: Any, peaks: Any) -> None:
    told = list[trainer.FitProgress]()
    options: dict[str, Any] = {"calls": 2500, "teacher": "ipndm:12", "batch": 2, "validation_pairs": 2}
    fitted = trainer.fit_solver(peaks((8,)), (2, 3), progress=told.append, **options)
    outcome = commands.distill(
        peaks((8,)), "--steps", "2,3", "--calls", 2500, "--teacher", "ipndm:12", "--batch", 2, "--validation-pairs", 2
    )
    made, written = fitted.solver.tensors(), dyweight.load_solver(outcome.out).tensors()
    assert fitted.solver.steps == (2, 3) and made.keys() == written.keys()
    assert all(torch.equal(value, written[name]) for name, value in made.items())
    assert {line.steps for line in told} == {2, 3} and all(line.solver.steps == line.steps for line in told)
    assert all(line.network_calls <= line.expected_calls <= 2500 for line in told)
    provenance = SolverFile.read(outcome.out).member(3).provenance
    assert fitted.member_errors[3]["kept"] == provenance["endpoint_error_after"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"report": Path("r"), "resume": False}, "leave out report, resume"),
        ({"add": (4,)}, "leave out add"),
        ({"out": Path("a.safetensors")}, "leave out out"),
        ({"keep_targets": True}, "give cache=FOLDER"),
    ],
)
def test_the_library_refuses_what_it_does_not_do(options: dict[str, Any], said: str, peaks: Any) -> None:
    with pytest.raises(TrainerError, match=said):
        trainer.fit_solver(peaks((8,)), 3, **options)


@pytest.mark.parametrize("kept", [True, False])
def test_the_library_keeps_endpoints_where_it_is_told_to(kept: bool, tmp_path: Path, peaks: Any) -> None:
    trainer.fit_solver(peaks((8,)), 2, calls=400, validation_pairs=1, batch=2, cache=tmp_path, keep_targets=kept)
    assert bool(list(tmp_path.rglob("*.safetensors"))) == kept
