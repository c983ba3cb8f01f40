"""The code blocks of pages of documentation: run in order, and held against what the page shows.

    python tests/blocks.py PAGE.md …    writes what the blocks print today into the pages

A ```python block runs in the process of its page, in an empty folder. A ```sh block runs there
too if a ```text block follows; without one, `unknown_options` reads it. The ```text block behind
a block is what that prints. A page that takes long says `slow: true` in its front matter.
"""

import ast
import inspect
import io
import json
import math
import os
import re
import runpy
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from pathlib import Path

import keras_ddnn
from keras_ddnn.__main__ import COMMANDS

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(
    r"^```(?P<language>python|sh)[^\n]*\n(?P<code>.*?)^```\n"
    r"(?P<between>\n*)(?P<opening>^```(?:text|{\.text)[^\n]*\n)?(?(opening)(?P<output>.*?)^```$)",
    re.MULTILINE | re.DOTALL,
)
INDENTED = re.compile(r"(?:^    .*\S.*\n)+", re.MULTILINE)  # commands, as in the README
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+−]?\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?")
COMMAND = re.compile(r"^(?:(?:\.venv/bin/)?python -m (?P<module>[\w.]+)|keras-ddnn (?P<name>\w+))")
SECONDS = 600  # that a page may take


@dataclass(frozen=True)
class Block:
    """A block of a page: its code, and what the page says that it prints; None if nothing."""

    language: str
    code: str
    output: str | None
    line: int

    @property
    def runs(self) -> bool:
        """Whether it is executed."""
        return self.language == "python" or self.output is not None


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, from top to bottom."""
    text = page.read_text()
    return [
        Block(found["language"], found["code"], found["output"], text[: found.start()].count("\n"))
        for found in BLOCK.finditer(text)
    ]


def is_slow(page: Path) -> bool:
    """Return whether a page says that it takes long."""
    return page.read_text().startswith("---\nslow: true\n")


def run(page: Path) -> list[str]:
    """Run the blocks of a page that run, in an empty folder, and return what each prints."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as programs:
        installed = Path(programs, "keras-ddnn")  # an older installation may lack it
        installed.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m keras_ddnn "$@"\n')
        installed.chmod(0o755)
        places = (programs, str(Path(sys.executable).parent), os.environ["PATH"])
        environment |= {"PATH": os.pathsep.join(places)}
        command = [sys.executable, str(Path(__file__).resolve()), "--run", str(page.resolve())]
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    if done.returncode:
        raise AssertionError(f"{page.name}: {done.stderr[-2000:]}")
    printed = json.loads(done.stdout.splitlines()[-1])
    return [text.replace(f"{os.path.realpath(folder)}/", "") for text in printed]


def shows(told: str, printed: str, exact: bool) -> bool:
    """Return whether a page tells what is printed: the same words and, if exact, close numbers.

    Numbers of a training differ from machine to machine, and so do the widths of tables.
    """
    if _words(told) != _words(printed):
        return False
    pairs = zip(NUMBER.findall(told), NUMBER.findall(printed), strict=True)
    return not exact or all(math.isclose(*map(_value, pair), rel_tol=0.02) for pair in pairs)


def commands_of(page: Path) -> list[str]:
    """Return the commands of a page that start Python, a line each."""
    fenced = [block.code for block in blocks_of(page) if block.language == "sh"]
    indented = INDENTED.findall(FENCED.sub("", page.read_text()))
    lines = [line.strip() for line in "".join(fenced + indented).replace("\\\n", " ").splitlines()]
    return [line for line in lines if COMMAND.match(line)]


def unknown_options(command: str) -> list[str]:
    """Return the options of a command that its `--help` does not name."""
    found = COMMAND.match(command)
    used = re.findall(r"(?<=\s)--[a-z][\w-]*", command.partition(" #")[0])
    text = help_of(found["module"] or COMMANDS[found["name"]][0])
    return [option for option in used if not re.search(rf"{option}\b(?!-)", text)]


def unknown_names(code: str) -> list[str]:
    """Return what code takes from the package that is not there: names, and arguments of calls."""
    unknown = []
    for node in ast.walk(ast.parse(code)):
        named = node.func if isinstance(node, ast.Call) else node
        name = ast.unparse(named) if isinstance(named, ast.Attribute) else ""
        if not re.fullmatch(r"keras_ddnn(\.\w+)+", name):
            continue
        try:
            found = attrgetter(name.removeprefix("keras_ddnn."))(keras_ddnn)
        except AttributeError:
            unknown.append(name)
            continue
        if isinstance(node, ast.Call):
            parameters = inspect.signature(found).parameters
            if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                given = [keyword.arg for keyword in node.keywords]
                unknown += [f"{name}({arg}=)" for arg in given if arg not in parameters]
    return list(dict.fromkeys(unknown))


@cache
def help_of(module: str) -> str:
    """Return what `python -m MODULE --help` prints."""
    arguments, sys.argv = sys.argv, [module, "--help"]
    try:
        with redirect_stdout(io.StringIO()) as stream, suppress(SystemExit):
            runpy.run_module(module, run_name="__main__")
    finally:
        sys.argv = arguments
    return stream.getvalue()


def _words(text: str) -> str:
    return " ".join(re.sub(r"-{2,}", "", NUMBER.sub("#", text)).split())


def _value(number: str) -> float:
    return float(number.replace(",", "").replace("−", "-"))


def _run_here(page: Path) -> list[str]:
    namespace = {"__name__": "__main__"}
    printed = []
    for block in filter(lambda block: block.runs, blocks_of(page)):
        with redirect_stdout(io.StringIO()) as stream:
            if block.language == "python":
                source = "\n" * (block.line + 1) + block.code  # lines of the page, in a traceback
                exec(compile(source, page.name, "exec"), namespace)
            else:
                done = subprocess.run(
                    ["sh", "-e", "-c", block.code], stdout=subprocess.PIPE, text=True, check=True
                )
                print(done.stdout, end="")
        printed.append(stream.getvalue())
    return printed


def _rewrite(page: Path) -> None:
    printed = iter(run(page))

    def told(found: re.Match) -> str:
        if found["language"] == "sh" and found["output"] is None:
            return found[0]
        output, start = next(printed).rstrip(), found[0][: found.start("between") - found.start()]
        opening = found["opening"] or "```text\n"
        return f"{start}\n{opening}{output}\n```" if found["opening"] or output else found[0]

    page.write_text(BLOCK.sub(told, page.read_text()))


if __name__ == "__main__":
    if sys.argv[1] == "--run":
        print(json.dumps(_run_here(Path(sys.argv[2]))))
    else:
        for path in map(Path, sys.argv[1:]):
            _rewrite(path)
