"""A file imports only files above it in the flow of data, and a command only what it needs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

NUMPY_FILES = (
    "atomic",
    "seal",
    "manifest",
    "checks",
    "cluttered_digits",
    "datasets",
    "quantisation",
    "bank",
    "payload",
    "costs",
    "head_inputs",
    "losses",
    "targets",
    "rules",
    "statistics",
    "anchored",
    "certificate",
    "calibration",
    "evaluation",
    "disagreement",
    "diagnostics",
    "diagnose",
    "labels",
    "report",
    "model_card",
    "config",
)
KERAS_FILES = (
    "layers",
    "models",
    "batches",
    "capture",
    "bottleneck",
    "mc_dropout",
    "tensorboard",
    "training",
    "heads",
    "head_stack",
    "policy",
    "score_graph",
    "export",
    "artifact",
    "pipeline",
)
# Run by two machines; what they need of Keras they import when they start.
SERVE_FILES = (
    "serve.limits",
    "serve.wire",
    "serve.link",
    "serve.betting",
    "serve.share",
    "serve.audit",
    "serve.drift",
    "serve.edge_metrics",
    "serve.edge_view",
    "serve.edge",
    "serve.requests",
    "serve.batching",
    "serve.cloud_metrics",
    "serve.turns",
    "serve.gate",
    "serve.service",
    "serve.logs",
    "serve.listening",
    "serve.server",
    "serve.cloud",
    "serve.slow_link",
    "serve.demo",
)
ORDER = NUMPY_FILES + KERAS_FILES + SERVE_FILES
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


def package_files(names: set[str]) -> set[str]:
    """Return the files of keras_ddnn among dotted names; "" is the package itself."""
    parts = [name.split(".")[1:] or [""] for name in names if name.split(".")[0] == "keras_ddnn"]
    return {".".join(part[: 1 + (part[0] == "serve")]) for part in parts}


def path_of(name: str) -> Path:
    """Return the path of a file of the package by its name in the order."""
    return ROOT / "keras_ddnn" / f"{name.replace('.', '/')}.py"


def modules_after(code: str) -> set[str]:
    """Return the packages a fresh interpreter has loaded once it has run `code`."""
    code = f"import sys\ntry:\n    {code}\nexcept SystemExit: pass\nprint('\\n', *sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return packages(set(run.stdout.splitlines()[-1].split()))


def test_every_file_of_the_package_has_its_place_in_the_order():
    package = ROOT / "keras_ddnn"
    files = [path.relative_to(package) for path in package.rglob("*.py")]
    names = [".".join(file.with_suffix("").parts) for file in files if file.stem != "__init__"]
    assert sorted(ORDER) == sorted(names)


@pytest.mark.parametrize("name", ORDER)
def test_a_file_imports_only_files_above_it(name):
    imported = package_files(imports(path_of(name)))
    assert imported <= set(ORDER[: ORDER.index(name)])


@pytest.mark.parametrize("name", ["__init__", *ORDER])
def test_the_package_knows_neither_the_search_nor_the_figures(name):
    assert not packages(imports(path_of(name))) & {"tune", "figures", "ray"}


@pytest.mark.parametrize("name", ["__init__", *NUMPY_FILES, *SERVE_FILES])
def test_these_files_need_no_keras_at_their_top(name):
    tree = ast.parse(path_of(name).read_text())
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
    assert package_files(imports(path)) <= set(NUMPY_FILES)


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import keras_ddnn", {"ray", "tensorflow", "keras", "pandas"}),
        (
            "import keras_ddnn.serve.edge",
            {"tensorflow", "keras", "ray", "scipy", "pandas", "sklearn"},
        ),
        ("import keras_ddnn; keras_ddnn.fit_ddnn", {"ray", "tune", "figures"}),
        (HELP_OF.format("tune.search"), {"ray", "tensorflow", "keras"}),
        (HELP_OF.format("figures"), {"ray", "tensorflow", "keras"}),
        (HELP_OF.format("keras_ddnn.serve.cloud"), {"ray", "tensorflow", "keras"}),
    ],
    ids=[
        "the package",
        "a device",
        "training",
        "help of the search",
        "help of the figures",
        "help of the cloud",
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(code, unwanted):
    loaded = modules_after(code)
    assert not loaded & unwanted
    assert loaded & {"keras_ddnn", "figures", "tune"}
