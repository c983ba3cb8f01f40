"""A file imports only files above it in the flow of data, and a command only what it needs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PACKAGE = ROOT / "keras_ddnn"

# In the order of the data: a room imports itself and rooms before it.
NUMPY_ROOMS = ("files", "tasks", "data", "rules", "evaluation", "labels", "config")
KERAS_ROOMS = ("networks", "training", "heads", "deploy", "pipeline")
# Run by two machines; what they need of Keras they import when they start.
SERVE_ROOMS = ("serve.protocol", "serve.drift", "serve.edge", "serve.cloud", "serve.gateway")
ROOMS = NUMPY_ROOMS + KERAS_ROOMS + SERVE_ROOMS
MOST_ENTRIES = 12  # of a folder
SHORT = 15  # lines of a command that calls into a room
HELP_OF = "import runpy; sys.argv[1:] = ['--help']; runpy.run_module('{}', None, '__main__')"


def imports(path: Path) -> set[str]:
    """Return the dotted names that a file imports, at the top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name} uses a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def packages(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def name_of(path: Path) -> str:
    """Return the dotted name of a file below the package."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


FILES = {name_of(path): path for path in PACKAGE.rglob("*.py") if path.stem != "__init__"}


def package_files(names: set[str]) -> set[str]:
    """Return the files of keras_ddnn among dotted names; "" is the package itself."""
    found = set()
    for name in names:
        first, _, rest = name.partition(".")
        while first == "keras_ddnn" and rest and rest not in FILES:
            rest = rest.rpartition(".")[0]
        if first == "keras_ddnn":
            found.add(rest)
    return found


def room_of(file: str) -> str:
    """Return the room of a file; a file that stands in no room is one of its own."""
    return next((room for room in ROOMS if f"{file}.".startswith(f"{room}.")), file)


def is_command(file: str) -> bool:
    """Return whether a file is run: it may import any room, and no room imports it."""
    return file.endswith("__main__") or room_of(file) not in ROOMS


def is_short_command(path: Path) -> bool:
    return (
        path.is_file() and is_command(name_of(path)) and len(path.read_text().splitlines()) <= SHORT
    )


def fresh_run(code: str) -> tuple[set[str], str, str]:
    """Return the packages a fresh interpreter has loaded once it has run `code`, and what it said.

    That is what `code` wrote to standard output and to standard error.
    """
    code = f"import sys\ntry:\n    {code}\nexcept SystemExit: pass\nprint('\\n', *sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    *said, modules = run.stdout.splitlines()
    return packages(set(modules.split())), "".join(said).strip(), run.stderr


@pytest.mark.parametrize("file", [file for file in FILES if not is_command(file)])
def test_a_file_imports_its_own_room_and_those_before_it_but_no_command(file):
    imported = package_files(imports(FILES[file]))
    assert not [name for name in imported if is_command(name)]
    allowed = ROOMS[: ROOMS.index(room_of(file)) + 1]
    assert {room_of(name) for name in imported} <= set(allowed)


def test_no_file_imports_itself_by_a_detour():
    above = {file: package_files(imports(path)) & FILES.keys() for file, path in FILES.items()}
    while free := [file for file, needs in above.items() if not needs & above.keys()]:
        for file in free:
            del above[file]
    assert not above


@pytest.mark.parametrize(
    "folder", [PACKAGE, *sorted(p.parent for p in PACKAGE.rglob("__init__.py"))]
)
def test_a_folder_can_be_taken_in_at_a_glance(folder):
    ignored = {"__init__", "__main__", "__pycache__", "config"}
    entries = [
        path
        for path in folder.iterdir()
        if path.stem not in ignored and path.suffix in ("", ".py") and not is_short_command(path)
    ]
    assert len(entries) <= MOST_ENTRIES


@pytest.mark.parametrize("file", FILES)
def test_the_package_knows_neither_the_search_nor_the_figures(file):
    own = {"figures"} if file.endswith("_command") else set()  # a command may draw
    own |= {"ray"} if file == "serve.ray_app" else set()  # where Ray serves
    assert not packages(imports(FILES[file])) & ({"tune", "figures", "ray"} - own)


@pytest.mark.parametrize("file", [file for file in FILES if room_of(file) not in KERAS_ROOMS])
def test_these_files_need_no_keras_at_their_top(file):
    tree = ast.parse(FILES[file].read_text())
    top = {
        module.split(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for module in (getattr(node, "module", None), *(alias.name for alias in node.names))
        if module
    }
    assert not top & {"keras", "tensorflow", "tensorflow_datasets"}


@pytest.mark.parametrize("path", sorted((ROOT / "figures").glob("*.py")), ids=lambda p: p.stem)
def test_figures_read_reports_without_keras_or_the_search(path):
    assert not packages(imports(path)) & {"keras", "tensorflow", "tune", "ray"}
    assert {room_of(name) for name in package_files(imports(path))} <= set(NUMPY_ROOMS)


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import keras_ddnn", {"ray", "tensorflow", "keras", "pandas"}),
        (
            "import keras_ddnn.serve.edge.__main__",
            {"tensorflow", "keras", "ray", "scipy", "pandas", "sklearn"},
        ),
        (HELP_OF.format("tune.search"), {"ray", "tensorflow", "keras"}),
        (HELP_OF.format("tune.capture"), {"ray", "tensorflow", "keras"}),
        (HELP_OF.format("figures"), {"ray", "tensorflow", "keras"}),
        (HELP_OF.format("keras_ddnn.serve.cloud"), {"ray", "tensorflow", "keras"}),
        (HELP_OF.format("keras_ddnn.serve.gateway"), {"ray", "tensorflow", "keras", "pandas"}),
        (HELP_OF.format("keras_ddnn.cuts"), {"ray", "tensorflow", "keras", "pandas", "numpy"}),
    ],
    ids=[
        "the package",
        "a device",
        "help of the search",
        "help of the capture",
        "help of the figures",
        "help of the cloud",
        "help of the gateway",
        "help of the cuts",
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(code, unwanted):
    loaded, _, _ = fresh_run(code)
    assert not loaded & unwanted
    assert loaded & {"keras_ddnn", "figures", "tune"}


def test_training_loads_no_search_and_tensorflow_starts_without_a_word(monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    loaded, *said = fresh_run("import keras_ddnn; keras_ddnn.build_ddnn; keras_ddnn.fit_ddnn")
    assert said == ["", ""]
    assert not loaded & {"ray", "tune", "figures"}
    assert {"keras_ddnn", "tensorflow"} <= loaded
