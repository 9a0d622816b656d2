"""The authors' own files become coefficient files that sample as a textbook loop does with the same numbers."""

import math

import pytest
import torch

import dyweight
from dyweight import schedules
from tests.trainer.published.files import (
    FLUX_TIME_SCALE,
    FLUX_WEIGHTS,
    RUN_TIME_SCALE,
    RUN_WEIGHTS,
    flux_file,
    pickled,
    training_run,
)
from trainer.convert import convert, main
from trainer.run.errors import TrainerError

NOISE = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.safetensors"


@pytest.fixture
def converted(tmp_path, out):
    """The solver of a training pickle with other values where given, written at the place of the authors' 40th run."""

    def convert_run(**changes):
        run = tmp_path / "exps" / "00040-mscoco-nfe8" / "network-snapshot-000005.pkl"
        run.parent.mkdir(parents=True)
        run.write_bytes(pickled(training_run(**changes)))
        return convert([str(run)], out)

    return convert_run


def textbook(x, points, weights, slope):
    """The authors' sampler. slope(x, time, step); weights: the oldest slope first."""
    time, slopes = points[0], []
    for n, row in enumerate(weights):
        slopes.append(slope(x, time, n))
        step = points[n + 1] - time
        x = x + step * sum(row[j] * slopes[j] for j in range(n + 1))
        time += step * sum(row)
    return x


def test_a_flux_file_samples_as_the_textbook_says(tmp_path, out):
    def velocity(x, sigma):
        return torch.sin(2 * x) * (1 - sigma / 3) + 0.3 * x

    solver = convert([str(flux_file(tmp_path / "dyweight_nfe3.pt"))], out)
    shift = math.exp(0.5 + 0.65 * (1024 - 256) / (4096 - 256))
    points = [shift / (shift + 1 / t - 1) if t else 0.0 for t in (1, 2 / 3, 1 / 3, 0)]
    x = textbook(NOISE, points, FLUX_WEIGHTS, lambda x, time, n: velocity(x, FLUX_TIME_SCALE[n] * time))
    ended = dyweight.sample(lambda x, sigma: x - sigma[:, None] * velocity(x, sigma[0].item()), NOISE, solver.plan())
    assert torch.allclose(ended, x, atol=1e-6)
    assert not torch.allclose(NOISE, x, atol=0.1)


def test_a_training_pickle_samples_as_the_textbook_says(converted):
    def predicted(x, sigma):
        return torch.tanh(x / (1 + sigma**2))

    def slope(x, time, n):
        return (x - predicted(x, time * RUN_TIME_SCALE[n - 1])) / time if n else x / math.sqrt(1 + time**2)

    solver = converted()
    points = [(80 ** (1 / 7) + n / 4 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for n in range(5)]
    x = textbook(80 * NOISE, points, RUN_WEIGHTS, slope)
    ended = dyweight.sample(lambda x, sigma: predicted(x, sigma[0].item()), 80 * NOISE, solver.plan())
    assert torch.allclose(ended, x, rtol=1e-5, atol=1e-5)
    assert solver.network_calls == 3


def test_a_flux_file_says_for_what_it_is(tmp_path, out):
    folder = tmp_path / "dyweight_flux" / "checkpoints"
    folder.mkdir(parents=True)
    assert main([str(flux_file(folder / "dyweight_nfe3.pt")), str(out)]) == 0
    solver = dyweight.load_solver(out)
    assert (solver.order, solver.slope, solver.analytic_first_step) == (2, "query", False)
    assert dyweight.SolverFile.read(out).provenance == {
        **{"model": "flux1-dev", "model_family": "Flux", "prediction_type": "flow", "shape": [16, 64, 64]},
        **{"cfg": 1.0, "shift": 0.63, "guidance": 3.5, "teacher": "28 steps", "loss": "latent mse", "method": "adam"},
        "made_by": "the authors of DyWeight (arXiv 2603.11607)",
        "source": "dyweight_flux/checkpoints/dyweight_nfe3.pt",
    }


def test_a_training_pickle_says_for_what_it_is(converted, out):
    guided = {"guidance_type": "cfg", "guidance_rate": 7.5, "afs": False, "enable_t_scale_learning": False}
    solver = converted(predictor=guided, dataset_name="ms_coco", schedule_type="discrete", loss_type="l2")
    assert (solver.order, solver.slope, solver.analytic_first_step) == (3, "state", False)
    assert torch.allclose(solver.sigmas, schedules.vp_discrete(4))
    assert solver.time_scale.tolist() == [1, 1, 1, 1], "they were not learned"
    kept = dyweight.SolverFile.read(out).provenance
    assert (kept["model_family"], kept["cfg"], kept["loss"]) == ("SD15", 7.5, "l2")
    assert kept["source"] == "exps/00040-mscoco-nfe8"


def test_the_sigmas_of_the_run_are_taken_where_the_recipe_is_the_networks(converted):
    sigmas = torch.tensor([83.8, 10.9, 2.8, 1.0, 0.04])
    solver = converted(dataset_name="lsun_bedroom_ldm", schedule_type="discrete", t_steps=sigmas)
    assert torch.equal(solver.sigmas, sigmas.double())


def test_the_kind_is_told_by_the_content_and_a_path_may_have_a_colon(tmp_path, out):
    misnamed = flux_file(tmp_path / "solver.pt").rename(tmp_path / "a:solver.json")
    assert convert([str(misnamed)], out).steps == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dyweight_t_scales": torch.ones(2)}, r"odd.pt.* dyweight_t_scales has the shape \[2\], not \[3\]"),
        ({"dyweight_weights_raw": torch.ones(3, 3)}, r"odd.pt.* slopes other than the newest 2"),
        ({"dyweight_weights_raw": torch.full((3, 3), torch.nan).tril().triu(-1)}, r"odd.pt.* not finite"),
        ({"dyweight_weights_raw": 9 * torch.eye(3)}, r"odd.pt.* both must be above 0"),
        ({"dyweight_weights_raw": [1.0]}, r"odd.pt.* dyweight_weights_raw is not a tensor"),
        ({"window_size": -1}, r"odd.pt.* its window"),
        ({"dyweight_meta": None}, r"odd.pt.* damaged, or not a file of the authors"),
    ],
)
def test_a_flux_file_that_makes_no_solver_is_named_and_nothing_is_written(tmp_path, out, changes, message):
    with pytest.raises(TrainerError, match=message):
        convert([str(flux_file(tmp_path / "odd.pt", **changes))], out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickled({"predictor": 1}), "no DyWeight_predictor under 'predictor'"),
        (pickled([1, 2]), "not a training pickle of the authors"),
        (pickled(training_run(schedule_type="discrete", dataset_name="other")), "no sigmas are given"),
        (pickled(training_run(predictor={"guidance_type": "cfg", "guidance_rate": math.nan})), "a coefficient file"),
        *((content, "damaged, or not a file of the authors") for content in (b"hello", b"", b"[]", b"{")),
        (bytes(2 << 20), "not a file of coefficients"),
    ],
)
def test_another_file_is_named_and_nothing_is_written(tmp_path, out, capsys, content, message):
    (tmp_path / "other.bin").write_bytes(content)
    assert main([str(tmp_path / "other.bin"), str(out)]) == 2
    said = capsys.readouterr().err
    assert message in said and "other.bin" in said and said.count("\n") == 1
    assert not out.exists()


def test_a_file_that_is_not_there_is_named(tmp_path, out, capsys):
    assert main([str(tmp_path / "missing.pt"), str(out)]) == 2
    assert "missing.pt" in capsys.readouterr().err
