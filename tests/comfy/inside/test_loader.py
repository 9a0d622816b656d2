"""The loader: what it lists, what it reads again, what it refuses."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from sampling_tools import call, random_solver, save

PRESETS = {"preset: flux1-dev": (3, 5, 7), "preset: sd15": (4, 6, 8, 10)}


@pytest.fixture
def loader(node_classes):
    return node_classes["DyWeightLoadSolver"]


def listed(loader):
    options = loader.INPUT_TYPES()["required"]["solver_name"]
    return options[1]["options"] if options[0] == "COMBO" else options[0]


def solver_of(pack, seed=0, steps=4):
    return random_solver(pack, torch.linspace(1, 0, steps + 1), seed=seed)


def test_files_subfolders_other_model_paths_and_presets_are_listed(pack, loader, user_files, tmp_path):
    import folder_paths

    elsewhere = tmp_path / "elsewhere"
    save(pack, user_files / "one.safetensors", solver_of(pack))
    save(pack, user_files / "flux" / "two.safetensors", solver_of(pack))
    save(pack, elsewhere / "three.safetensors", solver_of(pack, seed=3))
    (user_files / "notes.txt").write_text("no solver")
    folder_paths.add_model_folder_path("dyweight", str(elsewhere))
    try:
        own = {"one.safetensors", os.path.join("flux", "two.safetensors"), "three.safetensors"}
        assert set(listed(loader)) >= set(PRESETS)
        assert set(listed(loader)) - {name for name in listed(loader) if name.startswith("preset: ")} == own
        for name in own:
            assert loader.validate_inputs(solver_name=name) is True
        loaded = call("DyWeightLoadSolver", solver_name="three.safetensors")
        assert torch.equal(loaded.solver.weights, solver_of(pack, seed=3).weights)
    finally:
        folder_paths.folder_names_and_paths["dyweight"][0].remove(str(elsewhere))


@pytest.mark.parametrize("name", ["flux/two.safetensors", "flux\\two.safetensors"])
def test_a_workflow_of_another_system_finds_a_file_in_a_subfolder(pack, loader, user_files, name):
    save(pack, user_files / "flux" / "two.safetensors", solver_of(pack))
    assert loader.validate_inputs(solver_name=name) is True
    assert torch.equal(call("DyWeightLoadSolver", solver_name=name).solver.weights, solver_of(pack).weights)
    assert loader.fingerprint_inputs(name) == loader.fingerprint_inputs("flux/two.safetensors")
    assert "no coefficient file" in loader.validate_inputs(solver_name=name.replace("two", "three"))


def test_a_new_file_appears_without_a_restart(pack, loader, user_files):
    assert "new.safetensors" not in listed(loader)
    save(pack, user_files / "new.safetensors", solver_of(pack))
    assert "new.safetensors" in listed(loader)


def test_a_folder_that_went_away_leaves_the_presets(pack, loader, user_files):
    save(pack, user_files / "one.safetensors", solver_of(pack))
    assert "one.safetensors" in listed(loader)
    (user_files / "one.safetensors").unlink()
    user_files.rmdir()
    assert set(listed(loader)) == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_loads_and_names_its_model(pack, loader, name):
    assert name in listed(loader)
    assert loader.validate_inputs(solver_name=name) is True
    file = call("DyWeightLoadSolver", solver_name=name)
    assert file.solvers.steps == PRESETS[name]
    assert file.provenance["model_family"] == ("Flux" if "flux" in name else "SD15")


def test_a_changed_file_is_read_again_and_has_another_fingerprint(pack, loader, user_files):
    file = user_files / "changing.safetensors"
    save(pack, file, solver_of(pack, seed=1))
    first, print_of_first = call("DyWeightLoadSolver", solver_name=file.name), loader.fingerprint_inputs(file.name)
    assert loader.fingerprint_inputs(file.name) == print_of_first
    assert call("DyWeightLoadSolver", solver_name=file.name) is first
    save(pack, file, solver_of(pack, seed=2))
    second = call("DyWeightLoadSolver", solver_name=file.name)
    assert torch.equal(second.solver.weights, solver_of(pack, seed=2).weights)
    assert torch.equal(first.solver.weights, solver_of(pack, seed=1).weights)
    assert loader.fingerprint_inputs(file.name) != print_of_first


@pytest.mark.parametrize(
    "name",
    [
        "missing.safetensors",
        "../secret.safetensors",
        "sub/../../secret.safetensors",
        "preset: missing",
        "preset: ../presets/sd15",
        "preset: ../presets/sd15-4-steps",
        "",
        "ABSOLUTE",
    ],
)
def test_a_name_outside_the_list_is_refused_by_name(pack, loader, user_files, name):
    secret = user_files.parent / "secret.safetensors"
    save(pack, secret, solver_of(pack))
    name = str(secret) if name == "ABSOLUTE" else name
    message = loader.validate_inputs(solver_name=name)
    assert isinstance(message, str)
    assert repr(name) in message
    assert str(user_files) in message
    with pytest.raises(ValueError, match="Choose another file: there is no coefficient file"):
        call("DyWeightLoadSolver", solver_name=name)
    assert isinstance(loader.fingerprint_inputs(name), str)


def test_a_near_name_is_offered(pack, loader, user_files):
    save(pack, user_files / "flux-five.safetensors", solver_of(pack))
    assert "did you mean flux-five.safetensors" in loader.validate_inputs(solver_name="flux-fife.safetensors")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def lora(file: Path) -> None:
    save_file({"lora_up.weight": torch.zeros(4, 4)}, file, metadata={"format": "pt"})


@pytest.mark.parametrize("damage", [cut, empty, lora])
def test_a_file_that_is_no_whole_coefficient_file_is_refused_by_name(pack, loader, user_files, damage):
    file = user_files / f"{damage.__name__}-me.safetensors"
    save(pack, file, solver_of(pack))
    assert loader.validate_inputs(solver_name=file.name) is True
    damage(file)
    message = loader.validate_inputs(solver_name=file.name)
    assert isinstance(message, str) and file.name in message
    with pytest.raises(ValueError, match=f"^Choose another file: .*{file.name}"):
        call("DyWeightLoadSolver", solver_name=file.name)
    assert file.name in listed(loader)


def test_a_linked_name_is_checked_when_it_runs(loader):
    """ComfyUI validates before it runs, when a linked name is not known yet."""
    assert loader.validate_inputs(solver_name=None) is True
    assert isinstance(loader.fingerprint_inputs(solver_name=None), str)
