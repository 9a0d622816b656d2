"""The architectures of tools/models/real_size.py are those of the files that people download."""

import sys
from pathlib import Path

import pytest
import torch

PARAMETERS = {"flux1-dev": 11_901_408_320, "sd15": 859_520_964, "sdxl": 2_567_463_684}
"""Of the published files' diffusion models."""


@pytest.fixture(scope="session")
def real_size(pack):
    sys.path.append(str(Path(pack.__file__).parent))
    import tools.models.real_size as module

    return module


@pytest.mark.parametrize("name", PARAMETERS)
def test_comfyui_takes_its_weights_for_those_of_the_model(real_size, name):
    """By their names and shapes, as it does with a file; without memory for them."""
    import comfy.model_detection
    import comfy.supported_models

    kind = getattr(comfy.supported_models, real_size.ARCHITECTURES[name].family)
    with torch.device("meta"):
        config = kind(real_size.network(name))
        config.unet_config.update(real_size.network(name))
        network = config.get_model({}, "", device="meta").diffusion_model
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]
    found = comfy.model_detection.model_config_from_unet(network.state_dict(), "")
    assert type(found) is kind
    told = real_size.network(name)
    assert {key: found.unet_config[key] for key in told if key in found.unet_config} == {
        key: value for key, value in told.items() if key in found.unet_config
    }


@pytest.mark.parametrize(("name", "weights"), [("flux1-dev", "fp8_e4m3fn"), ("sdxl", "fp16")])
def test_weights_are_made_where_they_are_sampled_and_are_known_to_lie_there(real_size, name, weights):
    made, again, other = (real_size.patcher(name, weights, small=True, seed=seed) for seed in (0, 0, 1))
    own, same, differs = (dict(one.model.diffusion_model.named_parameters()) for one in (made, again, other))
    dtype = real_size.WEIGHTS[weights][0]
    assert {parameter.dtype for parameter in own.values()} == {dtype}
    assert all(torch.equal(value.float(), same[key].float()) for key, value in own.items())
    assert any(not torch.equal(value.float(), differs[key].float()) for key, value in own.items())
    assert made.loaded_size() == made.model_size(), "ComfyUI would ask for the memory a second time"
    assert all(bool(value.float().isfinite().all()) for value in own.values())
