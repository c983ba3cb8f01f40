"""The result of a run, kept in small text files that need no Keras to be read."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from keras_ddnn.evaluation.curves import OffloadCurve
from keras_ddnn.files.atomic import replacing_file, replacing_folder, write_json
from keras_ddnn.tasks.task import ACCURACY, COST, Measure

GRID = np.linspace(0.0, 1.0, 201)


@dataclass(frozen=True, eq=False)
class Report:
    """How every rule fares on one split of one dataset with one DDNN.

    Attributes:
        facts: Plain JSON: dataset, configurations, accuracies, multiply-adds and bytes a sample.
        table: One row a rule, best AUDC first; see `compare_rules`, for bytes `make_report`.
        curves: One row a local fraction 0, 0.005 … 1 (the index), one column a rule, of accuracies,
            or of mean costs where a task reports these. Of more than two tiers the index is the
            share that is saved of the price behind the device; see `OffloadCurve.saved`.
        classes: One row a rule and class at the threshold of the rule; see `by_class`. None in
            reports of earlier versions.
    """

    facts: dict
    table: pd.DataFrame
    curves: pd.DataFrame
    classes: pd.DataFrame | None = None

    @property
    def measure(self) -> Measure:
        """How the curves are told: as accuracies, or as mean costs where the table has these."""
        return ACCURACY if ACCURACY.area in self.table else COST

    @staticmethod
    def sample(curves: dict[str, OffloadCurve]) -> pd.DataFrame:
        """Sample curves at the local fractions a report keeps."""
        return pd.DataFrame(
            {name: curve.at(GRID) for name, curve in curves.items()},
            index=pd.Index(GRID.round(6), name="local_fraction"),
        )

    def save(self, folder: str | Path) -> None:
        """Write `report.json`, `rules.csv`, `curves.csv` and `classes.csv`, whole or not at all.

        Raises:
            OSError: If the folder cannot be written.
        """
        with replacing_folder(folder) as new:
            write_json(new / "report.json", self.facts)
            frames = {"rules": self.table, "curves": self.curves}
            if self.classes is not None:
                frames["classes"] = self.classes
            for name, frame in frames.items():
                with replacing_file(new / f"{name}.csv") as file:
                    frame.to_csv(file, index=name == "curves")

    @classmethod
    def load(cls, folder: str | Path) -> "Report":
        """Read a saved report.

        Raises:
            FileNotFoundError: If the folder holds none.
        """
        folder = Path(folder)
        facts = json.loads((folder / "report.json").read_text())
        table = pd.read_csv(folder / "rules.csv")
        curves = pd.read_csv(folder / "curves.csv", index_col="local_fraction")
        path = folder / "classes.csv"
        # A class may be called NA, or 007.
        names: dict[str, Any] = {
            "dtype": {"class": str},
            "keep_default_na": False,
            "na_values": {"accuracy": "", "local_fraction": ""},
        }
        classes: pd.DataFrame | None = pd.read_csv(path, **names) if path.exists() else None
        return cls(facts, table, curves, classes)
