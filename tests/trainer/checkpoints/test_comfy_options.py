"""What of a ComfyUI checkpoint needs no ComfyUI: where it is looked for, prompts, conditions, options."""

import gc
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from comfyui.prompts import OWN_PROMPTS
from trainer.checkpoints.comfy import installation
from trainer.checkpoints.comfy.conditions import conditioning, opposite, read_conditions
from trainer.checkpoints.comfy.encoding import AT_ONCE, EncodedPrompts
from trainer.checkpoints.comfy.installation import find_comfyui
from trainer.checkpoints.comfy.options import ComfyOptions
from trainer.checkpoints.comfy.prompt_files import read_prompts
from trainer.run.errors import CheckpointError, TrainerError


def comfyui(folder):
    (folder / "comfy").mkdir(parents=True)
    (folder / "comfy" / "sd.py").touch()
    return folder


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Four ComfyUIs, one for each way to find one, by its name."""
    found = {name: comfyui(tmp_path / name) for name in ("named", "variable", "installed", "home/comfy/ComfyUI")}
    inside = tmp_path / "installed" / "custom_nodes" / "dyweight" / "trainer" / "checkpoints" / "comfy"
    monkeypatch.setattr(installation, "__file__", str(inside / "installation.py"))
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "variable"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    return found


def test_comfyui_is_the_one_that_is_named(places):
    assert find_comfyui(places["named"]) == places["named"]


def test_then_that_of_the_variable_then_the_one_around_the_pack_then_comfy_clis(places, monkeypatch, tmp_path):
    assert find_comfyui(None) == places["variable"]
    monkeypatch.delenv("COMFYUI_PATH")
    assert find_comfyui(None) == places["installed"]
    (places["installed"] / "comfy" / "sd.py").unlink()
    assert find_comfyui(None) == places["home/comfy/ComfyUI"]
    (places["home/comfy/ComfyUI"] / "comfy" / "sd.py").unlink()
    with pytest.raises(CheckpointError, match=r"no ComfyUI found; give its folder with --comfyui.*custom_nodes"):
        find_comfyui(None)


def test_a_named_place_without_comfyui_is_an_error_even_where_there_is_another(places, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match=r"--comfyui is .*nowhere, which is not ComfyUI"):
        find_comfyui(tmp_path / "nowhere")
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match=r"COMFYUI_PATH is .*nowhere"):
        find_comfyui(None)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.txt", "a fox\n\n  two hares \nÜber den Wolken\n"),
        ("p.jsonl", '{"prompt": "a fox"}\n"two hares"\n\n{"prompt": "Über den Wolken", "seed": 3}\n'),
        ("p.csv", 'seed,prompt\n1,a fox\n2,"two hares"\n3,Über den Wolken\n'),
        ("coco.csv", 'image_id,text\n1,a fox\n2,"two hares"\n3,Über den Wolken\n'),
    ],
)
def test_prompts_of_each_kind_of_file_are_the_same(tmp_path, name, text):
    (tmp_path / name).write_text(text, "utf-8")
    assert read_prompts(tmp_path / name) == ["a fox", "two hares", "Über den Wolken"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("p.txt", "\n \n"), ("p.jsonl", "{"), ("p.jsonl", '{"words": "x"}'), ("p.jsonl", "[1]"), ("p.csv", "a,b\n1,2\n")],
)
def test_a_file_without_prompts_is_named(tmp_path, name, text):
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(CheckpointError, match=rf"--prompts .*{name}"):
        read_prompts(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bom.txt", "\ufeffa fox\ntwo\u2028hares\n".encode()),
        ("bom.CSV", "\ufeffPrompt,seed\r\na fox,1\r\ntwo\u2028hares,2\r\n".encode()),
        ("excel.csv", "\ufeffid; prompt\r\n1;a fox\r\n2;two\u2028hares\r\n".encode()),
        ("bom.JSONL", '\ufeff{"prompt": "a fox"}\r\n{"prompt": "two\u2028hares"}\r\n'.encode()),
        ("old.TXT", "a fox\rtwo\u2028hares\r".encode()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_marks_line_ends_and_names_of_other_programs_are_read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert read_prompts(tmp_path / name) == ["a fox", "two\u2028hares"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.txt", "a fox".encode("utf-16"), "not UTF-8.*save it as UTF-8"),
        ("p.csv", "prompt\nÜber".encode("cp1252"), "not UTF-8.*save it as UTF-8"),
        ("p.json", b'["a fox"]', r"give \.txt"),
        ("p.tsv", b"id\tprompt", r"give \.txt"),
        ("p.jsonl", b'"a fox"\n\n{"prompt": ', "line 3"),
        ("p.jsonl", b'"a fox"\n{"words": "x"}', "line 2.*words"),
        ("p.csv", b"prompt\n" + b"x" * 200_000, "field larger"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_can_not_be_read_is_one_line_that_says_what_to_do(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=said) as caught:
        read_prompts(tmp_path / name)
    assert f"--prompts {tmp_path / name}" in str(caught.value) and "\n" not in str(caught.value)


def test_prompts_that_come_along_are_many():
    assert len(read_prompts(OWN_PROMPTS)) >= 256


def test_conditions_of_a_file_make_batches_row_by_row(tmp_path):
    cross, pooled = torch.randn(3, 4, 5), torch.randn(3, 6)
    tensors = {"cross_attn": cross, "pooled": pooled, "negative_cross_attn": cross[:1].clone()}
    save_file(tensors, tmp_path / "c.safetensors")
    positive, negative, digest = read_conditions(tmp_path / "c.safetensors")
    ((found, extra),) = conditioning([positive[2], positive[0]])
    assert torch.equal(found, cross[[2, 0]])
    assert torch.equal(extra["pooled_output"], pooled[[2, 0]])
    assert negative is not None and torch.equal(negative.cross_attn, cross[:1])
    assert len(digest) == 16


def test_a_first_frame_goes_with_its_text_and_with_the_negative(tmp_path):
    """Wan is told the same frame for both, or guidance would move the picture away from its own frame."""
    cross, frames = torch.randn(3, 4, 5), torch.randn(3, 16, 2, 8, 8)
    tensors = {"cross_attn": cross, "concat_latent_image": frames, "negative_cross_attn": cross[:1].clone()}
    tensors |= {"mask": torch.ones(3, 1), "negative_mask": torch.zeros(1, 1)}
    save_file(tensors, tmp_path / "c.safetensors")
    known, negative, _ = read_conditions(tmp_path / "c.safetensors")
    positive = conditioning([known[2]])
    assert torch.equal(positive[0][1]["concat_latent_image"], frames[2:])
    ((text, extra),) = opposite(negative, positive)
    assert torch.equal(text, cross[:1]) and torch.equal(extra["concat_latent_image"], frames[2:])
    assert torch.equal(extra["mask"], torch.zeros(1, 1)) and extra["pooled_output"] is None
    assert conditioning([known[0], known[1]]) is None  # one at a time


@pytest.mark.parametrize(
    ("told", "found"),
    [("red disc, dark; a fox; snow", ["red disc, dark", "a fox", "snow"]), ("a fox; snow", None), ("; ; ", None)],
)
def test_a_file_of_conditions_may_tell_their_prompts(tmp_path, told, found):
    save_file({"cross_attn": torch.randn(3, 4, 5)}, tmp_path / "c.safetensors", {"prompts": told})
    assert read_conditions(tmp_path / "c.safetensors")[0].prompts == found


@pytest.mark.parametrize("tensors", [{}, {"cross_attn": torch.zeros(2, 3)}, {"pooled": torch.zeros(2, 3)}])
def test_a_file_without_conditions_is_named(tmp_path, tensors):
    save_file(tensors or {"x": torch.zeros(1)}, tmp_path / "c.safetensors")
    with pytest.raises(CheckpointError, match=r"--conditioning .*c\.safetensors: not conditions"):
        read_conditions(tmp_path / "c.safetensors")


class Encoder:
    """Stands for ComfyUI's CLIP: a condition whose first number is the length of the prompt."""

    def tokenize(self, prompt):
        return prompt

    def encode_from_tokens_scheduled(self, prompt):
        self.seen.append(prompt)
        extra = {"pooled_output": torch.ones(1, 4), "raw": True, "none": None, "not kept": [1]}
        return [[torch.full((1, 2 + len(prompt) % 2, 3), float(len(prompt))), extra]]


