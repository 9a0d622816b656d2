"""What the Comfy Registry takes, and what a user gets from it."""

import ast
import os
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import tomlkit

from dyweight import SolverFile

ROOT = Path(__file__).parents[1]
CHECK = ("ruff", "check", ".", "--no-cache", "--select", "S102,S307,E702")
"""Rules of the registry; `comfy node validate` only warns of them."""
DISTRIBUTED = {"__init__.py", "train.py", "pyproject.toml", "requirements.txt"}
DISTRIBUTED |= {"README.md", "LICENSE", "NOTICE", "CHANGELOG.md"}
FOLDERS = {"dyweight", "nodes", "comfyui", "trainer", "web", "locales", "example_workflows", "docs"}
COMFYUI_HAS = {"torch", "safetensors", "numpy", "einops", "tqdm", "pillow"}
GPUS = {"NVIDIA CUDA", "AMD ROCm", "Intel Arc", "Apple Metal"}


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomlkit.parse((ROOT / "pyproject.toml").read_text("utf-8")).unwrap()


@pytest.fixture(scope="module")
def candidate(tmp_path_factory) -> Path:
    """A git repository with the files that a commit of this tree would hold, for tools that write beside them."""
    folder = tmp_path_factory.mktemp("candidate")
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    for command in (["git", "init", "--quiet"], ["git", "add", "--all"]):
        subprocess.run(command, cwd=folder, check=True)
    return folder


