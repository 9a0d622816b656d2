"""Fit Solver (DyWeight): the fit is the command line's, on what is on the canvas."""

import sys
from pathlib import Path

import pytest
import torch
import trained_flux
from sampling_tools import call


@pytest.fixture(scope="session")
def distill(pack):
    sys.path.append(str(Path(pack.__file__).parent))
    from trainer.distill import distill

    return distill


@pytest.fixture
def fit(pack, user_files, tmp_path, monkeypatch):
    """fit(**inputs): the file that the node makes of the trained tiny FLUX and all its prompts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(**changed):
        given = {"model": trained_flux.model(), **changed}
        return call("DyWeightFit", **trained_flux.fit_inputs(**given), positive=trained_flux.prompts())

    return run


def test_the_file_holds_the_numbers_of_the_command_lines(fit, distill, tmp_path):
    from trainer.options.distill import DistillOptions

    made = fit(name="tiny-%steps%")
    assert made.path.name == "tiny-5.safetensors"
    model = {"ckpt": str(trained_flux.MODEL), "conditioning": trained_flux.CONDITIONS, "width": 64}
    options = DistillOptions(**model, steps=(5,), effort="draft", out=tmp_path / "own.safetensors", keep_targets=False)
    own = distill(options).file
    ours, theirs = made.solver.state_dict(), own.solver.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert {name: made.provenance.get(name) for name in own.provenance if name in made.provenance} == {}
