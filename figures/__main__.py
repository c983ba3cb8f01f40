"""Draw the figures of saved results: `python -m figures --results runs/search/report`."""

import argparse
import json
import sys
from pathlib import Path

import pandas as pd

from figures import diagnosis, honest_labels, offload_curve
from keras_ddnn.report import Report

# The file that shows what a folder holds -> (picture, folder -> figure)
FIGURES = {
    "report.json": ("curve.png", lambda folder: offload_curve.draw(Report.load(folder))),
    "diagnosis.json": (
        "diagnosis.png",
        lambda folder: diagnosis.draw(json.loads((folder / "diagnosis.json").read_text())),
    ),
    "table.csv": (
        "honest_labels.png",
        lambda folder: honest_labels.draw(pd.read_csv(folder / "table.csv")),
    ),
}


def main(arguments=None) -> int:
    """Draw every figure beside its results; return 2 after one line if there are none to read."""
    parser = argparse.ArgumentParser(prog="python -m figures", description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of saved results")
    results = parser.parse_args(arguments).results
    found = [figure for file, figure in FIGURES.items() if (results / file).exists()]
    try:
        if not found:
            raise FileNotFoundError(f"expected one of {', '.join(FIGURES)}")
        for name, draw in found:
            draw(results).savefig(results / name)
            print(results / name)
    except (OSError, ValueError, KeyError) as error:
        print(f"error: {results} holds no readable report: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
