"""The rooms of the repository: who may import whom, and how long a file may be."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST = 300
ELSEWHERE = {".venv", "venv", "node_modules", "build", "dist", "__pycache__"}


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(top-level name, whether the import is relative) of each import, wherever it stands in the file.

    A relative import is followed from the root of the repository; one that leaves it has the name "..".
    """
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((name.name.split(".")[0], False) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").split(".")[0], False
        elif isinstance(node, ast.ImportFrom):
            kept = len(package) + 1 - node.level
            base = package[:kept] if kept >= 0 else ("..",)
            for name in node.names:
                yield (*base, *(node.module or name.name).split("."))[0], True


def broken(room: str, allowed: Callable[[str, bool], bool]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {top}"
        for path in sources(room)
        for top, relative in imports(path)
        if not allowed(top, relative)
    ]


def test_the_solver_core_needs_torch_safetensors_and_einops_only():
    """And itself relatively: inside ComfyUI the pack has another name. Its picture needs Pillow, its scheduler
    diffusers."""
    libraries = {"torch", "safetensors", "einops", *sys.stdlib_module_names}
    assert sources("dyweight")
    found = broken("dyweight", lambda top, relative: top == "dyweight" if relative else top in libraries)
    assert sorted(set(found)) == ["dyweight/diffusers.py imports diffusers", "dyweight/picture.py imports PIL"]


def test_the_solver_core_is_imported_without_pillow():
    code = "import sys; sys.modules['PIL'] = None; import dyweight"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_diffusers_is_imported_in_one_file_of_the_core_and_one_of_the_trainer_and_these_only_when_asked_for():
    assert set(broken("trainer", lambda top, relative: top != "diffusers")) == {
        "trainer/checkpoints/diffusers.py imports diffusers"
    }
    code = (
        "import sys; sys.modules['diffusers'] = None\n"
        "import dyweight, dyweight.placement, trainer.distill, trainer.evaluate, trainer.inspect, trainer.convert\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_trainer_does_not_know_the_nodes():
    assert not broken("trainer", lambda top, relative: top != "nodes")


def test_one_node_calls_the_trainer_and_only_when_it_runs():
    found = {line.split(" ")[0] for line in broken("nodes", lambda top, relative: top != "trainer")}
    assert found == {"nodes/fit_run.py"}
    importing = "from .fit_run import"
    lines = [line for path in sources("nodes") for line in path.read_text("utf-8").splitlines() if importing in line]
    assert len(lines) == 1 and lines[0].startswith("        "), "inside the node's execute"


def test_the_benchmarks_need_neither_the_nodes_nor_the_tests():
    assert not broken("benchmarks", lambda top, relative: top not in ("nodes", "tests"))
    assert not [path.name for path in sources("benchmarks") if '"tests' in path.read_text("utf-8")]


def test_the_nodes_need_only_what_comfyui_brings():
    brought = {
        "comfy",
        "comfy_api",
        "comfy_execution",
        "comfy_extras",
        "folder_paths",
        "latent_preview",
        "torch",
        "numpy",
        "einops",
        "PIL",
        "tqdm",
        *sys.stdlib_module_names,
    }
    assert sources("nodes")
    own = {"nodes", "dyweight", "comfyui", "trainer"}
    assert not broken("nodes", lambda top, relative: top in own if relative else top in brought)


def test_what_nodes_and_trainer_share_of_comfyui_imports_nothing_of_it():
    """Since the trainer imports it before it has found a ComfyUI."""
    assert sources("comfyui")
    libraries = {"torch", *sys.stdlib_module_names}
    assert not broken("comfyui", lambda top, relative: top == "comfyui" if relative else top in libraries)


def test_one_file_touches_the_samplers_of_comfyui():
    """By importing it, as an attribute of comfy, or by its name as a text, as import_module takes it."""

    def touches(node: ast.AST) -> bool:
        names = [name.name for name in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{name}" for name in names)]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        elif isinstance(node, ast.Call):
            names = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        return any(f"{name}.".startswith("comfy.samplers.") for name in names)

    trees = {path.name: ast.parse(path.read_text("utf-8")) for path in sources("nodes")}
    touching = [name for name, tree in trees.items() if any(map(touches, ast.walk(tree)))]
    assert touching == ["comfy_sampling.py"]


MOST_ROOMS = 16
COMMANDS = {"__init__", "distill", "evaluate", "convert", "inspect"}


def test_the_trainer_has_few_rooms_and_its_root_only_commands():
    folders = {path.parent for path in sources("trainer")}
    assert len(folders) <= MOST_ROOMS
    assert {path.stem for path in (ROOT / "trainer").glob("*.py")} == COMMANDS


def test_no_module_of_the_trainer_imports_itself_by_way_of_others():
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sources("trainer")}
    known = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    arrows = {name: {other for other in modules(path) if other in known} - {name} for name, path in known.items()}
    while leaves := [name for name, others in arrows.items() if not others & arrows.keys()]:
        for name in leaves:
            del arrows[name]
    assert not arrows, f"a circle among {sorted(arrows)}"


def modules(path: Path) -> Iterator[str]:
    """Modules that the relative imports of a file read, wherever they stand in it."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) + 1 - node.level], *(node.module or "").split(".")]
            module = ".".join(base).rstrip(".")
            is_module = {
                name.name: (ROOT / module.replace(".", "/") / f"{name.name}.py").is_file() for name in node.names
            }
            yield from (f"{module}.{name}" if own else module for name, own in is_module.items())


def test_no_file_is_too_long():
    try:
        listed = subprocess.run(["git", "ls-files", "-z", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        paths = []
    paths = paths or [path for path in ROOT.rglob("*.py") if not ELSEWHERE & set(path.relative_to(ROOT).parts)]
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in paths if path.exists()}
    assert {str(path): lines for path, lines in lengths.items() if lines > LONGEST} == {}
