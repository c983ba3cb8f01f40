"""Draw the figures of a saved report: `python -m figures --results runs/search/report`."""

import argparse
import sys
from pathlib import Path

from figures import offload_curve
from keras_ddnn.report import Report


def main(arguments=None) -> int:
    """Draw every figure beside the report; return 2 after one line if there is none to read."""
    parser = argparse.ArgumentParser(prog="python -m figures", description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of a saved report")
    results = parser.parse_args(arguments).results
    try:
        report = Report.load(results)
    except (OSError, ValueError) as error:
        print(f"error: {results} holds no readable report: {error}", file=sys.stderr)
        return 2
    path = results / "curve.png"
    offload_curve.draw(report).savefig(path)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
