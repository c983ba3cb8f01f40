"""The examples run as they are documented, from an empty folder to two machines that agree."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SECONDS = 300  # that each may take on two cores
NETWORKS = {"any_network": 1, "two_models": 2, "table_and_tokens": 2}  # that each serves


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_an_example_serves_what_it_has_trained(name, tmp_path):
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert run.returncode == 0, run.stderr[-2000:]
    found = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    assert [row["parity"] for row in found] == [1.0] * NETWORKS[name]
