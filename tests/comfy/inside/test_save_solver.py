"""Save Solver (DyWeight): a schedule and its sampler become a file that is loaded and found like any other."""

import pytest
import torch
from sampling_tools import advanced, call, custom, difference, model, select, sigmas_of

SIGMAS = torch.tensor([1.0, 0.9375, 0.833, 0.6, 0.3, 0.0])


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m"])
def test_the_saved_file_samples_as_comfyuis_own_sampler(pack, user_files, sampler):
    tiny = model("sd3")
    call("DyWeightSaveSolver", sigmas=SIGMAS, sampler_name=sampler, name="turbo", made_for="a LoRA")
    loaded = call("DyWeightLoadSolver", solver_name="turbo.safetensors")
    sigmas = call("DyWeightScheduler", model=tiny, solver=loaded, denoise=1.0)
    assert torch.equal(sigmas, SIGMAS)
    sampled = custom(tiny, "sd3", call("DyWeightSampler", solver=loaded), sigmas)
    assert difference(sampled, custom(tiny, "sd3", select(sampler), SIGMAS)) < 5e-6


def test_with_a_model_it_is_found_where_no_node_names_it(pack, user_files, caplog):
    tiny = model("sd3")
    inputs = {"sigmas": SIGMAS, "sampler_name": "euler", "name": "sub/turbo", "made_for": ""}
    made = call("DyWeightSaveSolver", **inputs, model=tiny)
    assert made.provenance["model_family"] == "SD3" and made.provenance["model"] == "sub/turbo"
    assert (user_files / "sub" / "turbo.safetensors").is_file()
    assert difference(advanced(tiny, "sd3", 5), custom(tiny, "sd3", select("euler"), SIGMAS)) < 5e-6


def test_nothing_is_overwritten_and_nothing_written_twice(pack, user_files):
    tiny = model("sd3")
    inputs = {"sampler_name": "euler", "name": "turbo.safetensors", "made_for": ""}
    for _ in range(2):
        assert call("DyWeightSaveSolver", sigmas=SIGMAS, **inputs).path.name == "turbo.safetensors"
    other = sigmas_of(tiny, 4)
    for _ in range(2):
        assert call("DyWeightSaveSolver", sigmas=other, **inputs).path.name == "turbo-2.safetensors"
    (user_files / "turbo-3.safetensors").write_bytes(b"something else")
    assert call("DyWeightSaveSolver", sigmas=sigmas_of(tiny, 3), **inputs).path.name == "turbo-4.safetensors"
    assert len(list(user_files.iterdir())) == 4


@pytest.mark.parametrize("name", ["", "  ", "../outside", "/tmp/outside", "a/../../outside"])
def test_a_name_outside_the_folder_is_refused(pack, user_files, name):
    with pytest.raises(ValueError, match=r"Check the inputs of Save Solver: name is .*give one of a file inside"):
        call("DyWeightSaveSolver", sigmas=SIGMAS, sampler_name="euler", name=name, made_for="")
    assert not (user_files.parent / "outside.safetensors").exists()


def test_sigmas_that_make_no_schedule_are_named(pack, user_files):
    with pytest.raises(ValueError, match=r"Check the inputs of Save Solver: .*decrease"):
        call("DyWeightSaveSolver", sigmas=SIGMAS.flip(0), sampler_name="euler", name="x", made_for="")
