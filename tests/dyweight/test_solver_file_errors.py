"""Files that are no coefficient file: each is a SolverFileError that names the file and what is wrong in it."""

import json
import pickle
import struct
from pathlib import Path

import pytest
import torch

from dyweight import SolverFileError, load_solver


def refused(path: Path, content: bytes, *mentioned: str) -> None:
    """Loading fails, and the message names the file and what is wrong in it."""
    path.write_bytes(content)
    with pytest.raises(SolverFileError) as caught:
        load_solver(path)
    for text in (str(path), *mentioned):
        assert text in str(caught.value)


@pytest.mark.parametrize(
    ("place", "mentioned"),
    [("missing", "No such file"), (".", "directory"), ("missing/a", "No such file"), ("a\0b", "null")],
)
def test_places_where_no_file_is(place, mentioned, tmp_path):
    with pytest.raises(SolverFileError, match=mentioned) as caught:
        load_solver(f"{tmp_path}/{place}")
    assert f"{tmp_path}/{place}" in str(caught.value)


def test_contents_that_are_no_safetensors(golden, tmp_path):
    whole = golden.read_bytes()
    path = tmp_path / "file.safetensors"
    for content in (b"", whole[:7], whole[:8], whole[:300], b"\0" * 64, b"hello, this is a text file"):
        refused(path, content, "damaged")
    for length in (0, 1, len(whole), 1 << 40, (1 << 64) - 1):
        refused(path, struct.pack("<Q", length) + whole[8:], "damaged")
    for content in (whole[:-1], whole + b"\0"):
        refused(path, content)


def test_headers_that_are_no_json_object(golden, tmp_path):
    path = tmp_path / "file.safetensors"
    for header in (b"{]", b"\xff\xfe{}", b"[1, 2]", b"null", b'{"a": NaN}', b"[" * 200_000, b'{"a":' * 100_000):
        refused(path, struct.pack("<Q", len(header)) + header, "header")
    padded = b"{}" + b" " * (1 << 20)
    refused(path, struct.pack("<Q", len(padded)) + padded, "header", "1048576")


def test_a_pickle_is_not_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return Path.touch, (tmp_path / "was run",)

    refused(tmp_path / "a", pickle.dumps(Payload()), "no safetensors file")
    torch.save({"weights": torch.ones(3), "payload": Payload()}, tmp_path / "b")
    refused(tmp_path / "b", (tmp_path / "b").read_bytes(), "no safetensors file")
    assert not (tmp_path / "was run").exists()


@pytest.mark.parametrize(
    ("field", "value", "mentioned"),
    [
        ("format", None, "format=dyweight-solver"),
        ("format", "pt", "format=dyweight-solver"),
        ("format", 1, "format=dyweight-solver"),
        ("format_version", None, "format_version"),
        ("format_version", "2", "format_version"),
        ("format_version", "1.0", "format_version"),
        ("format_version", 1, "format_version"),
        ("family", None, "family"),
        ("family", "indis2", "family"),
        ("family", "os.system", "family"),
        ("family", ["dyweight"], "family"),
        ("provenance", None, "provenance"),
        ("provenance", {}, "provenance"),
        ("provenance", "", "provenance"),
        ("provenance", "[]", "provenance"),
        ("provenance", '{"error": NaN}', "provenance"),
        ("provenance", '{"error": 1e999}', "1e999 is not a finite number"),
        ("provenance", '{"error": [-1e400]}', "-1e400 is not a finite number"),
        ("provenance", '{"a":' * 100_000, "provenance"),
        ("settings", None, "settings"),
        ("note", 1, ""),
    ],
)
def test_metadata(field, value, mentioned, parts, tmp_path):
    parts.metadata[field] = value
    if value is None:
        del parts.metadata[field]
    refused(tmp_path / "a", parts.content(), mentioned)


def test_metadata_that_is_missing(parts, tmp_path):
    header = json.dumps(parts.header).encode()
    refused(tmp_path / "a", struct.pack("<Q", len(header)) + header + parts.data, "format=dyweight-solver")


@pytest.mark.parametrize("settings", [[], "dyweight", 3, None])
def test_settings_that_are_no_object(settings, parts, tmp_path):
    parts.settings = settings
    refused(tmp_path / "a", parts.content(), "settings")


@pytest.mark.parametrize(
    "field", ["order", "slope", "analytic_first_step", "time_shifting", "time_scaling", "sigmas", "schedule"]
)
def test_a_setting_that_is_missing(field, parts, tmp_path):
    """There are no defaults: a guessed slope convention makes pictures that are only a little wrong."""
    del parts.settings[field]
    refused(tmp_path / "a", parts.content(), field)


