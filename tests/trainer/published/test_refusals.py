"""Files made to run code are refused by name, and damaged ones with a message; neither runs or writes anything."""

import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import pytest
import torch

from tests.trainer.published.files import Calls, flux_file, heun_sampler, pickled, training_run
from trainer.convert import convert
from trainer.run.errors import TrainerError

SYSTEM = f"{os.system.__module__}.system"
ATTACKS = {
    "a shell command": (lambda file: Calls(os.system, f"touch {file}"), SYSTEM),
    "eval": (lambda file: Calls(eval, f"open({str(file)!r}, 'w')"), "builtins.eval"),
    "a process": (lambda file: Calls(subprocess.Popen, ["touch", str(file)]), "subprocess.Popen"),
    "torch.load": (lambda file: Calls(torch.load, str(file)), "torch.serialization.load"),
}


def text(value: str) -> bytes:
    return pickle.BINUNICODE + struct.pack("<I", len(value)) + value.encode()


def zipped(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return content.getvalue()


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


@pytest.fixture
def refused(tmp_path):
    """refused(content, *said): the file gives an error that says so, nothing ran and nothing was written."""

    def check(content: bytes, *said: str) -> None:
        (tmp_path / "evil").write_bytes(content)
        with pytest.raises(TrainerError, match="evil") as raised:
            convert([str(tmp_path / "evil")], tmp_path / "out.safetensors")
        assert all(part in str(raised.value) for part in said), str(raised.value)
        assert {path.name for path in tmp_path.iterdir()} == {"evil"}

    return check


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_pickle_that_runs_code_is_refused_by_name(refused, canary, attack, protocol):
    make, name = ATTACKS[attack]
    # The first protocols write some modules by their names in Python 2.
    refused(pickle.dumps(make(canary), protocol), "refused", name if protocol > 2 else name.split(".")[-1])


def test_the_attacks_are_real(canary):
    pickle.loads(pickle.dumps(ATTACKS["eval"][0](canary)))
    assert canary.exists()


@pytest.mark.parametrize("place", ["predictor", "loss_fn", "state", "tensor"])
def test_code_deep_inside_a_training_pickle_is_refused_by_name(refused, canary, place):
    evil = Calls(os.system, f"touch {canary}")
    hidden = {
        "state": {"predictor": {"init_mode": [{"deep": (1, evil)}]}},
        "tensor": {"t_steps": [torch.ones(1), evil]},
    }
    run = training_run(**hidden.get(place, {}))
    refused(pickled(run if place in hidden else {**run, place: evil}), "refused", SYSTEM)


def test_code_inside_the_bytes_of_a_tensor_is_refused_by_name(refused, canary):
    inner = pickle.dumps(Calls(os.system, f"touch {canary}"))
    refused(pickle.dumps(Calls(torch.storage._load_from_bytes, inner), 4), "refused", SYSTEM)


def test_code_in_a_flux_file_is_refused_by_name(refused, canary):
    refused(zipped({"a/data.pkl": pickle.dumps(Calls(os.system, f"touch {canary}"), 2)}), "refused", SYSTEM)


def test_names_put_together_on_the_stack_are_refused_by_name(refused, canary):
    """The parts of the name stand far from where it is made, in the memo and in the wrong order."""
    content = pickle.PROTO + b"\x04" + text("eval") + pickle.MEMOIZE + pickle.EMPTY_LIST + pickle.MEMOIZE
    content += text("builtins") + pickle.MEMOIZE + pickle.BINGET + b"\x02" + pickle.BINGET + b"\x00"
    content += pickle.STACK_GLOBAL + text(f"open({str(canary)!r}, 'w')") + pickle.TUPLE1 + pickle.REDUCE + pickle.STOP
    pickle.loads(content)
    assert canary.exists()
    canary.unlink()
    refused(content, "refused", "builtins.eval")


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"(S'x'\nios\nsystem\n.", "STRING"),
        (b"(ios\nsystem\n.", "os.system"),
        (b"csubprocess\nPopen\n" + text("true") + b"\x85\x81.", "subprocess.Popen"),
        (b"cbuiltins\ngetattr\n" + text("") + text("system") + b"\x86R.", "builtins.getattr"),
        (b"ccollections\nOrderedDict.__init__.__globals__\n.", "collections.OrderedDict.__init__"),
        (b"ctorch\n_utils\n.", "torch._utils"),
        (b"csolvers\nevil_sampler\n.", "solvers.evil_sampler"),
        (b"csolvers\nheun_sampler\n)R.", "solvers.heun_sampler"),
        (b"ccollections\nOrderedDict\n}X\x01\x00\x00\x00aK\x01sb.", "BUILD"),
        (b"ccollections\nOrderedDict\n)\x81.", "NEWOBJ"),
        (b"(ccollections\nOrderedDict\no.", "OBJ"),
        (b"\x82\x01.", "EXT1"),
        (b"cbuiltins\neval\x1b[2J\n.", r"eval\x1b[2J"),
        (b"X\x01\x00\x00\x00aQ.", "persistent id"),
    ],
)
def test_what_plain_data_does_not_need_is_refused_by_name(refused, content, name):
    refused(content, "refused", name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped({"a/data.pkl": bytes(1 << 24)}, zipfile.ZIP_DEFLATED), "compressed"),
        (zipped({"a/data.pkl": pickle.dumps(0), "b/data.pkl": b""}), "one data.pkl"),
        (zipped({"a/data.pkl": pickle.dumps({}, 2), "a/byteorder": b"big"}), "little-endian"),
        (zipped({"a/data.pkl": pickle.dumps({}, 2)}), "not a FLUX file of the authors: it lacks dyweight_meta"),
    ],
)
def test_a_zip_that_is_no_flux_file_is_named(refused, content, message):
    refused(content, message)


