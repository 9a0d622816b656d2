"""Files made to run code are refused by name, and damaged ones with a message; neither runs or writes anything."""

import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import zipfile

import pytest
import torch

from tests.trainer.published.published_files import flux_file, heun_sampler, pickled, training_run
from trainer.convert import convert, main
from trainer.run.errors import TrainerError


class Calls:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def text(value: str) -> bytes:
    return pickle.BINUNICODE + struct.pack("<I", len(value)) + value.encode()


SYSTEM = f"{os.system.__module__}.system"
ATTACKS = {
    "a shell command": (lambda file: Calls(os.system, f"touch {file}"), SYSTEM),
    "eval": (lambda file: Calls(eval, f"open({str(file)!r}, 'w')"), "builtins.eval"),
    "exec": (lambda file: Calls(exec, f"open({str(file)!r}, 'w')"), "builtins.exec"),
    "a process": (lambda file: Calls(subprocess.Popen, ["touch", str(file)]), "subprocess.Popen"),
    "torch.load": (lambda file: Calls(torch.load, str(file)), "torch.serialization.load"),
}


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


@pytest.fixture
def refused(tmp_path, canary):
    """refused(content, name): the file is refused, the message has the name, nothing ran and nothing was written."""

    def check(content: bytes, name: str) -> None:
        (tmp_path / "evil").write_bytes(content)
        with pytest.raises(TrainerError) as raised:
            convert(str(tmp_path / "evil"), tmp_path / "out.safetensors")
        assert "refused" in str(raised.value)
        assert name in str(raised.value)
        assert {path.name for path in tmp_path.iterdir()} == {"evil"}

    return check


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_pickle_that_runs_code_is_refused_by_name(refused, canary, attack, protocol):
    make, name = ATTACKS[attack]
    # The first protocols write some modules by their names in Python 2.
    refused(pickle.dumps(make(canary), protocol), name if protocol > 2 else name.split(".")[-1])


def test_the_attacks_are_real(canary):
    pickle.loads(pickle.dumps(ATTACKS["eval"][0](canary)))
    assert canary.exists()


@pytest.mark.parametrize("place", ["predictor", "loss_fn", "state", "tensor"])
def test_code_deep_inside_a_training_pickle_is_refused_by_name(refused, canary, place):
    evil = Calls(os.system, f"touch {canary}")
    run = training_run(predictor={"init_mode": [{"deep": (1, evil)}]} if place == "state" else None)
    if place == "tensor":
        run["loss_fn"].meta["state"]["t_steps"] = [torch.ones(1), evil]
    elif place != "state":
        run[place] = evil
    refused(pickled(run), SYSTEM)


def test_code_inside_the_bytes_of_a_tensor_is_refused_by_name(refused, canary):
    inner = pickle.dumps(Calls(os.system, f"touch {canary}"))
    refused(pickle.dumps(Calls(torch.storage._load_from_bytes, inner), 4), SYSTEM)


def test_names_put_together_on_the_stack_are_refused_by_name(refused, canary):
    """The parts of the name stand far from where it is made, in the memo and in the wrong order."""
    content = pickle.PROTO + b"\x04" + text("eval") + pickle.MEMOIZE + pickle.EMPTY_LIST + pickle.MEMOIZE
    content += text("builtins") + pickle.MEMOIZE + pickle.BINGET + b"\x02" + pickle.BINGET + b"\x00"
    content += pickle.STACK_GLOBAL + text(f"open({str(canary)!r}, 'w')") + pickle.TUPLE1 + pickle.REDUCE + pickle.STOP
    pickle.loads(content)
    assert canary.exists()
    canary.unlink()
    refused(content, "builtins.eval")


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
    refused(content, name)


def test_code_in_a_flux_file_is_refused_by_name(refused, tmp_path, canary):
    source = flux_file(tmp_path / "evil")
    content = io.BytesIO()
    with zipfile.ZipFile(source) as clean, zipfile.ZipFile(content, "w") as evil:
        for entry in clean.infolist():
            code = pickle.dumps(Calls(os.system, f"touch {canary}"), 2)
            evil.writestr(entry.filename, code if entry.filename.endswith("data.pkl") else clean.read(entry))
    refused(content.getvalue(), SYSTEM)
    torch.save({"window_size": [Calls(eval, f"open({str(canary)!r}, 'w')")]}, source)
    refused(source.read_bytes(), "eval")


def test_the_source_code_inside_a_pickle_is_not_run(tmp_path, canary):
    code = f"open({str(canary)!r}, 'w')\nclass DyWeight_predictor: pass\n"
    (tmp_path / "run.pkl").write_bytes(pickled(training_run(code)))
    known = set(sys.modules)
    convert(str(tmp_path / "run.pkl"), tmp_path / "out.safetensors")
    assert not canary.exists()
    assert not {"solvers", "torch_utils", "torch_utils.persistence"} & (set(sys.modules) - known)
    with pytest.raises(AssertionError):
        heun_sampler()


def test_the_command_line_says_that_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Calls(os.system, "true")))
    assert main([str(tmp_path / "evil.pt"), str(tmp_path / "out.safetensors")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert SYSTEM in said


def archive(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive({"a/data.pkl": bytes(1 << 24)}, zipfile.ZIP_DEFLATED), "compressed"),
        (archive({"a/data.pkl": pickle.dumps(0), "b/data.pkl": b""}), "one data.pkl"),
        (archive({"a/data.pkl": pickle.dumps({}, 2), "a/byteorder": b"big"}), "little-endian"),
        (archive({"a/data.pkl": pickle.dumps({}, 2)}), "no FLUX file of the authors: dyweight_meta"),
    ],
)
def test_a_zip_that_is_no_flux_file_is_named(tmp_path, content, message):
    (tmp_path / "odd.pt").write_bytes(content)
    with pytest.raises(TrainerError, match=message):
        convert(str(tmp_path / "odd.pt"), tmp_path / "out.safetensors")


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    reference = {"sets": [{"source": "a", "steps": 10**12, "order": 10**12, "model": "x"}]}
    return {
        "flux": flux_file(tmp_path_factory.mktemp("flux") / "x.pt").read_bytes(),
        "run": pickled(training_run(t_steps=torch.tensor([80.0, 20.0, 3.0, 1.0, 0.1]))),
        "reference": json.dumps(reference).encode(),
    }


@pytest.mark.parametrize("kind", ["flux", "run", "reference"])
def test_no_cut_file_is_taken(tmp_path, intact, kind):
    content, path = intact[kind], tmp_path / "cut"
    for length in [*range(0, len(content), max(1, len(content) // 100)), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(TrainerError, match="cut"):
            convert(str(path), tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


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
            convert(str(path), tmp_path / "out.safetensors")
        except TrainerError as error:
            assert "changed" in str(error) or "set" in str(error)
            failed += 1
    assert failed