@pytest.fixture
def encoded(tmp_path, monkeypatch):
    """Makes the encoded prompts, and lists which texts were encoded and when the encoders left the device."""
    management, encoder = types.ModuleType("comfy.model_management"), Encoder()
    management.unload_all_models = lambda: encoder.left.append(len(encoder.seen))
    management.soft_empty_cache = lambda: None
    monkeypatch.setitem(sys.modules, "comfy", types.ModuleType("comfy"))
    monkeypatch.setitem(sys.modules, "comfy.model_management", management)

    def make(*prompts, key="file", cache=tmp_path):
        encoder.seen, encoder.left = [], []
        return EncodedPrompts(list(prompts), "blurry", lambda: encoder, [key], cache), encoder

    return make


def test_prompts_are_encoded_once_and_the_encoder_is_unloaded(encoded, tmp_path):
    _, encoder = encoded("fox", "hare")
    assert (encoder.seen, encoder.left) == (["fox", "hare", "blurry"], [3])
    again, encoder = encoded("fox", "hare")
    assert (encoder.seen, encoder.left) == ([], [])
    assert [float(again[i].cross_attn[0, 0, 0]) for i in (0, 1)] == [3, 4] and float(
        again.negative.cross_attn[0, 0, 0]
    ) == 6
    assert again[1].extra.keys() == {"pooled_output", "raw", "none"}
    assert again[1].extra["raw"] is True and again[1].extra["none"] is None
    assert conditioning([again[0], again[1]]) is None  # of different lengths
    assert encoded("fox", "hare", key="another file")[1].seen == ["fox", "hare", "blurry"]
    assert encoded("fox", "wolf")[1].seen == ["wolf"]
    for path in tmp_path.glob("condition-*"):
        path.write_bytes(b"damaged")
    assert encoded("fox", "hare")[1].seen == ["fox", "hare", "blurry"]


