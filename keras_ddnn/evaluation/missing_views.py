"""What a network of several cameras still knows where some of them are absent."""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.rows.computed import Computed
from keras_ddnn.data.rows.view import Array, Rows
from keras_ddnn.data.splits import InputType, Split
from keras_ddnn.files.checks import expect, is_integer

MOST_MISSING = 2  # of the rows that a table has by default


def without_views(images: Array, cameras: Sequence[int]) -> Array:
    """Return frames (n, D, h, w, c) of which those of some cameras are black, as if absent.

    They are made when they are asked for, and `images` stay what they are.
    """

    def blackened(rows: slice | np.ndarray) -> np.ndarray:
        frames = np.array(images[rows])
        frames[:, list(cameras)] = 0
        return frames

    return Rows(Computed(images.shape, images.dtype, blackened))


def missing_views(
    capture: Callable[[Split], Bank], split: Split, counts: Sequence[int] | None = None
) -> pd.DataFrame:
    """Tell how accurate each tier is where cameras are absent: each of them, each pair and so on.

    Args:
        capture: What runs the network over a split, as `FittedDDNN.capture` does.
        split: Samples (n, D, h, w, c) to report on.
        counts: How many cameras are absent at a time, each less than D; 0, 1 and 2 by default, as
            far as one is left.

    Returns:
        A row a count: `missing`; `choices`, in how many ways that many of D are absent; of each
        tier `…_accuracy`, the mean over these; `…_worst`, the least of them, and `…_worst_choice`,
        the cameras that are absent there, from 0.

    Raises:
        ValueError: If the samples are not of several cameras, or none would be left.
    """
    shape = tuple(split.images.shape)
    cameras = InputType(shape[1:], str(split.images.dtype)).cameras or 0
    wanted = "uint8 of shape (n, camera, height, width, channels)"
    expect(cameras, "images", wanted, f"{split.images.dtype} of shape {shape}")
    if counts is None:
        counts = range(min(MOST_MISSING + 1, cameras))
    given: object = counts
    numbers = [*given] if isinstance(given, Iterable) else []  # an iterator is read but once
    several = isinstance(given, Iterable) and all(map(is_integer, numbers))
    left = several and all(0 <= count < cameras for count in numbers)
    expect(left, "counts", f"a list of numbers of absent cameras in 0..{cameras - 1}", counts)
    return pd.DataFrame([_row(capture, split, count, cameras) for count in numbers])


def _row(
    capture: Callable[[Split], Bank], split: Split, count: int, cameras: int
) -> dict[str, int | float | str]:
    accuracies: dict[str, list[float]] = {}
    choices = [*combinations(range(cameras), count)]
    for absent in choices:
        images = without_views(split.images, absent)
        bank = capture(Split(images, split.labels, split.classes))
        for tier, right in zip(bank.tiers, (bank.costs() == 0).mean(axis=0)):
            accuracies.setdefault(tier, []).append(float(right))
    row: dict[str, int | float | str] = {"missing": count, "choices": len(choices)}
    for tier, values in accuracies.items():
        worst = int(np.argmin(values))
        row |= {
            f"{tier}_accuracy": float(np.mean(values)),
            f"{tier}_worst": values[worst],
            f"{tier}_worst_choice": "+".join(map(str, choices[worst])),
        }
    return row
