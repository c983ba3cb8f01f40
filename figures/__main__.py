"""Draw the figures of saved results: `python -m figures --results runs/search/report`."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from figures import (
    cameras,
    cameras_said,
    cuts,
    diagnosis,
    exits,
    honest_labels,
    modern,
    offload_curve,
    tradeoff,
    traffic,
)
from figures.paper.catalogue import PAPER_FIGURES
from figures.paper.claims import say
from figures.paper.table import fill
from keras_ddnn.evaluation.report import Report
from keras_ddnn.files.atomic import replacing_file, write_json
from keras_ddnn.files.notices import CommandParser, tell_error

CLAIMS = "claims.json"  # what the results say to the claims of the paper

# Picture -> (files or folders that must be there, folder of the results -> figure)
FIGURES = {
    "curve.png": (("report.json",), lambda folder: offload_curve.draw(Report.load(folder))),
    "diagnosis.png": (
        ("diagnosis.json",),
        lambda folder: diagnosis.draw(json.loads((folder / "diagnosis.json").read_text())),
    ),
    "modern.png": (("pareto.csv",), lambda folder: modern.draw(pd.read_csv(folder / "pareto.csv"))),
    "shares.png": (
        ("accuracies.csv",),
        lambda folder: modern.draw_shares(pd.read_csv(folder / "accuracies.csv")),
    ),
    "exits.png": (("plans.csv",), lambda folder: exits.draw(pd.read_csv(folder / "plans.csv"))),
    "traffic.png": (
        ("curves.csv", "table.csv"),
        lambda folder: traffic.draw(
            pd.read_csv(folder / "curves.csv"), pd.read_csv(folder / "table.csv")
        ),
    ),
    "cameras.png": (("aggregation.csv",), cameras.draw),
    "honest_labels.png": (
        ("table.csv", "leakage.csv"),
        lambda folder: honest_labels.draw(pd.read_csv(folder / "table.csv")),
    ),
    "cuts.png": (("cuts.csv",), lambda folder: cuts.draw(pd.read_csv(folder / "cuts.csv"))),
    "tradeoff.png": (
        ("tradeoff.csv",),
        lambda folder: tradeoff.draw(pd.read_csv(folder / "tradeoff.csv")),
    ),
    **PAPER_FIGURES,
}


def main(arguments=None) -> int:
    """Draw every figure beside its results; return 2 after one line if there are none to read."""
    parser = CommandParser(prog="python -m figures", description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of saved results")
    parser.add_argument("--table", type=Path, help="claims of the paper, filled in")
    options = parser.parse_args(arguments)
    results, drawn = options.results, 0
    if options.table and not options.table.is_file():
        tell_error(f"{options.table}: expected a page to fill in, received no such file")
        return 2
    try:
        for name, (needed, draw) in FIGURES.items():
            if all((results / part).exists() for part in needed):
                _drawn(draw, results, needed).savefig(results / name)
                print(results / name)
                drawn += 1
        if said := say(results) | traffic.say(results) | cameras_said.say(results):
            write_json(results / CLAIMS, said)
            print(results / CLAIMS)
        if options.table:
            filled = fill(options.table.read_text(), said)
            with replacing_file(options.table) as file:
                file.write(filled.encode())
            print(options.table)
        if not drawn:
            known = dict.fromkeys(needed[0] for needed, _ in FIGURES.values())
            raise FileNotFoundError(f"expected one of {', '.join(known)}")
    except (OSError, ValueError, KeyError) as error:
        tell_error(f"{results} holds no readable report: {error}")
        return 2
    return 0


def _drawn(draw: Callable[[Path], Figure], results: Path, needed: Sequence[str]) -> Figure:
    """Draw a figure; what cannot be read is told with the files that it is drawn of."""
    try:
        return draw(results)
    except (OSError, ValueError, KeyError) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{' or '.join(needed)} cannot be drawn ({text})") from None


if __name__ == "__main__":
    sys.exit(main())
