"""Fit Solver (DyWeight) with two models, as Wan 2.2 has them: one file for both, that of the command line."""

import sys
from pathlib import Path

import comfy.samplers
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


def test_a_step_of_the_usual_workflow_is_a_boundary_too(run, models):  # noqa: F811
    made = fit(models, steps="2", boundary="3/6")
    model_sampling = models[0].get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(model_sampling, "simple", 6)
    assert sigmas[3] < made.provenance["boundary"] < sigmas[2]
    assert made.solver.handover == 1, "half of the steps, as there"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"guider": object()}, "instead of guider"),
        ({"model_low": "sd3"}, "model_low: it is SD3, and the first model is WAN21_T2V"),
        ({"boundary": 5.0}, "boundary is 5.0: give a noise level between"),
        ({"boundary": "half"}, "boundary is half: give a noise level, such as 0.875"),
        ({"boundary": "20/20"}, "boundary is 20/20: give a noise level, such as 0.875"),
        ({"boundary": "0/20"}, "as 10/20"),
    ],
)
def test_what_is_no_second_half_is_refused(run, models, changed, reason):  # noqa: F811
    if changed.get("model_low") == "sd3":
        changed = {"model_low": model("sd3")}
    with pytest.raises(ValueError, match=reason):
        fit(models, **changed)
