"""The study of transfer: a solver on its own schedule is itself, and the quick mode has the whole matrix."""

import json

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.models import digits_exploding, digits_shifted
from benchmarks.studies import transfer
from benchmarks.studies.common import TINY_FLUX
from dyweight import DyWeight, schedules
from dyweight.placement import place
from trainer.checkpoints.builtin import digits


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Numbers of `--quick`."""
    folder = tmp_path_factory.mktemp("transfer")
    assert transfer.main(["--quick", "--out", str(folder)]) == 0
    assert (folder / "study-transfer.png").stat().st_size > 10_000
    return json.loads((folder / "transfer.json").read_text("utf-8"))["gauss-newton"]["3"]


def random_solver(sigmas, seed):
    generator = torch.Generator().manual_seed(seed)
    solver = DyWeight(sigmas, order=3).requires_grad_(False)
    solver.weights.mul_(1 + 0.05 * torch.randn(solver.weights.shape, generator=generator, dtype=torch.float64))
    solver.time_scale.mul_(0.9)
    return solver


@pytest.mark.parametrize("checkpoint", [digits.checkpoint, digits_shifted, digits_exploding])
def test_a_solver_carried_to_its_own_schedule_is_itself(checkpoint):
    model = checkpoint()
    solver = random_solver(model.schedule(5), seed=0)
    plan, own = transfer.carried(solver, model), solver.plan()
    for name in ("sigmas", "query_sigmas", "gains"):
        torch.testing.assert_close(getattr(plan, name), getattr(own, name), rtol=1e-12, atol=0)
        torch.testing.assert_close(
            getattr(place(solver, model.schedule(5)).plan, name), getattr(own, name), rtol=1e-12, atol=0
        )


def test_weights_that_reach_time_zero_too_early_have_no_plan():
    solver = random_solver(schedules.flow(3), seed=0)
    solver.weights[0, 0] = 4.0
    assert transfer.carried(solver, digits.checkpoint()) is None
    assert transfer.cell([None]) == "no plan"
    assert transfer.cell([0.25, None, 0.75]) == "0.5 (0.25 to 0.75), 1 without a plan"


def test_the_diagonal_is_the_native_error(quick):
    assert list(quick) == ["digits", "digits_shifted", "digits_exploding"]
    for name, row in quick.items():
        assert list(row["coefficients"]) == list(quick)
        assert row["coefficients"][name] == pytest.approx(row["native"], rel=1e-9)
        assert row["own schedule"][name] == pytest.approx(row["native"], rel=1e-9)
        assert row["placed"][name] == pytest.approx(row["native"], rel=1e-9)


def test_the_native_coefficients_are_the_best_of_a_row(quick):
    for row in quick.values():
        foreign = [error for values in row["coefficients"].values() for error in values if error is not None]
        assert min(row["native"]) == pytest.approx(min(foreign))
        assert min(row["native"]) < min(row["handcrafted"].values())


def test_a_flow_solver_on_its_own_schedule_serves_every_shift_of_the_model(quick):
    """The same network: a shift is a matter of the schedule alone."""
    for name, other in (("digits", "digits_shifted"), ("digits_shifted", "digits")):
        assert quick[name]["own schedule"][other] == pytest.approx(quick[other]["native"], rel=0.05)
    assert quick["digits"]["own schedule"]["digits_exploding"] == [None]


def test_without_comfyui_the_flux_is_left_out_and_the_study_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    assert transfer.main(["--quick", "--models", "tiny-flux", "--out", str(tmp_path)]) == 0
    assert "tiny-flux is left out: COMFYUI_PATH is" in capsys.readouterr().out


def test_the_lora_has_a_pair_of_matrices_for_layers_of_the_tiny_flux():
    weights, lora = load_file(TINY_FLUX), load_file(transfer.LORA)
    layers = {name.removeprefix("diffusion_model.").rpartition(".lora_")[0] for name in lora}
    assert len(layers) == len(lora) / 2 == 12
    for layer in layers:
        up, down = (lora[f"diffusion_model.{layer}.lora_{end}.weight"] for end in ("up", "down"))
        assert (up @ down).shape == weights[f"{layer}.weight"].shape
        assert (up @ down).abs().max() > 0.01
