"""The synthetic experiment of INDIS: the tree is exact, the searches are optimal, the students keep their order."""

import json
import math

import pytest
import torch

from benchmarks.tree import Tree, checkpoint
from benchmarks.tree.__main__ import STUDY
from benchmarks.tree.divergences import BANDWIDTH, kl_divergence, wasserstein
from benchmarks.tree.learned import Iterations
from benchmarks.tree.schedules import best_of_three, errors
from benchmarks.tree.study import Case, Sizes, study
from dyweight import baselines
from trainer.checkpoints.builtin.gmm import GaussianMixture
from trainer.checkpoints.load import load_checkpoint


@pytest.fixture(scope="module")
def case():
    return Case(checkpoint(), seed=5, evaluation=256)


@pytest.fixture(scope="module")
def best(case):
    return best_of_three(case.network, case.unseen, levels=10)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """(what `--quick` writes, the folder)."""
    folder = tmp_path_factory.mktemp("tree")
    assert STUDY.main(["--quick", "--out", str(folder)]) == 0
    return json.loads((folder / "tree.json").read_text("utf-8"))["numbers"]["experiment"], folder


def test_the_denoiser_is_the_mean_of_the_tree_given_the_noisy_point():
    """By a million points of the tree, each weighted with how likely it makes the noisy one."""
    tree, generator = checkpoint(), torch.Generator().manual_seed(0)
    points = tree.points(generator, 1_000_000).double()
    for sigma in (0.3, 1.0, 2.0):
        x = torch.randn(6, 2, generator=generator)
        weights = torch.softmax(-(torch.cdist(x.double(), points) ** 2) / (2 * sigma**2), dim=1)
        exact = tree.denoise(x, torch.full((6,), sigma))
        torch.testing.assert_close(exact.double(), weights @ points, atol=0.01, rtol=0)


def test_the_denoiser_is_that_of_the_trainers_mixture():
    tree, generator = checkpoint(), torch.Generator().manual_seed(1)
    sigma = torch.logspace(-2, 1, 200)
    x = tree.points(generator, 200) + sigma[:, None] * torch.randn(200, 2, generator=generator)
    assert torch.allclose(tree.denoise(x, sigma), GaussianMixture.denoise(tree, x, sigma), atol=1e-4)


@pytest.mark.parametrize(("trunks", "generations"), [(1, 1), (2, 3), (3, 5)])
def test_every_branch_but_a_trunk_leaves_the_end_of_another(trunks, generations):
    tree = Tree(trunks=trunks, generations=generations, ratio=0.4)
    assert len(tree.branches) == trunks * (2**generations - 1)
    for branch in tree.branches:
        length = abs(branch.end - branch.start)
        assert math.isclose(length, 0.4**branch.generation)
        before = [b for b in tree.branches if b.generation == branch.generation - 1]
        assert branch.start == 0 if branch.generation == 0 else any(b.end == branch.start for b in before)


def test_a_generation_has_so_many_times_the_mass_of_the_one_before():
    tree = Tree(generations=4, growth=2.5, components=2)
    generation = torch.tensor([b.generation for b in tree.branches]).repeat_interleave(2)
    mass = torch.stack([tree.weights[generation == g].sum() for g in range(4)])
    torch.testing.assert_close(mass[1:] / mass[:-1], torch.full((3,), 2.5))


def test_the_trainer_takes_the_tree_as_a_checkpoint():
    tree = load_checkpoint("benchmarks.tree:checkpoint")
    sigmas = tree.schedule(4)
    assert sigmas.tolist() == [2.0, 1.5, 1.0, 0.5, 0.0]
    noise, _ = tree.draw(torch.Generator().manual_seed(0), 20_000)
    assert math.isclose(float(noise.std()), float(sigmas[0]), rel_tol=0.02)


