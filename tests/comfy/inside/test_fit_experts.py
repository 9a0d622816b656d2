"""Fit Solver (DyWeight) with two models, as Wan 2.2 has them: one file for both, that of the command line."""

import sys
from pathlib import Path

import pytest
import tiny_models
import torch
import trained_flux
from safetensors.torch import save_file
from sampling_tools import call, latent, model
from test_fit import FEW, run  # noqa: F401
from test_two_experts import BOUNDARY, files, models  # noqa: F401

SEEDS = (1, 2, 3, 4)
"""Of the prompts."""


def fit(models, **changed):  # noqa: F811
    given = {"model": models[0], "model_low": models[1], "boundary": BOUNDARY, "steps": "3", **changed}
    inputs = trained_flux.fit_inputs(latent_image=latent("wan"), **given)
    return call("DyWeightFit", **inputs, positive=[tiny_models.conditioning("wan", seed) for seed in SEEDS])


def test_the_numbers_are_those_of_the_command_line(run, pack, files, models, tmp_path, monkeypatch):  # noqa: F811
    sys.path.append(str(Path(pack.__file__).parent))
    import trainer.fit.budget
    from trainer.distill import distill
    from trainer.options.distill import DistillOptions

    monkeypatch.setattr(trainer.fit.budget, "DRAFT", FEW)
    made = fit(models)
    assert made.path is not None and made.solver.handover == 2
    assert fit(models, name="another").path == made.path

    texts = torch.cat([tiny_models.conditioning("wan", seed)[0][0] for seed in SEEDS])
    save_file({"cross_attn": texts}, tmp_path / "conditions.safetensors")
    high, low = (str(files / f"{name}.safetensors") for name in ("high", "low"))
    options = {"ckpt": high, "ckpt_low": low, "boundary": BOUNDARY, "conditioning": tmp_path / "conditions.safetensors"}
    options |= {"width": 64, "frames": 9, "cfg": 1.0, "steps": (3,), "effort": "draft", "keep_targets": False}
    own = distill(DistillOptions(**options, out=tmp_path / "own.safetensors")).file
    assert made.content.settings() == own.content.settings()
    ours, theirs = made.solver.state_dict(), own.solver.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    of_files = {"model", "model_low", "conditions_digest", "prompts_file", "negative", "dtype", "lora", "frames"}
    differing = {name for name, value in own.provenance.items() if made.provenance.get(name) != value}
    assert differing <= {*of_files, "text_encoders"}
    assert made.provenance["sketch"] == own.provenance["sketch"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"guider": object()}, "instead of guider"),
        ({"model_low": "sd3"}, "model_low: it is SD3, and the first model is WAN21_T2V"),
        ({"boundary": 5.0}, "boundary is 5.0: give a noise level between"),
    ],
)
def test_what_is_no_second_half_is_refused(run, models, changed, reason):  # noqa: F811
    if changed.get("model_low") == "sd3":
        changed = {"model_low": model("sd3")}
    with pytest.raises(ValueError, match=reason):
        fit(models, **changed)