def comfy(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """comfy-cli as at a terminal without a user: no question, no report of use, no settings outside the folder."""
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "HOME": str(home), "USERPROFILE": str(home), "DO_NOT_TRACK": "1", "NO_COLOR": "1"}
    environment = {name: value for name, value in environment.items() if not name.startswith(("GIT_", "XDG_"))}
    command = [sys.executable, "-m", "comfy_cli", "--skip-prompt", "--no-enable-telemetry", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def archive(candidate) -> dict[str, bytes]:
    """What `comfy node publish` would send: content by path."""
    done = comfy(candidate, "node", "pack")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "arning" not in done.stdout + done.stderr
    with zipfile.ZipFile(candidate / "node.zip") as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def test_the_metadata_is_what_the_registry_takes(pyproject):
    project, comfy_table = pyproject["project"], pyproject["tool"]["comfy"]
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,98}[a-z0-9]", project["name"])
    assert "comfy" not in project["name"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert re.fullmatch(r">=\d+\.\d+\.\d+", comfy_table["requires-comfyui"]), "two-part versions are dropped"
    assert 20 <= len(project["description"]) <= 200
    assert (ROOT / project["license"]["file"]).is_file()
    assert (ROOT / project["readme"]).is_file()
    assert comfy_table["PublisherId"] and comfy_table["DisplayName"]
    assert "web" not in comfy_table, "ComfyUI would look for the help pages under another name"


def test_all_classifiers_are_known_since_one_unknown_drops_all(pyproject):
    known = {"Operating System :: OS Independent", *(f"Environment :: GPU :: {name}" for name in GPUS)}
    assert set(pyproject["project"]["classifiers"]) <= known


def test_the_addresses_are_in_one_repository_and_name_files_that_exist(pyproject):
    urls = pyproject["project"]["urls"]
    assert {"Repository", "Documentation", "Issues", "Bug Tracker"} <= set(urls)
    assert all(url.startswith(urls["Repository"]) for url in urls.values())
    icon = pyproject["tool"]["comfy"]["Icon"]
    raw = urls["Repository"].replace("github.com", "raw.githubusercontent.com")
    assert icon.startswith(f"{raw}/main/")
    assert (ROOT / icon.removeprefix(f"{raw}/main/")).is_file()
    assert (ROOT / urls["Documentation"].split("/blob/main/")[1]).is_file()


def test_the_icon_is_a_square_png_of_at_most_400_pixels(pyproject):
    content = (ROOT / PurePosixPath(pyproject["tool"]["comfy"]["Icon"]).name).read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert width == height <= 400


def test_an_installation_pulls_nothing_that_comfyui_lacks(pyproject):
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    required = [line for line in lines if line.strip() and not line.startswith("#")]
    assert required == pyproject["project"]["dependencies"]
    for requirement in required:
        assert re.fullmatch(r"[a-z]+>=[\d.]+", requirement), "a lower bound and nothing else"
        assert requirement.split(">")[0] in COMFYUI_HAS


def test_the_registrys_security_rules_find_nothing(candidate):
    done = subprocess.run([sys.executable, "-m", *CHECK], cwd=candidate, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_security_rules_do_look(tmp_path):
    (tmp_path / "bad.py").write_text("exec('1'); eval('1')\n", "utf-8")
    done = subprocess.run([sys.executable, "-m", *CHECK], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert all(rule in done.stdout for rule in ("S102", "S307", "E702"))


def test_comfy_node_validate_has_no_finding(candidate):
    done = comfy(candidate, "node", "validate")
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "All validation checks passed" in said
    assert not re.search("warning|error", said, re.IGNORECASE), said


def test_the_archive_holds_what_users_need_and_nothing_else(candidate, archive):
    tops = {PurePosixPath(name).parts[0] for name in archive}
    assert tops - FOLDERS == DISTRIBUTED
    assert {"dyweight", "nodes", "comfyui", "trainer", "web", "locales"} <= tops
    assert {name for name in archive if PurePosixPath(name).name.startswith(("test_", "conftest"))} == set()
    needed = [path for room in FOLDERS - {"docs"} for path in (candidate / room).rglob("*") if path.is_file()]
    assert {path.relative_to(candidate).as_posix() for path in needed} <= set(archive)


def test_a_notice_says_whose_each_preset_is(archive):
    notice = archive["NOTICE"].decode()
    presets = {PurePosixPath(name).name: name for name in archive if name.startswith("dyweight/presets/")}
    sources = re.findall(r"^ +(\S+\.safetensors), (\d+) steps +(\S+)$", notice, re.MULTILINE)
    files = {name: SolverFile.read(ROOT / path) for name, path in presets.items()}
    assert sources == [
        (name, str(steps), file.member(steps).provenance["source"])
        for name, file in sorted(files.items())
        for steps in file.solvers.steps
    ]
    assert "carries no licence" in notice and "trainer.convert" in notice and "LICENSE" in notice
    assert "(NOTICE)" in archive["README.md"].decode()
    assert "(../NOTICE)" in archive["docs/coefficient-file.md"].decode()


def test_nothing_in_the_archive_imports_a_file_that_is_not_in_it(archive):
    modules = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in archive}
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    for name, content in archive.items():
        if name.endswith(".py"):
            package = PurePosixPath(name).parent.parts
            for node in ast.walk(ast.parse(content)):
                for imported in _imported(node, package):
                    ours = imported.split(".")[0] in rooms
                    assert not ours or imported in modules, f"{name} imports {imported}, which users do not get"


def _imported(node: ast.AST, package: tuple[str, ...]) -> list[str]:
    """Modules that an import statement reads, relative ones from the root of the pack."""
    if isinstance(node, ast.Import):
        return [name.name for name in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = package[: len(package) + 1 - node.level] if node.level else ()
    return [".".join([*base, *(node.module or "").split(".")]).strip(".")]


OWN_PAGES = "https://github.com/dyweight/ComfyUI-DyWeight/blob/main/"


def test_every_link_of_the_documents_leads_to_a_file_of_the_repository():
    for document in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text("utf-8")):
            own = target.startswith(OWN_PAGES)
            file = ROOT / target.removeprefix(OWN_PAGES) if own else document.parent / target
            assert file.exists() or (not own and "://" in target), f"{document} links to {target}"


def test_the_documents_of_the_archive_link_to_nothing_that_is_not_in_it(archive):
    for name, content in archive.items():
        for target in re.findall(r"\]\(([^)#\s]+)", content.decode()) if name.endswith(".md") else []:
            file = os.path.normpath(PurePosixPath(name).parent / target)
            folder = any(other.startswith(f"{file}/") for other in archive)
            assert "://" in target or file in archive or folder, f"{name} links to {target}"


def test_without_comfyui_importing_the_pack_does_nothing_and_fails_nothing(tmp_path):
    script = (
        "import importlib.util, sys\n"
        "before = set(sys.modules)\n"
        "spec = importlib.util.spec_from_file_location('pack', sys.argv[1], submodule_search_locations=[sys.argv[2]])\n"
        "pack = sys.modules['pack'] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(pack)\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}), callable(pack.comfy_entrypoint))\n"
    )
    command = [sys.executable, "-c", script, str(ROOT / "__init__.py"), str(ROOT)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    *loaded, has_entrypoint = done.stdout.split()
    assert set(loaded) <= {"pack", *sys.stdlib_module_names}
    assert has_entrypoint == "True"


def test_publishing_starts_at_a_new_pyproject_and_may_read_only():
    workflow = (ROOT / ".github" / "workflows" / "publish.yml").read_text("utf-8")
    assert "uses: Comfy-Org/publish-node-action@" in workflow
    assert "paths: [pyproject.toml]" in workflow
    assert "personal_access_token: ${{ secrets.REGISTRY_ACCESS_TOKEN }}" in workflow
    assert re.search(r"^permissions:\n  contents: read\n\n", workflow, re.MULTILINE)
