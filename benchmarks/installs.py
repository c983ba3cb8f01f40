"""What each extra of the package takes to install, on disk and in time.

    python -m benchmarks.installs --output results/installs
    python -m benchmarks.installs --extras base edge --python python3.12

Each extra is installed from a built wheel, with byte code, into a virtual environment of its own,
which is deleted afterwards. The table has a row an extra: `python`, `mb` (10⁶ bytes of the files in
site-packages, without pip and setuptools), `seconds` and `cpu_seconds` of pip, with downloads from
whatever registry it is set up for, `import_seconds` (CPU seconds of `import keras_ddnn`, the median
of five fresh processes), `packages`, and `largest`: the three largest, in MB. CPU seconds count on
a machine that has other work, too. With `edge` a device classifies a folder of images there,
without a cloud. Rows of other extras stay in the table, so that it can be measured in parts. The
exit code is 1 where a bar is missed.
"""

import argparse
import csv
import io
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from configparser import ConfigParser
from importlib.metadata import Distribution, distributions
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from keras_ddnn.files.atomic import replacing_file

ROOT = Path(__file__).resolve().parent.parent
BASE = "base"
UNMEASURED = ("dev", "benchmarks")  # not for users, and a torch whose size is that of its build
COLUMNS = (
    "extra",
    "python",
    "mb",
    "seconds",
    "cpu_seconds",
    "import_seconds",
    "packages",
    "largest",
)
MOST_MB = {BASE: 100, "edge": 175}
MOST_IMPORT_SECONDS = 0.15
FILES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")
PACKAGES = ("keras_ddnn", "tune", "figures")
INSTALLERS = ("pip", "setuptools")  # of which each environment has some, whatever it is for
ARTIFACT = ROOT / "tests" / "cases" / "schema4"
IMAGES = 12
README_TITLE = "## Installs"
VERSION = "import platform; print(platform.python_version())"
IMPORT = """
import time
start = time.process_time()
import keras_ddnn
print(time.process_time() - start)
"""


def main() -> None:
    every = [BASE, *(name for name in _extras() if name not in UNMEASURED)]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--extras", nargs="+", metavar="EXTRA", choices=every, default=every)
    parser.add_argument("--python", default=sys.executable, help="that makes the environments")
    parser.add_argument("--wheel", type=Path, help="that is installed; one is built by default")
    parser.add_argument("--output", type=Path, help="folder of table.csv")
    options = parser.parse_args()

    table = options.output / "table.csv" if options.output else None
    rows = _rows_of(table) if table and table.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        wheel = (options.wheel or _wheel(Path(folder))).resolve()
        for extra in options.extras:
            rows[extra] = _measured(extra, wheel, options.python)
            print(*(f"{name}={rows[extra][name]}" for name in COLUMNS), flush=True)
            if table:
                _keep(table, [rows[name] for name in every if name in rows])
    print(readme_table(rows.values()))
    missed = [line for name in options.extras for line in missed_bars(rows[name])]
    sys.exit("\n".join(missed) if missed else 0)


def _extras() -> list[str]:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    return list(config["options.extras_require"])


