"""What is installed, as measured and as tested, is what `setup.cfg` and the README say."""

import csv
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.installs import README_TITLE, missed_bars, readme_table

ROOT = Path(__file__).parent.parent
LOCKS = sorted((ROOT / "constraints").glob("*.txt"))


@pytest.fixture(scope="module")
def measured():
    with (ROOT / "results" / "installs" / "table.csv").open(newline="") as file:
        return {row["extra"]: row for row in csv.DictReader(file)}


def requirements(setup, extra):
    """Return what an extra of the package needs, with what its own extras need."""
    lines = setup["options.extras_require"][extra] if extra else ""
    for line in (setup["options"]["install_requires"] + lines).split("\n"):
        if line.startswith("keras_ddnn"):
            for inner in Requirement(line).extras:
                yield from requirements(setup, inner)
        elif line:
            yield Requirement(line)


def test_each_python_that_is_promised_has_a_lock(setup):
    promised = re.findall(r":: 3\.(\d+)$", setup["metadata"]["classifiers"], re.MULTILINE)
    assert {f"py3{minor}.txt" for minor in promised} <= {lock.name for lock in LOCKS}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_names_versions_alone_and_those_that_are_allowed(setup, lock):
    versions = {}
    for line in lock.read_text().splitlines():
        name, version = re.fullmatch(r"([\w.-]+)==([\w.]+)", line).groups()  # and no path or host
        versions[canonicalize_name(name)] = version
    for needed in requirements(setup, "dev"):
        version = versions[canonicalize_name(needed.name)]
        assert needed.specifier.contains(version), (needed, version)


def test_what_was_measured_keeps_to_the_bars_and_is_what_the_readme_says(measured):
    assert {"base", "edge"} <= set(measured)
    assert [line for row in measured.values() for line in missed_bars(row)] == []
    section = (ROOT / "README.md").read_text().partition(README_TITLE)[2].partition("\n## ")[0]
    assert readme_table(measured.values()) in section


def test_a_device_is_told_what_it_is_too_large_by(measured):
    (line,) = missed_bars(measured["edge"] | {"mb": "175.0"})
    assert line.startswith("edge has 175.0 MB, expected below 175: ")
    (line,) = missed_bars(measured["base"] | {"import_seconds": "0.2"})
    assert line == "base: import keras_ddnn takes 0.2 s, expected below 0.15"
