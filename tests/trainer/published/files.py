"""Files as the authors publish them, with a few of their numbers: a FLUX .pt of 3 steps, and a training pickle."""

import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

FLUX_WEIGHTS = [[0.876560271, 0, 0], [-0.0304728076, 0.989760399, 0], [0, -0.106990345, 0.884146333]]
"""Of dyweight_nfe3.pt: the oldest slope first."""
FLUX_TIME_SCALE = [1.01718926, 0.977132916, 0.986379266]
RUN_WEIGHTS = [[1.07, 0, 0, 0], [-0.72, 1.72, 0, 0], [0.34, -1.34, 1.84, 0], [0, 0.39, -1.33, 1.92]]
RUN_TIME_SCALE = [0.98, 1.02, 0.97]


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> None:
    raise AssertionError(f"{meta['class_name']} was made, with the source code beside it")


def heun_sampler() -> None:
    raise AssertionError("a function that a file names was called")


class Calls:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def flux_file(path: Path, **changes: Any) -> Path:
    """torch.save of what the authors save for FLUX, with other values where given."""
    weights = torch.tensor(FLUX_WEIGHTS)
    content = {
        "window_size": 2,
        "dyweight_weights_raw": weights,
        "dyweight_t_scales": torch.tensor(FLUX_TIME_SCALE),
        "dyweight_meta": {"K": 3, "tscale_low": 0.5, "tscale_high": 1.5},
        "dyweight_params": {"theta": weights.clone(), "phi": torch.zeros(3), "win_mask": torch.ones(3, 3)},
        **changes,
    }
    torch.save(content, path)
    return path


def training_run(source_code: str = "", predictor: dict[str, Any] | None = None, **loss: Any) -> dict[str, Any]:
    """What the authors pickle after training, with other values where given."""
    scales = torch.nn.Parameter(torch.tensor(RUN_TIME_SCALE))
    learned = {
        "_parameters": {"hybrid_weights": torch.nn.Parameter(torch.tensor(RUN_WEIGHTS)), "t_scale": scales},
        "_buffers": {"mask": torch.ones(4, 4).tril().triu(-2)},
        "_non_persistent_buffers_set": set(),
        **{"num_steps": 5, "afs": True, "effective_window_size": 2, "enable_t_scale_learning": True},
        **{"guidance_rate": 0.0, "guidance_type": None},
        **(predictor or {}),
    }
    settings = {
        **{"schedule_type": "polynomial", "schedule_rho": 7.0, "sigma_min": 0.002, "sigma_max": 80.0, "t_steps": None},
        **{"solver_tea": heun_sampler, "teacher_steps": 35, "loss_type": "inception", "dataset_name": "cifar10"},
        **loss,
    }
    classes = {"predictor": ("DyWeight_predictor", learned), "loss_fn": ("DyWeight_loss", settings)}
    return {
        key: Calls(_reconstruct_persistent_obj, {"module_src": source_code, "class_name": name, "state": state})
        for key, (name, state) in classes.items()
    }


def pickled(value: object) -> bytes:
    """The pickle, in which the functions above are named as in the authors' repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch_utils", ModuleType("torch_utils"))
        for name, function in (("torch_utils.persistence", _reconstruct_persistent_obj), ("solvers", heun_sampler)):
            module = ModuleType(name)
            setattr(module, function.__name__, function)
            patch.setattr(function, "__module__", name)
            patch.setitem(sys.modules, name, module)
        return pickle.dumps(value, protocol=4)