def test_oracle_shared_and_uniform_keep_their_order_on_the_same_samples(case, best):
    shared = errors(case.network, case.unseen, baselines.plan("euler", best.shared))
    own = errors(case.network, case.unseen, baselines.plan("euler", best.own))
    uniform = errors(case.network, case.unseen, case.uniform(3))
    assert bool((own <= shared + 1e-9).all())
    assert float(own.mean()) < float(shared.mean()) < float(uniform.mean())
    assert math.isclose(float(shared.mean()), best.shared_error, rel_tol=1e-6)
    torch.testing.assert_close(own, best.own_errors)


def test_no_random_schedule_beats_the_searches(case, best):
    """Not the shared one in the mean, and hardly ever a sample's own."""
    generator = torch.Generator().manual_seed(0)
    beaten = torch.zeros(len(best.own), dtype=torch.bool)
    for _ in range(200):
        inner = 2 * torch.rand(2, generator=generator, dtype=torch.float64).sort(descending=True).values
        tried = errors(case.network, case.unseen, baselines.plan("euler", torch.tensor([2, *inner, 0])))
        assert float(tried.mean()) >= best.shared_error
        beaten |= tried < 0.98 * best.own_errors - 1e-6
    assert float(beaten.double().mean()) < 0.02


def test_a_schedule_for_each_sample_helps_less_where_sigma_goes_far(case, best):
    far = Case(Tree(sigma_max=20.0), seed=5, evaluation=256)
    assert best_of_three(far.network, far.unseen, levels=10).gain < 0.75 * best.gain


@pytest.mark.slow
def test_phi_lies_between_oracle_and_shared_on_samples_it_has_not_seen(quick):
    (done,) = quick[0]["studies"]
    three = done["three"]
    assert three["mse"]["oracle"] < three["mse"]["phi"] < three["mse"]["best shared"] < three["mse"]["uniform"]
    assert three["recovered"] > 0.4
    assert 0.35 < three["gain"] < 0.65


@pytest.mark.slow
def test_more_calls_and_better_schedules_come_nearer_to_the_teacher(quick):
    (done,) = quick[0]["studies"]
    curves = done["curves"]
    for field in ("mse", "wasserstein"):
        for calls in ("3", "5"):
            by_name = [curves[name][calls][field] for name in ("phi", "best shared", "uniform")]
            assert by_name == sorted(by_name)
        assert all(curve["5"][field] < curve["3"][field] for curve in curves.values())
    assert all(distance["kl"] > 0 for curve in curves.values() for distance in curve.values())


@pytest.mark.slow
def test_the_command_writes_its_pictures(quick):
    for name in ("tree-noise.png", "tree-calls.png"):
        assert (quick[1] / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_seed_gives_the_same_figures_again_and_another_seed_others(tmp_path):
    sizes = Sizes((3,), 128, 64, 4, Iterations(shared=3, phi=3))
    first, again, other = (study(checkpoint(), seed, sizes, tmp_path / str(i))[0] for i, seed in enumerate((3, 3, 4)))
    assert first == again
    assert first.three.mse["phi"] != other.three.mse["phi"]


def test_the_divergence_of_two_gaussians_is_the_known_one():
    """Both smoothed, so of variance 0.1^2 + bandwidth^2, and 0.2 apart."""
    generator = torch.Generator().manual_seed(0)
    p, q = (0.1 * torch.randn(20_000, 2, generator=generator) for _ in range(2))
    shift = torch.tensor([0.2, 0.0])
    assert math.isclose(kl_divergence(p, q + shift), 0.2**2 / (2 * (0.01 + BANDWIDTH**2)), rel_tol=0.1)
    assert kl_divergence(p, p) == 0


def test_the_wasserstein_distance_of_a_moved_set_is_the_way_it_moved():
    points = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    shuffled = points[torch.randperm(200, generator=torch.Generator().manual_seed(1))]
    assert wasserstein(points, shuffled) == pytest.approx(0, abs=1e-6)
    assert wasserstein(points, shuffled + torch.tensor([3.0, 4.0])) == pytest.approx(5, rel=1e-6)
    with pytest.raises(ValueError, match="200 and 100 points"):
        wasserstein(points, points[:100])
