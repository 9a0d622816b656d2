"""What the tests of the solver core share. Schedules and denoisers are written out here, without the package."""

import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dyweight import SolverFileError, SolverSet, load_solver, sample
from dyweight.placement import place

Denoise = Callable[[Tensor, Tensor], Tensor]


def edm(steps: int) -> Tensor:
    fractions = torch.arange(steps + 1, dtype=torch.float64) / steps
    return (80 ** (1 / 7) + fractions * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7


def flow(steps: int, shift: float = 3.0) -> Tensor:
    time = 1 - torch.arange(steps + 1, dtype=torch.float64) / steps
    return shift * time / (1 + (shift - 1) * time)


SCHEDULES = {
    "edm": edm(6),
    "edm to 0": torch.cat([edm(5), torch.zeros(1, dtype=torch.float64)]),
    "flow": flow(6),
    "flow above 0": flow(7)[:-1],
}


@pytest.fixture(autouse=True)
def repeatable() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=SCHEDULES)
def sigmas(request: pytest.FixtureRequest) -> Tensor:
    """Four schedules of six steps: EDM and flow, ending at 0 and above it."""
    return SCHEDULES[request.param].clone()


@pytest.fixture
def noise(sigmas: Tensor) -> Tensor:
    return sigmas[0] * torch.randn(3, 5, dtype=torch.float64)


@pytest.fixture
def denoise() -> Denoise:
    """Nonlinear in x and in sigma, so a wrong coefficient anywhere shows at the end."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        sigma = torch.as_tensor(sigma, dtype=x.dtype)
        sigma = sigma.reshape(-1, *[1] * (x.ndim - 1)) if sigma.ndim else sigma
        return torch.tanh(1.3 * x) / (1 + 0.7 * sigma) + 0.2 * torch.sin(x / (1 + sigma))

    return denoise


@pytest.fixture
def assert_same() -> Callable[..., None]:
    """Equal to a tolerance relative to the largest value."""

    def check(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
        assert found.shape == expected.shape and found.dtype == expected.dtype
        difference = (found - expected).abs().max() / expected.abs().max().clamp_min(1e-300)
        assert difference <= tolerance, f"relative difference {difference:.2e}, allowed {tolerance:.0e}"

    return check


GOLDEN = Path(__file__).with_name("golden.safetensors")


class Parts:
    """A coefficient file taken apart, to be changed and put together again without the package."""

    def __init__(self, path: Path = GOLDEN) -> None:
        content = path.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        self.header: dict[str, Any] = json.loads(content[8 : 8 + length])
        self.metadata: dict[str, Any] = self.header.pop("__metadata__")
        self.settings: dict[str, Any] = json.loads(self.metadata["settings"])
        self.data = content[8 + length :]

    def set_tensors(self, **tensors: Tensor) -> None:
        self.header, self.data = {}, b""
        names = {torch.float16: "F16", torch.float32: "F32", torch.float64: "F64", torch.int64: "I64"}
        for name, tensor in tensors.items():
            added = tensor.contiguous().numpy().tobytes()
            offsets = [len(self.data), len(self.data) + len(added)]
            self.header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
            self.data += added

    def content(self) -> bytes:
        metadata = self.metadata | ({"settings": json.dumps(self.settings)} if "settings" in self.metadata else {})
        return pack(json.dumps({"__metadata__": metadata, **self.header}).encode(), self.data)


def pack(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


@pytest.fixture
def golden() -> Path:
    return GOLDEN


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
def parts_of() -> type[Parts]:
    """The parts of any file."""
    return Parts


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], Any]:
    """The bytes of a file -> the solver or the set, or None where it is refused; within a second."""

    def read(content: bytes) -> Any:
        path = tmp_path / "file"
        path.write_bytes(content)
        began = time.process_time()
        try:
            return load_solver(path)
        except SolverFileError as error:
            assert str(path) in str(error)
            return None
        finally:
            assert time.process_time() - began < 1

    return read


@pytest.fixture
def load(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """As `read`, and each solver that comes out works."""

    def load(content: bytes) -> Any:
        found = read(content)
        members = [found.member(steps) for steps in found.steps] if isinstance(found, SolverSet) else [found]
        for solver in filter(None, members):
            assert solver.plan().rows == solver.network_calls + solver.analytic_first_step
            x = torch.ones(1, 2, dtype=torch.float64)
            assert sample(lambda x, sigma: x / 2, x, solver.plan()).shape == (1, 2)
        if isinstance(found, SolverSet):
            assert tuple(solver.steps for solver in members) == found.steps
            for steps in range(1, found.steps[-1] + 2):
                place(found, found.sigmas_for(steps))
        return found

    return load
