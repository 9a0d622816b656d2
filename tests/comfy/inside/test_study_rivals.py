"""The tables of ComfyUI's samplers in the study of rivals are what its code does."""

from types import SimpleNamespace

import pytest
import torch

NAMES = ("euler", "dpmpp_2m", "ipndm", "uni_pc", "deis", "res_multistep", "er_sde")
each_kind = pytest.mark.parametrize("flow", [True, False], ids=["flow", "polynomial"])


@pytest.fixture(scope="session")
def study(beside_comfyui):
    """The study's tables beside ComfyUI, whose own modules stay first."""
    import benchmarks.studies.comfy_samplers as module

    assert set(module.OWN) < set(module.NAMES) == set(NAMES) and module.missing() is None
    return module


def schedule(pack, flow):
    known = pack.dyweight.schedules
    return known.flow(6, 3.0) if flow else known.polynomial(6, 0.02, 15.0)


def denoise(x, sigma):
    """Nonlinear in both."""
    return torch.tanh(1.3 * x) / (1 + sigma.reshape(-1, 1))


@each_kind
@pytest.mark.parametrize("name", NAMES)
def test_a_table_ends_where_comfyuis_function_ends(pack, study, name, flow):
    sigmas = schedule(pack, flow)
    noise = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)) * sigmas[0]

    def model(x, sigma, **extra):
        return denoise(x, sigma)

    sampling = study._model_sampling(flow)
    model.inner_model = SimpleNamespace(model_patcher=SimpleNamespace(get_model_object=lambda name: sampling))
    options = {"noise_scaler": lambda x: x, "s_noise": 0.0} if name == "er_sde" else {}
    run = study._function(name)
    expected = run(model, noise.float(), sigmas.float(), extra_args={}, disable=True, **options)
    plan = study.plan(name, sigmas, flow)
    found = pack.dyweight.sample(
        denoise, noise.double(), pack.dyweight.Plan(plan.sigmas, plan.query_sigmas, plan.gains)
    )
    torch.testing.assert_close(found.float(), expected.float(), rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert plan.network_calls == 6


@each_kind
@pytest.mark.parametrize("name", ["euler", "dpmpp_2m"])
def test_where_both_have_a_solver_the_tables_are_one(pack, study, name, flow):
    sigmas = schedule(pack, flow)
    found, expected = study.plan(name, sigmas, flow), pack.dyweight.baselines.plan(name, sigmas)
    torch.testing.assert_close(found.gains, expected.gains, rtol=0, atol=1e-5)
