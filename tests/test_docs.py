"""The pages of the documentation: their code runs, and prints what they say that it prints."""

import json
import re
from pathlib import Path

import pytest
from blocks import (
    ROOT,
    blocks_of,
    commands_of,
    is_slow,
    run,
    shows,
    unknown_names,
    unknown_options,
)

import keras_ddnn

PAGES = sorted((ROOT / "docs").rglob("*.md"))
README = ROOT / "README.md"
TEXTS = [*PAGES, README]
FAST = [p for p in PAGES if not is_slow(p) and any(block.runs for block in blocks_of(p))]
SLOW = [page for page in PAGES if is_slow(page)]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
# What a browser fetches from another host, as it opens a page.
ASKS = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//""")


def named(page):
    return str(page.relative_to(ROOT))


def require_as_shown(page, exact):
    blocks = [block for block in blocks_of(page) if block.runs]
    for block, printed in zip(blocks, run(page), strict=True):
        place = f"{named(page)}, line {block.line + 1}"
        assert shows(block.output or "", printed, exact), f"{place} prints:\n{printed}"


@pytest.mark.parametrize("page", FAST, ids=named)
def test_a_page_prints_what_it_shows(page):
    require_as_shown(page, exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW, ids=named)
def test_a_page_that_trains_prints_what_it_shows_but_for_numbers(page):
    require_as_shown(page, exact=False)


@pytest.mark.parametrize("page", [page for page in TEXTS if commands_of(page)], ids=named)
def test_a_command_of_a_page_has_the_options_that_it_is_given(page):
    unknown = {command: unknown_options(command) for command in commands_of(page)}
    assert {command: options for command, options in unknown.items() if options} == {}


def test_the_readme_takes_from_the_package_what_is_there():
    blocks = [block.code for block in blocks_of(README) if block.language == "python"]
    assert blocks  # which are not run: they train for minutes
    assert {name for code in blocks for name in unknown_names(code)} == set()


def test_a_name_or_an_argument_that_the_package_lacks_is_found():
    code = "keras_ddnn.OffloadCurve.of(1)\nkeras_ddnn.for_price(s, bank, prize=2).promise\nx.y(z=1)"
    assert unknown_names(code) == ["keras_ddnn.OffloadCurve.of", "keras_ddnn.for_price(prize=)"]


def test_a_target_of_make_that_a_page_names_is_there():
    makefile = (ROOT / "Makefile").read_text()
    lines = "\n".join(page.read_text() for page in TEXTS).splitlines()
    targets = {line.split()[1] for line in lines if line.strip().startswith("make ")}
    assert {"quickstart", "test"} <= targets
    assert [target for target in targets if f"\n{target}:" not in makefile] == []


def test_every_page_but_those_of_the_project_shows_code():
    texts = {"decisions.md", "faults.md", "paper.md"}
    assert [page.name for page in PAGES if not blocks_of(page) and page.name not in texts] == []


def test_what_is_shown_is_held_against_what_is_printed():
    assert shows("0.50 kept,  1,234 samples\n", "0.505 kept, 1,230 samples", exact=True)
    assert not shows("0.50 kept", "0.60 kept", exact=True)
    assert shows("0.50 kept", "0.60 kept", exact=False)
    assert not shows("0.50 kept", "0.50 sent", exact=False)
    assert not shows("", "0.50", exact=False)


def test_blocks_and_options_are_found_where_a_page_has_them(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nprint(2)\n```\n\n```text\n2\n```\n\n```sh\npython -m keras_ddnn.rules --no \\\n"
        "    --output a  # --comment\n```\n\n    keras-ddnn rules b --seed 1\n"
    )
    assert [(block.code, block.output, block.runs) for block in blocks_of(page)] == [
        ("print(2)\n", "2\n", True),
        ("python -m keras_ddnn.rules --no \\\n    --output a  # --comment\n", None, False),
    ]
    assert [unknown_options(command) for command in commands_of(page)] == [["--no"], []]


def test_a_page_has_the_command_and_does_not_name_the_folder_that_it_runs_in(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        '```python\nfrom pathlib import Path\n\nprint(Path("a").absolute())\n```\n\n'
        "```sh\nkeras-ddnn --version\n```\n\n```text\n```\n"
    )
    assert run(page) == ["a\n", f"keras_ddnn {keras_ddnn.__version__}\n"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_a_notebook_is_kept_with_its_outputs(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_a_notebook_prints_what_it_keeps_but_for_numbers(path):
    reason = "pip install 'keras_ddnn[docs]' brings what runs notebooks"
    nbformat = pytest.importorskip("nbformat", reason=reason)
    pytest.importorskip("nbclient", reason=reason)
    pytest.importorskip("ipykernel", reason=reason)
    import notebooks

    kept = notebooks.printed(nbformat.read(path, as_version=4))
    for told, printed in zip(kept, notebooks.printed(notebooks.run(path)), strict=True):
        assert shows(told, printed, exact=False), printed


def test_the_site_is_built_without_a_dead_link_and_asks_no_other_host(tmp_path, monkeypatch):
    reason = "pip install 'keras_ddnn[docs]' brings what builds the site"
    for module in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(module, reason=reason)
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.chdir(ROOT)
    build(load_config("mkdocs.yml", site_dir=str(tmp_path / "site")))
    pages = list(Path(tmp_path, "site").rglob("*.html"))
    assert len(pages) > len(PAGES)
    assert [page.name for page in pages if ASKS.search(page.read_text())] == []