def _wheel(folder: Path) -> Path:
    """Build a wheel of a copy: `build/` of a used tree keeps files that are gone."""
    source = folder / "source"
    source.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    subprocess.run([*command, str(folder), str(source)], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _measured(extra: str, wheel: Path, python: str) -> dict[str, str]:
    """Install an extra, and return its row of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = folder / "environment"
        subprocess.run([python, "-m", "venv", "--without-pip", str(environment)], check=True)
        asked = str(wheel) if extra == BASE else f"{wheel}[{extra}]"
        start, before = time.perf_counter(), _cpu_seconds()
        pip = [sys.executable, "-m", "pip", "--python", str(environment), "install", "--quiet"]
        subprocess.run([*pip, "--no-cache-dir", asked], cwd=folder, env=_environment(), check=True)
        seconds, cpu_seconds = time.perf_counter() - start, _cpu_seconds() - before
        sizes = {each: size for each, size in _sizes(environment) if each not in INSTALLERS}
        largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
        imports = [float(_run(environment, folder, "-c", IMPORT)) for _ in range(5)]
        row = {
            "extra": extra,
            "python": _run(environment, folder, "-c", VERSION),
            "mb": f"{sum(sizes.values()):.1f}",
            "seconds": f"{seconds:.0f}",
            "cpu_seconds": f"{cpu_seconds:.0f}",
            "import_seconds": f"{median(imports):.3f}",
            "packages": str(len(sizes)),
            "largest": "; ".join(f"{each} {sizes[each]:.1f}" for each in largest),
        }
        if extra == "edge":
            _classify(environment, folder)
    return row


def _cpu_seconds() -> float:
    """Return the CPU seconds of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _environment() -> dict[str, str]:
    """Return the variables of a process that shall find nothing of this repository."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def _run(environment: Path, folder: Path, *arguments: str) -> str:
    """Run the Python of an environment in a folder without this repository; return what it says."""
    python = environment / "bin" / "python"
    run = subprocess.run(
        [str(python), *arguments], cwd=folder, env=_environment(), capture_output=True, text=True
    )
    if run.returncode:
        raise SystemExit(f"{' '.join(arguments[:4])} ended with {run.returncode}: {run.stderr}")
    return run.stdout.strip()


def _sizes(environment: Path) -> Iterator[tuple[str, float]]:
    """Return the MB of the installed packages, byte code included, as pip has recorded them."""
    (site,) = environment.glob("lib/python*/site-packages")
    for package in distributions(path=[str(site)]):
        yield package.metadata["Name"], sum(map(_bytes_of, _files(package, site))) / 1e6


def _files(package: Distribution, site: Path) -> Iterator[Path]:
    for file in package.files or ():
        path = Path(package.locate_file(file)).resolve()
        if site.resolve() in path.parents:  # and no script in bin/
            yield path


def _bytes_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _classify(environment: Path, folder: Path) -> None:
    """Let a device of that environment classify images, and check that it has answered all."""
    images, output = folder / "images", folder / "answers.csv"
    images.mkdir()
    shape = (*json.loads((ARTIFACT / "manifest.json").read_text())["input_shape"][:2], 3)
    for number in range(IMAGES):
        brightness = 255 * number // IMAGES
        Image.fromarray(np.full(shape, brightness, np.uint8)).save(images / f"{number}.png")
    arguments = [str(ARTIFACT), "--images", str(images), "--output", str(output)]
    _run(environment, folder, "-m", "keras_ddnn.serve.edge", *arguments)
    with output.open(newline="") as file:
        answers = list(csv.DictReader(file))
    if len(answers) != IMAGES or not all(answer["name"] for answer in answers):
        raise SystemExit(f"the device answers {len(answers)} of {IMAGES} images: {answers[:2]}")
    print(
        f"a device classifies {len(answers)} images of {images.name}/ without a cloud", flush=True
    )


def readme_table(rows: Iterable[dict[str, str]]) -> str:
    """Return rows of the table as the README shows them."""
    lines = [
        f"| `{row['extra']}` | {float(row['mb']):,.0f} | {row['cpu_seconds']} |" for row in rows
    ]
    return "\n".join(["| extra | MB | CPU seconds |", "|---|---|---|", *lines])


def missed_bars(row: dict[str, str]) -> Iterator[str]:
    """Return a line for each bar that a row misses."""
    most = MOST_MB.get(row["extra"], float("inf"))
    if float(row["mb"]) >= most:
        yield f"{row['extra']} has {row['mb']} MB, expected below {most}: {row['largest']}"
    if float(row["import_seconds"]) >= MOST_IMPORT_SECONDS:
        yield (
            f"{row['extra']}: import keras_ddnn takes {row['import_seconds']} s, "
            f"expected below {MOST_IMPORT_SECONDS}"
        )


def _rows_of(table: Path) -> dict[str, dict[str, str]]:
    with table.open(newline="") as file:
        return {row["extra"]: row for row in csv.DictReader(file)}


def _keep(table: Path, rows: list[dict[str, str]]) -> None:
    table.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replacing_file(table) as file:
        file.write(text.getvalue().encode())


if __name__ == "__main__":
    print(f"Python {platform.python_version()}; downloads come from the registry of pip's settings")
    main()
