"""Models of users: any latent, dtype and condition, and none of the optional attributes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import dyweight

METHODS = ["gauss-newton", "adam"]
QUICK = ("--steps", 2, "--pairs", 32, "--teacher", "ipndm:10", "--iterations", 4)


class Prompt:
    """A condition that is neither a tensor nor a list of the batch's length, nor can be compared or copied."""

    def __init__(self, centre: Tensor) -> None:
        self.centre = centre

    def __eq__(self, other: object) -> bool:
        raise AssertionError("a condition is nobody's business")

    __hash__ = None  # type: ignore[assignment]

    def __deepcopy__(self, memo: object) -> "Prompt":
        raise AssertionError("a condition is nobody's business")

    def __len__(self) -> int:
        raise AssertionError("a condition is nobody's business")

    def __bool__(self) -> bool:
        raise AssertionError("a condition is nobody's business")


CONDITIONS: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = {
    "none": (lambda centre: None, lambda cond: torch.zeros(())),
    "tensor": (lambda centre: centre, lambda cond: cond),
    "dict": (lambda centre: {"text": "a cat", "centre": centre, "more": [None]}, lambda cond: cond["centre"]),
    "tuple": (lambda centre: (centre, "a cat"), lambda cond: cond[0]),
    "object": (Prompt, lambda cond: cond.centre),
}


def improved(outcome: Any) -> bool:
    assert outcome.status == 0, outcome.errors
    provenance = dyweight.SolverFile.read(outcome.out).provenance
    return bool(provenance["endpoint_error_after"] < provenance["endpoint_error_before"])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", CONDITIONS)
def test_a_condition_is_opaque(kind: str, method: str, commands: Any, peaks: Any) -> None:
    """It moves the data; each sample's own must reach the network with it, or nothing improves."""
    wrap, unwrap = CONDITIONS[kind]
    model = peaks((4,))

    def draw(generator: torch.Generator, batch: int) -> tuple[Tensor, Any]:
        centre = 20 * torch.randint(-3, 4, (batch, 1), generator=generator).float()
        noise, _ = peaks.draw(model, generator, batch)
        return noise + unwrap(wrap(centre)), wrap(centre)

    def denoise(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        assert (cond is None) == (kind == "none")
        centre = unwrap(cond)
        return centre + peaks.denoise(model, x - centre, sigma, None)

    model.draw, model.denoise = draw, denoise
    assert improved(commands.distill(model, *QUICK, "--method", method))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1,), (2,), (3, 8, 8), (4, 2, 6, 6), (1, 2, 3, 4, 5)], ids=str)
def test_any_shape_of_latent(shape: tuple[int, ...], method: str, commands: Any, peaks: Any) -> None:
    outcome = commands.distill(peaks(shape), *QUICK, "--method", method)
    assert improved(outcome)
    assert dyweight.SolverFile.read(outcome.out).provenance["shape"] == list(shape)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_any_floating_dtype(dtype: torch.dtype, method: str, commands: Any, peaks: Any) -> None:
    """The network sees x in the dtype of the noise."""
    model, seen = peaks((3, 4, 4), dtype), set()
    model.before_call = lambda calls, x, sigma: seen.add(x.dtype)
    assert improved(commands.distill(model, *QUICK, "--method", method))
    assert seen == {dtype}


@pytest.mark.parametrize("method", METHODS)
def test_weights_that_ask_for_gradients_do_not_matter(method: str, commands: Any, peaks: Any) -> None:
    files = []
    for trainable in (True, False):
        model = peaks()
        model.scale = torch.nn.Parameter(torch.ones(()), requires_grad=trainable)
        model.denoise = lambda x, sigma, cond, m=model: peaks.denoise(m, x, sigma, cond) * m.scale
        outcome = commands.distill(model, *QUICK, "--method", method)
        assert improved(outcome)
        files.append(outcome.out.read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("method", METHODS)
def test_a_network_that_answers_in_a_dtype_of_its_own(method: str, commands: Any, peaks: Any) -> None:
    model = peaks()
    model.denoise = lambda x, sigma, cond: peaks.denoise(model, x.double(), sigma.double(), cond)
    assert improved(commands.distill(model, *QUICK, "--method", method))


def test_optional_attributes_reach_the_file(commands: Any, peaks: Any) -> None:
    model = peaks()
    optional = {"fingerprint": "weights-17", "model_family": "peaks", "prediction_type": "v", "shift": 3.0}
    optional["guidance"] = 4.5
    vars(model).update(optional, schedule_recipe={"kind": "mine", "rho": 7})
    outcome = commands.distill(model, *QUICK)
    assert outcome.status == 0, outcome.errors
    file = dyweight.SolverFile.read(outcome.out)
    solver = file.solver
    assert {name: file.provenance[name] for name in optional} == optional
    assert solver.settings()["schedule"] == {"kind": "mine", "rho": 7}


def test_without_them_the_file_says_so(commands: Any, peaks: Any) -> None:
    file = dyweight.SolverFile.read(commands.distill(peaks(), *QUICK).out)
    solver = file.solver
    assert [file.provenance[name] for name in ("model_family", "prediction_type", "shift", "guidance")] == [None] * 4
    assert file.provenance["fingerprint"] and solver.settings()["schedule"] == {}


def test_images_of_a_model_are_in_the_report(commands: Any, peaks: Any, tmp_path: Any) -> None:
    model = peaks((3, 8, 8))
    model.images = lambda x: ((x + 1) / 2).clamp(0, 1).movedim(1, -1)
    arguments = ("--report-pairs", 8, "--report", tmp_path / "report")
    outcome = commands.distill(model, *QUICK, *arguments)
    assert outcome.status == 0, outcome.errors
    assert (tmp_path / "report" / "samples.png").read_bytes().startswith(b"\x89PNG")