@pytest.mark.parametrize("field", ["initial", "weights", "self", "__class__", "order_"])
def test_a_setting_that_is_unknown(field, parts, tmp_path):
    parts.settings[field] = "euler"
    refused(tmp_path / "a", parts.content(), field)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("order", [0, -1, 1, 3, 10**9, 10**400, 2.0, "2", True, None, [2]]),
        ("slope", ["time", "", 1, None, ["state"], {}]),
        ("sigmas", [None, 3, "1230", {}, [], [1], [1.0, 0.5], [3, 2, 1], [3, 2, 2, 0], [0, 1, 2, 3], [3, 2, 1, -1]]),
        ("sigmas", [[10**400, 2, 1, 0], [[3], [2], [1], [0]]]),
        ("sigmas", [["3", "2", "1", "0"], [3, 2, True, False], [3, 2, None, 0]]),
        ("analytic_first_step", ["false", 0, 1, None, []]),
        ("time_shifting", ["false", 0, 1, None, []]),
        ("time_scaling", ["false", 0, 1, None, []]),
        ("schedule", [5, "flow", [["kind", "flow"]], None, True]),
    ],
)
def test_a_setting_of_the_wrong_kind(field, values, parts, tmp_path):
    wrong = {}
    for value in values:
        parts.settings[field] = value
        (tmp_path / "a").write_bytes(parts.content())
        try:
            wrong[repr(value)] = f"accepted: {load_solver(tmp_path / 'a').settings()}"
        except SolverFileError as error:
            if str(tmp_path / "a") not in str(error) or not (field in str(error) or "tensor 'weights'" in str(error)):
                wrong[repr(value)] = str(error)
    assert not wrong


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_settings_with_a_number_that_json_has_not(number, parts, tmp_path):
    parts.settings["sigmas"][0] = number
    refused(tmp_path / "a", parts.content(), "settings")


def test_an_infinity_spelled_as_a_number(parts, tmp_path):
    content = parts.content().replace(b"[1.0, 0.666", b"[1e999, 0.6")
    assert content != parts.content()
    refused(tmp_path / "a", content, "settings", "1e999 is not a finite number")


@pytest.mark.parametrize(
    ("changes", "mentioned"),
    [
        ({"weights": None}, "weights"),
        ({"time_scale": None}, "time_scale"),
        ({"bias": torch.ones(1)}, "bias"),
        ({"weights": torch.ones(2, 3)}, "weights"),
        ({"weights": torch.ones(6)}, "weights"),
        ({"weights": torch.ones(3, 2, 1)}, "weights"),
        ({"weights": torch.ones(0, 2)}, "weights"),
        ({"time_scale": torch.ones(1)}, "time_scale"),
        ({"time_scale": torch.ones(())}, "time_scale"),
        ({"weights": torch.ones(3, 2, dtype=torch.float16)}, "weights"),
        ({"time_scale": torch.ones(3, dtype=torch.int64)}, "time_scale"),
        ({"weights": torch.tensor([[1, 0], [1, float("nan")], [1, 0]])}, "weights"),
        ({"time_scale": torch.tensor([1, float("inf"), 1])}, "time_scale"),
        ({"weights": torch.tensor([[1, 0], [1, 0], [1e308, 1e308]], dtype=torch.float64)}, "not finite"),
        ({"weights": torch.tensor([[9.0, 0], [1, 0], [1, 0]])}, "above 0"),
        ({"time_scale": torch.tensor([1.0, -1, 1])}, "above 0"),
    ],
)
def test_tensors(changes, mentioned, parts, tmp_path):
    tensors = {"weights": torch.tensor([[1.0, 0]] * 3), "time_scale": torch.ones(3)} | changes
    parts.set_tensors(**{name: tensor for name, tensor in tensors.items() if tensor is not None})
    refused(tmp_path / "a", parts.content(), mentioned)


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        {},
        {"dtype": "F64", "shape": [3, 2]},
        {"dtype": "F64", "shape": [3, 2], "data_offsets": [0, 48]},
        {"dtype": "F64", "shape": [3, 2], "data_offsets": [24, 1 << 60]},
        {"dtype": "F64", "shape": [3, 2], "data_offsets": [72, 24]},
        {"dtype": "F64", "shape": [3, 2], "data_offsets": [-24, 24]},
        {"dtype": ["F64"], "shape": [3, 2], "data_offsets": [24, 72]},
        {"dtype": "F64", "shape": "32", "data_offsets": [24, 72]},
        {"dtype": "F64", "shape": [3.0, 2.0], "data_offsets": [24, 72]},
    ],
)
def test_entries_that_describe_no_tensor(entry, parts, tmp_path):
    parts.header["weights"] = entry
    refused(tmp_path / "a", parts.content())
