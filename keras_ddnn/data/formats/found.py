"""What the files of a dataset hold, before pixels and labels are checked; splits drawn by seed."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_ddnn.data.rows.view import Array
from keras_ddnn.data.splits import hold_out
from keras_ddnn.files.notices import notice

SPELLINGS = {  # in lower case, also before "set", as in training_set
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
SHARES = {
    "test": 0.2,
    "val": 0.1,
}  # of each class, of what training data are left; test comes first
WORDS = {"train": "training data", "val": "validation data", "test": "test data"}


class Found(NamedTuple):
    """Inputs and labels of the splits that files hold, "train" among them.

    Attributes:
        name: Of the dataset.
        inputs: Split → array (n, ...) of samples, or paths of image files, objects of shape (n,).
        labels: Split → labels of shape (n,), as the user has them.
        class_names: Of the class numbers in `labels`; None where the labels of train name the
            classes.
        root: Folder of the image files; None where inputs are arrays.
        drawn_by: How splits were drawn, in a line; None where all of them were there.
    """

    name: str
    inputs: Mapping[str, Array]
    labels: Mapping[str, np.ndarray]
    class_names: tuple[str, ...] | None = None
    root: Path | None = None
    drawn_by: str | None = None

    def drawn(self, numbers: np.ndarray, wanted: Sequence[str], seed: int) -> "Found":
        """Draw splits that are missing from train, each class in the same share; say so in a line.

        Args:
            numbers: Class numbers of train, int64 (n,).
            wanted: Splits to draw if they are missing, among "test" and "val".
            seed: Of the draw.

        Raises:
            ValueError: No class has two samples.
        """
        missing = [what for what in SHARES if what in wanted and what not in self.labels]
        if not missing:
            return self
        left, rows = np.arange(len(numbers)), {}
        for what in missing:
            kept, held = hold_out(numbers[left], SHARES[what], seed)
            rows[what], left = left[held], left[kept]
        rows["train"] = left
        if missing == ["val"]:
            said = (
                f"{self.name} has no validation data: {len(rows['val']):,} of {len(numbers):,} "
                "training images become it"
            )
        else:
            parts = ", ".join(f"{len(rows[what]):,} {WORDS[what]}" for what in missing)
            said = (
                f"{self.name} is not split: of {len(numbers):,} images become {parts}, "
                f"{len(left):,} training data, drawn from each class alike by seed {seed}"
            )
        notice(said)
        inputs = {what: self.inputs["train"][chosen] for what, chosen in rows.items()}
        labels = {what: self.labels["train"][chosen] for what, chosen in rows.items()}
        return self._replace(
            inputs={**self.inputs, **inputs}, labels={**self.labels, **labels}, drawn_by=said
        )


def split_named(name: str) -> str | None:
    """Return the split of a name as people spell it, "Training" or "test_set"; else None."""
    spelt = re.sub(r"[ _-]?set$", "", name.lower())
    return next((what for what, known in SPELLINGS.items() if spelt in known), None)


def paths_array(files: Sequence[Path]) -> np.ndarray:
    """Return paths as objects of shape (n,), which are taken by rows as samples are."""
    array = np.empty(len(files), object)
    array[:] = files
    return array
