"""Arrays of any framework, checked and made NumPy: logits, class numbers, and numbers."""

from dataclasses import dataclass
from typing import Any

import numpy as np

SUM_TOLERANCE = 0.01  # of a row of probabilities that were rounded on their way
FLOOR = "1e-12"  # of a probability of which a logarithm is taken, as text


def as_logits(array: Any, what: str, num_classes: int | None = None) -> np.ndarray:
    """Return logits as float32 of shape (n, num_classes).

    Args:
        array: Anything that NumPy makes an array of floats of: a list, a tensor on the CPU.
        what: Its name in messages.
        num_classes: How many columns to expect; None for two or more.

    Raises:
        ValueError: If it is no array of finite floats of that shape, with n at least 1.
    """
    array = as_array(array, what)
    if array.dtype.kind != "f":
        raise ValueError(
            f"{what}: expected float16, float32 or float64; received {array.dtype}; convert them, "
            "for example by .astype(np.float32)"
        )
    columns = num_classes or "2 or more"
    fits = array.ndim == 2 and len(array) and array.shape[1] >= 2
    if not fits or num_classes not in (None, array.shape[1]):
        raise ValueError(
            f"{what}: expected a row a sample and a column a class, of shape (1 or more, "
            f"{columns}); received {array.shape}; a single logit z of two classes is "
            "np.stack([np.zeros_like(z), z], axis=1)"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold is found right below
        logits = np.asarray(array, np.float32)
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{what}: expected finite numbers; received NaN or infinity in {len(bad):,} of "
            f"{len(logits):,} rows, first in row {bad[0]}; leave these samples out, or, if they "
            f"are logarithms of probabilities, take np.log(np.maximum(p, {FLOOR}))"
        )
    return logits


def refuse_probabilities(logits: np.ndarray, what: str) -> None:
    """Raise ValueError if the rows (n, num_classes) are probabilities: positive, with sum 1."""
    if (logits < 0).any() or (np.abs(logits.sum(axis=1) - 1.0) > SUM_TOLERANCE).any():
        return
    remedy = "np.log(p)" if (logits > 0).all() else f"np.log(np.maximum(p, {FLOOR}))"
    raise ValueError(
        f"{what}: expected logits; received probabilities, as all {len(logits):,} rows are ≥ 0 and "
        f"sum to 1; give their logarithms, {remedy}"
    )


def as_labels(labels: Any, num_classes: int) -> np.ndarray:
    """Return labels as int64 of shape (n,).

    Raises:
        ValueError: If they are not integers 0..num_classes-1 of shape (n,).
    """
    labels = as_array(labels, "labels")
    if labels.ndim != 1:
        raise ValueError(
            f"labels: expected shape (n,); received {labels.shape}; take labels.argmax(axis=1) if "
            "they are one-hot, labels.ravel() if they are a column"
        )
    if labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels: expected integers, the column of each sample's class; received "
            f"{labels.dtype}; convert them, for example by .astype(np.int64), or by "
            "np.unique(labels, return_inverse=True)[1] if they are names"
        )
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(outside):
        raise ValueError(
            f"labels: expected 0..{num_classes - 1}, as there are {num_classes} columns of logits; "
            f"received {labels[outside[0]]} in row {outside[0]} and {len(outside):,} such in all; "
            "number the classes by their columns, from 0"
        )
    return labels.astype(np.int64)


def as_rows(array: Any, n: int, what: str) -> np.ndarray | None:
    """Return an array of n rows as NumPy; None for None. Raises ValueError for other lengths."""
    if array is None:
        return None
    array = as_array(array, what)
    require_rows(what, len(array) if array.ndim else 0, n)
    return array


def require_rows(what: str, received: int, n: int) -> None:
    """Raise ValueError unless an array has a row for each of the n rows of the local logits."""
    if received != n:
        raise ValueError(
            f"{what}: expected {n:,} rows, one for each row of the local logits; received "
            f"{received:,}; give the same samples in the same order"
        )


def as_array(array: Any, what: str) -> np.ndarray:
    """Return what NumPy makes of an array of any framework; ValueError if it makes none."""
    try:
        return np.asarray(array)
    except Exception as error:  # each framework has its own
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{what}: expected what NumPy makes an array of; received "
            f"{type(array).__name__}: {reason}"
        ) from error


def as_numbers(array: Any, what: str, columns: int | None = None) -> np.ndarray:
    """Return finite numbers as float64, of shape (n,), or (n, columns) if `columns` is given.

    Args:
        array: Anything that NumPy makes an array of integers or floats of.
        what: Its name in messages.
        columns: How many numbers a row has. One may come as (n,).

    Raises:
        ValueError: If it is no array of finite numbers of that shape, with n at least 1.
    """
    array = as_array(array, what)
    if array.dtype.kind not in "iuf":
        raise ValueError(
            f"{what}: expected numbers; received {array.dtype}; convert them to floats"
        )
    if columns == 1 and array.ndim == 1:
        array = array[:, None]
    shape = array.shape[:1] if columns is None else (*array.shape[:1], columns)
    if array.shape != shape or not len(array):
        wanted = "(n,)" if columns is None else f"(n, {columns})"
        raise ValueError(
            f"{what}: expected shape {wanted}, n at least 1; received {array.shape}; "
            + ("take .ravel() of a column" if columns is None else "give a column a quantile")
        )
    numbers = array.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers).reshape(len(numbers), -1).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{what}: expected finite numbers; received NaN or infinity in {len(bad):,} of "
            f"{len(numbers):,} rows, first in row {bad[0]}; leave these samples out"
        )
    return numbers


@dataclass(frozen=True)
class Numbers:
    """What stands in the place of `Classes` where targets are numbers: they are their own labels.

    Attributes:
        columns: How many outputs a network has; also its length.
        names: One an output, such as "quantile 0.1".
    """

    columns: int
    names: tuple[str, ...] = ()
    are_numbers = True  # see `Classes.are_numbers`

    def __len__(self) -> int:
        return self.columns

    def encode(self, targets: Any, subject: str = "targets") -> np.ndarray:
        """Return targets as float64 (n,); ValueError unless they are finite numbers (n,)."""
        return as_numbers(targets, subject)

    def encode_known(self, targets: Any, subject: str = "targets") -> np.ndarray:
        """Return targets as float64 (n,), NaN where one is NaN or None and so unknown.

        Raises:
            ValueError: Unless the others are finite numbers.
        """
        try:
            numbers = np.array(targets, np.float64)  # of which None becomes NaN
        except (TypeError, ValueError):
            numbers = as_numbers(targets, subject)  # says what is wrong
        as_numbers(np.where(self.is_known(numbers), numbers, 0.0), subject)
        return numbers

    def is_known(self, numbers: np.ndarray) -> np.ndarray:
        """Return which of the numbers of `encode_known` are known, bool (n,)."""
        return ~np.isnan(numbers)

    def decode(self, numbers: np.ndarray, refusal: None = None) -> np.ndarray:
        """Return the numbers (n,) as they are; there is none that stands for no answer."""
        return numbers