def test_a_long_file_is_encoded_as_it_is_drawn_and_memory_holds_a_part(encoded, tmp_path):
    many = [f"prompt {i:05}" for i in range(30_000)]
    found, encoder = encoded(*many)
    assert encoder.seen == [*many[1::-1], "blurry"]  # enough to tell that the encoder is one
    found.prepare([7, 7, 29_999])
    assert encoder.seen[3:] == [many[7], many[29_999]] and encoder.left == [3, 5]
    for start in range(0, 1500, 100):
        found.prepare(range(start, start + 100))
    assert len(found._memory) <= AT_ONCE + 1
    before = len(encoder.seen)
    assert found[0].cross_attn.shape == (1, 2, 3)  # which memory no longer has, but the disk
    assert len(encoder.seen) == before
    assert len(found) == 30_000 and len(list(tmp_path.glob("condition-*"))) == 1502


def test_a_place_that_can_not_hold_them_is_named(encoded, tmp_path):
    (tmp_path / "full").write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match=r"--cache: .*full.*give another place"):
        encoded("fox", cache=tmp_path / "full")


def test_without_a_cache_they_are_kept_until_the_end(encoded):
    found, _ = encoded("fox", "hare", cache=None)
    folder = found._folder
    assert len(list(folder.iterdir())) == 3
    del found
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "--width is 0"),
        ({"frames": -1}, "--frames is -1"),
        ({"cfg": float("nan")}, "--cfg is nan"),
        ({"shift": -1.0}, "--shift is -1.0"),
        ({"lora": ("detail.safetensors:strong",)}, r"--lora detail\.safetensors:strong: give FILE:STRENGTH"),
        ({"prompts": Path("a"), "conditioning": Path("b")}, "give only one of them"),
    ],
)
def test_options_that_make_no_sense_are_named(options, message):
    with pytest.raises(TrainerError, match=message):
        ComfyOptions(**options)


def test_a_lora_has_a_strength():
    assert ComfyOptions.lora_strength("style.safetensors:0.8") == ("style.safetensors", 0.8)
    assert ComfyOptions.lora_strength("style.safetensors") == ("style.safetensors", 1.0)
