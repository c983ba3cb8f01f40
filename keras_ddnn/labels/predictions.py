"""What other networks, or other epochs, say of the samples of a bank."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.tier_outputs import LOGITS
from keras_ddnn.files.atomic import replacing_file


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the tiers say of some of the training samples.

    Attributes:
        rows: Which, int64 of shape (m,), no row twice.
        outputs: Tier → its outputs, for classes float32 of shape (m, num_classes).
    """

    rows: np.ndarray
    outputs: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, rows: np.ndarray, bank: Bank) -> "Predictions":
        """Return what a bank holds of these rows of the training samples."""
        return cls(rows, {name: tier.outputs for name, tier in bank.tiers.items()})

    @classmethod
    def joined(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """Return what is said of other rows each, one after another."""
        outputs = {
            name: np.concatenate([part.outputs[name] for part in parts])
            for name in parts[0].outputs
        }
        return cls(np.concatenate([part.rows for part in parts]), outputs)

    def save(self, path) -> None:
        """Write an `.npz`, whole or not at all; raises OSError if the folder cannot be written."""
        arrays: dict[str, Any] = {
            f"{name}{LOGITS}": outputs for name, outputs in self.outputs.items()
        }
        with replacing_file(path) as file:
            np.savez(file, rows=self.rows, **arrays)

    @classmethod
    def load(cls, path) -> "Predictions":
        """Read what `save` has written."""
        with np.load(path, allow_pickle=False) as saved:
            arrays = {name: saved[name] for name in saved.files}
        rows = arrays.pop("rows")
        return cls(rows, {name.removesuffix(LOGITS): array for name, array in arrays.items()})

    def take(self, places: np.ndarray) -> "Predictions":
        """Return some of them, int (k,), in that order."""
        outputs = {name: outputs[places] for name, outputs in self.outputs.items()}
        return Predictions(self.rows[places], outputs)

    def apply_to(self, bank: Bank) -> Bank:
        """Return the predicted rows of `bank`, in their order there, with these outputs."""
        ordered = self.take(np.argsort(self.rows))
        # Whole features are not copied.
        pick = slice(None) if len(self.rows) == len(bank) else ordered.rows
        return bank.rows(pick).with_outputs(ordered.outputs)
