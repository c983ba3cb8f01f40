"""What the site has besides the pages of this folder: notebooks, the reference, and other files.

A page links to files of the repository by their paths, as everywhere. The site gets copies of those
that are linked; a link to a folder becomes its name.
"""

import ast
import base64
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PACKAGE = ROOT / "keras_ddnn"
PROJECT = ("CHANGES.md", "CONTRIBUTING.md", "EXPERIMENTS.md")
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#:]+)(?P<anchor>#[^)]*)?\)")
README = {ROOT / "README.md": DOCS / "index.md"}  # in the site the one takes the other's place


def on_files(files: Files, config: Any) -> Files:
    """Add to the files of the site what is not in `docs`."""
    for name in PROJECT:
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    for uri, content in (*notebooks(), *reference()):
        files.append(File.generated(config, uri, content=content))
    for path in {target for file in files for target in linked(file)}:
        uri = uri_of(path)
        if path.is_file() and uri not in files.src_uris:
            files.append(File(uri, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Turn paths of the repository into paths of the site."""

    def rewritten(found: re.Match) -> str:
        path = target_of(page.file, found)
        if path is None or not path.exists():
            return found[0]  # MkDocs says what is wrong with it
        if path.is_dir():
            return found["text"]
        to = os.path.relpath(uri_of(path), Path(page.file.src_uri).parent)
        return f"{found['image']}[{found['text']}]({to}{found['anchor'] or ''})"

    return LINK.sub(rewritten, markdown)


def linked(file: File) -> Iterator[Path]:
    """Yield the files of the repository that a page links to."""
    if file.is_documentation_page() and file.abs_src_path:
        for found in LINK.finditer(file.content_string):
            if path := target_of(file, found):
                yield path


def target_of(file: File, found: re.Match) -> Path | None:
    """Return what a link of a page leads to, in the repository; None of pages that are made."""
    if not file.abs_src_path:
        return None
    path = (Path(file.abs_src_path).parent / found["target"]).resolve()
    return README.get(path, path)


def uri_of(path: Path) -> str:
    """Return where a file of the repository is in the site."""
    return path.relative_to(DOCS if path.is_relative_to(DOCS) else ROOT).as_posix()


def notebooks() -> Iterator[tuple[str, str | bytes]]:
    """Yield a page for each notebook of `examples`, and the pictures in it."""
    for path in sorted((ROOT / "examples").glob("*.ipynb")):
        parts = []
        for cell in json.loads(path.read_text())["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                parts.append(source)
                continue
            parts.append(f"```python\n{source}\n```")
            for output in cell["outputs"]:
                data = output.get("data", {})
                if "image/png" in data:
                    name = f"{path.stem}_{len(parts)}.png"
                    yield f"examples/{name}", base64.b64decode(data["image/png"])
                    parts.append(f"![output]({name})")
                elif text := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
                    parts.append(f"```text\n{text}\n```")
        parts.append(
            f"This page is the notebook `examples/{path.name}`, with the outputs of its run."
        )
        yield f"examples/{path.stem}.md", "\n\n".join(parts) + "\n"


def reference() -> Iterator[tuple[str, str]]:
    """Yield a page for each room, and one of all names that the package exports."""
    exported = {name: found_in(module, name) for name, module in public_names().items()}
    rows = []
    for name, (module, node) in sorted(exported.items()):
        address = f"{module.partition('.')[0]}.md#keras_ddnn.{module}.{name}"
        rows.append(f"| [`{name}`]({address}) | {first_line(node)} |")
    intro = "Names that `keras_ddnn` exports. Each is imported from its file when first used.\n"
    yield "api/index.md", f"# All names\n\n{intro}\n| name | is |\n|---|---|\n" + "\n".join(rows)
    files = {module.partition(".")[0] for module, _ in exported.values()}
    for place in sorted(PACKAGE.iterdir()):
        if (place / "__init__.py").exists() or (place.suffix == ".py" and place.stem in files):
            yield f"api/{place.stem}.md", page_of_room(place, exported)


def page_of_room(place: Path, exported: dict[str, tuple[str, ast.AST]]) -> str:
    """Return the page of a room: what it is for, the names exported from it, and its files."""
    init = place / "__init__.py" if place.is_dir() else place
    parts = [f"# {place.stem}", ast.get_docstring(ast.parse(init.read_text())) or ""]
    for name, (module, _) in sorted(exported.items()):
        if module.partition(".")[0] == place.stem:
            parts.append(f"::: keras_ddnn.{module}.{name}")
    if place.is_dir():
        rows = [
            f"| `{path.relative_to(PACKAGE)}` | {first_line(ast.parse(path.read_text()))} |"
            for path in sorted(place.rglob("*.py"))
            if path.name != "__init__.py"
        ]
        parts.append("## Files\n\n| file | is |\n|---|---|\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"


def public_names() -> dict[str, str]:
    """Return the table of the package: public name → file, without importing it."""
    for node in ast.parse((PACKAGE / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_FILE_OF":
            return ast.literal_eval(node.value)
    raise ValueError("keras_ddnn/__init__.py: expected the table _FILE_OF; received none")


def found_in(module: str, name: str) -> tuple[str, ast.AST]:
    """Return the file that defines a name which a file of the package has, and its definition."""
    for node in ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text()).body:
        if getattr(node, "name", None) == name:
            return module, node
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            return found_in(node.module.removeprefix("keras_ddnn."), name)
    raise ValueError(f"keras_ddnn.{module}: expected a definition of {name}; received none")


def first_line(node: ast.AST) -> str:
    """Return the first line of a docstring, as a cell of a table."""
    line = (ast.get_docstring(node) or "").partition("\n")[0]
    return line.replace("|", "\\|")