DEEP = b")" + pickle.TUPLE1 * 900_000
WIDE = b")" + b"".join(b"q%cK\x00h%c\x87" % (n, n) for n in range(60))
STORED = torch.ones(50_000)._typed_storage().__reduce__()[1][0]
LOAD = b"ctorch.storage\n_load_from_bytes\nq\x01B" + struct.pack("<I", len(STORED)) + STORED + b"q\x00\x85R"
VIEW = b"ctorch._utils\n_rebuild_tensor_v2\n(" + LOAD + b"K\x00" + b"J\x00\x00\x10\x00" * 2 + b"\x86K\x00K\x00\x86tR"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"}" + DEEP + b"K\x00s.", "plain keys", id="a key nested without end"),
        pytest.param(b"}" + WIDE + b"K\x00s.", "plain keys", id="a key that takes forever to hash"),
        pytest.param(b"Nr\xff\xff\xff\x3f0.", "POP", id="a memo of 2**30 places"),
        pytest.param(b"B\xff\xff\xff\x7fa.", "damaged", id="bytes that are not there"),
        pytest.param(
            b"(" + LOAD + b"h\x01h\x00\x85R" * 1000 + b"t.", "more bytes than the file", id="bytes again and again"
        ),
        pytest.param(VIEW + b".", "more numbers than its file", id="a view of 2**40 numbers"),
    ],
)
def test_a_small_file_can_not_ask_for_much(refused, content, message):
    tracemalloc.start()
    try:
        refused(b"\x80\x04" + content, message)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    reference = {"sets": [{"source": "a", "steps": 10**12, "order": 10**12, "model": "x"}]}
    return {
        "flux": flux_file(tmp_path_factory.mktemp("flux") / "x.pt").read_bytes(),
        "run": pickled(training_run(t_steps=torch.tensor([80.0, 20.0, 3.0, 1.0, 0.1]))),
        "reference": json.dumps(reference).encode(),
    }


def test_an_attribute_nested_without_end_is_not_looked_at(refused):
    name = b"\x8c\x07cifar10\x94"
    content = pickled(training_run())
    start = content.index(name)
    refused(content[:2] + content[11:start] + DEEP + b"\x94" + content[start + len(name) :], "dataset_name")


@pytest.mark.parametrize("kind", ["flux", "run", "reference"])
def test_no_cut_file_is_taken(refused, intact, kind):
    content = intact[kind]
    for length in [*range(0, len(content), max(1, len(content) // 100)), len(content) - 1]:
        refused(content[:length])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Python, for odd escapes in a text
@pytest.mark.parametrize("kind", ["flux", "run", "reference"])
def test_changed_bytes_give_a_solver_or_an_error_with_the_name_of_the_file(tmp_path, intact, kind):
    generator, path, failed = random.Random(0), tmp_path / "changed", 0
    for _ in range(300):
        content = bytearray(intact[kind])
        for _ in range(generator.choice((1, 1, 4))):
            content[generator.randrange(len(content))] = generator.randrange(256)
        path.write_bytes(content)
        try:
            convert([str(path)], tmp_path / "out.safetensors")
        except TrainerError as error:
            assert "changed" in str(error) or "set" in str(error)
            failed += 1
    assert failed


def test_the_source_code_inside_a_pickle_is_not_run(tmp_path, canary):
    code = f"open({str(canary)!r}, 'w')\nclass DyWeight_predictor: pass\n"
    (tmp_path / "run.pkl").write_bytes(pickled(training_run(code)))
    known = set(sys.modules)
    convert([str(tmp_path / "run.pkl")], tmp_path / "out.safetensors")
    assert not canary.exists()
    assert not {"solvers", "torch_utils", "torch_utils.persistence"} & (set(sys.modules) - known)
    with pytest.raises(AssertionError):
        heun_sampler()
