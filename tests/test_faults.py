"""The table of faults names tests that are there."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
TABLE = (TESTS.parent / "docs" / "faults.md").read_text()


def test_every_fault_names_tests_that_exist():
    named = re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", TABLE)
    missing = [(file, test) for file, test in named if not _has(file, test)]
    assert not missing
    assert {int(n) for n in re.findall(r"^\| (\d+) \|", TABLE, re.MULTILINE)} == {*range(1, 36)}


def _has(file: str, test: str) -> bool:
    path = TESTS / file
    return path.exists() and (not test or f"def {test}(" in path.read_text())
