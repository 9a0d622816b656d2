"""A schedule that belongs to a LoRA becomes a coefficient file, which samples as the handcrafted solver does."""

import pytest
import torch

import dyweight
from dyweight import baselines
from trainer.convert import main

SIGMAS = "1,0.9375,0.833,0.6,0.3,0"


@pytest.mark.parametrize("sampler", [*baselines.NAMES, "ipndm:2"])
def test_the_file_is_the_sampler_on_these_sigmas(tmp_path, capsys, sampler):
    out = tmp_path / "turbo.safetensors"
    options = ["--sigmas", SIGMAS, "--sampler", sampler, "--made-for", "a turbo LoRA", "--model-family", "QwenImage"]
    assert main([*options, str(out)]) == 0
    found = dyweight.SolverFile.read(out)
    name, _, order = sampler.partition(":")
    sigmas = torch.tensor([float(sigma) for sigma in SIGMAS.split(",")], dtype=torch.float64)
    expected = baselines.plan(name, sigmas, int(order) if order else None)
    plan = found.solver.plan()
    for made, wanted in zip(
        (plan.gains, plan.query_sigmas, plan.sigmas),
        (expected.gains, expected.query_sigmas, expected.sigmas),
        strict=True,
    ):
        torch.testing.assert_close(made, wanted, rtol=1e-12, atol=1e-12)
    order_of = baselines.checked_order(name, int(order) if order else None)
    said = {"model": "a turbo LoRA", "method": f"by hand: {name}:{order_of}", "model_family": "QwenImage"}
    assert found.provenance == said
    printed = capsys.readouterr().out
    assert f"{sampler}: 5 steps, {expected.network_calls} network calls" in printed and str(out) in printed


def test_it_is_euler_where_no_sampler_is_named(tmp_path):
    assert main([str(tmp_path / "a.safetensors"), "--sigmas", "1,0.5,0"]) == 0
    assert dyweight.SolverFile.read(tmp_path / "a.safetensors").provenance["method"] == "by hand: euler:1"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sigmas", "1,0.5;0"], "--sigmas 1,0.5;0: give numbers"),
        (["--sigmas", "1,0.5,0.5"], "decrease"),
        (["--sigmas", "1"], "--sigmas 1 "),
        (["--sigmas", "1,0", "--sampler", "eular"], "did you mean euler"),
        (["--sigmas", "1,0", "--sampler", "lcm"], "The solvers are euler"),
        (["--sigmas", "1,0.5,0", "--sampler", "ipndm:9"], "give 1 to 4"),
        (["--sigmas", "1,0.5,0", "--sampler", "ipndm:two"], "NAME:ORDER"),
    ],
    ids=str,
)
def test_what_makes_no_solver_is_one_line(tmp_path, capsys, options, said):
    assert main([*options, str(tmp_path / "a.safetensors")]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["OUT"], "give a SOURCE, or --sigmas"),
        (["a.pt", "OUT", "--sigmas", "1,0"], "a.pt and --sigmas: give only one"),
        (["a.pt", "OUT", "--made-for", "x"], "--made-for is for --sigmas"),
    ],
)
def test_options_that_nothing_would_read_are_named(capsys, options, said):
    with pytest.raises(SystemExit):
        main(options)
    assert said in capsys.readouterr().err
