"""The notebooks of `examples`, run from top to bottom.

    python tests/notebooks.py NOTEBOOK.ipynb …    writes their outputs of today into them

It needs the extra `docs` and what the notebooks import.
"""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
SECONDS = 600  # that a cell may take


def run(path: Path) -> nbformat.NotebookNode:
    """Return a notebook with the outputs of a new run in an empty folder; a failure raises."""
    notebook = nbformat.read(path, as_version=4)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.getenv("PYTHONPATH"))))
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(
            notebook, timeout=SECONDS, kernel_name="python3", resources=resources
        ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran is no output
        if cell.cell_type == "code":  # what TensorFlow says of this machine is none either
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    return notebook


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    """Return what each code cell prints."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return ["".join(one.get("text", "") for one in cell.outputs) for cell in cells]


if __name__ == "__main__":
    for place in map(Path, sys.argv[1:]):
        nbformat.write(run(place), place)
