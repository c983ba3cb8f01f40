"""Each install has the rooms it is for, and a missing extra is named in one line."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_import_direction import FILES, NUMPY_ROOMS, is_command, room_of

ROOT = Path(__file__).parent.parent
RATES = "--device-gmacs 1 --cloud-gmacs 9 --bandwidth-mbps 9 --round-trip-ms 9"
# What pip installs, as it is imported, with what it needs itself.
BASE = {"numpy", "PIL", "psutil"}
EVAL = BASE | {"scipy", "pandas", "sklearn", "joblib", "threadpoolctl", "dateutil", "six", "pytz"}

EDGE = BASE | {"tqdm", "ai_edge_litert", "google", "flatbuffers", "ml_dtypes", "typing_extensions"}
EDGE |= {"backports", "prometheus_client"}

# Only the standard library, the package and what is installed can be imported.
INSTALLED = """
import sys
from importlib.abc import MetaPathFinder

class Installed(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        known = sys.stdlib_module_names | {names} | {{"keras_ddnn", "tune", "figures"}}
        if top not in known and not top.startswith("_"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Installed())
"""


def run_with(names: set[str], code: str) -> subprocess.CompletedProcess:
    """Run code in a fresh interpreter in which only some libraries are installed."""
    code = INSTALLED.format(names=names) + code
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("installed", "rooms"),
    [(BASE, ("files", "tasks", "data")), (EVAL, NUMPY_ROOMS)],
    ids=["base", "eval"],
)
def test_an_install_imports_its_rooms(installed, rooms):
    files = [f for f in FILES if room_of(f) in rooms and not is_command(f)]
    assert len(files) > 20
    code = "".join(f"import keras_ddnn.{file}\n" for file in files)
    run = run_with(installed, code)
    assert run.returncode == 0, run.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("installed", "code", "extra"),
    [
        (BASE, "import keras_ddnn; keras_ddnn.OffloadCurve", "eval"),
        (EVAL, "import keras_ddnn; keras_ddnn.fit_ddnn", "train"),
        (EVAL, "import keras_ddnn; keras_ddnn.split", "train"),
    ],
)
def test_a_name_whose_extra_is_missing_names_it(installed, code, extra):
    run = run_with(installed, code)
    assert f"is not installed: pip install 'keras_ddnn[{extra}]'" in run.stderr.splitlines()[-1]


def test_a_device_needs_no_more_than_its_extra_brings():
    code = "from keras_ddnn.serve.edge.__main__ import main\nmain(['--help'])"
    run = run_with(EDGE, code)
    assert run.returncode == 0, run.stderr.splitlines()[-1]
    assert run.stdout.startswith("usage: ")


@pytest.mark.parametrize(
    ("installed", "command", "extra"),
    [
        (BASE, "keras_ddnn.diagnose runs/none", "eval"),
        (BASE, "keras_ddnn.rules none.npz", "eval"),
        (EVAL, f"keras_ddnn.cuts MobileNetV2 {RATES}", "train"),
        (BASE, "keras_ddnn.serve.edge runs/none --dataset none.npz", "edge"),
        (BASE, "keras_ddnn.serve.cloud runs/none", "cloud"),
    ],
)
def test_a_command_whose_extra_is_missing_ends_in_one_line(installed, command, extra):
    module, *arguments = command.split()
    code = f"""
import runpy
sys.argv[1:] = {arguments}
runpy.run_module({module!r}, None, "__main__")
"""
    run = run_with(installed, code)
    assert run.returncode == 2
    assert f"pip install 'keras_ddnn[{extra}]'" in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr
