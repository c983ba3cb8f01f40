"""From a user's labels to the numbers of a network's outputs, and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral

import numpy as np

from keras_ddnn.files.checks import expect
from keras_ddnn.tasks.arrays import Numbers
from keras_ddnn.tasks.known import task_of

SHOWN = 10  # labels a message lists before it leaves some out
KEY = "class_values"  # of a manifest; without it the labels are the numbers 0..k-1


@dataclass(frozen=True)
class Classes:
    """The user's own labels, in the order of a network's outputs.

    Attributes:
        values: At least one; all int or all str, no two alike.

    Raises:
        ValueError: If they are not.
    """

    values: tuple[int, ...] | tuple[str, ...]

    def __post_init__(self):
        values: tuple = tuple(self.values)
        for kind, accepted in ((str, str), (int, Integral)):  # NumPy has kinds of its own
            if all(isinstance(v, accepted) and not isinstance(v, bool) for v in values):
                values = tuple(map(kind, values))
        kinds = {type(value) for value in values}
        fits = kinds == {str} or (kinds == {int} and max(map(abs, values)) < 2**63)
        if not fits or len(set(values)) < len(values):
            raise ValueError(
                "classes: expected different labels, all integers or all strings, received "
                f"{listed(values) or 'none'}"
            )
        object.__setattr__(self, "values", values)

    @classmethod
    def numbered(cls, count: int) -> "Classes":
        """Return the classes whose labels are the numbers 0..count-1."""
        return cls(tuple(range(count)))

    @classmethod
    def of_manifest(cls, manifest: Mapping) -> "Classes":
        """Return the classes of an artefact; ValueError unless there is one for each name."""
        names, values = manifest["class_names"], manifest.get(KEY)
        classes = cls.numbered(len(names)) if values is None else cls(tuple(values))
        expect(len(classes) == len(names), KEY, f"{len(names)} labels", len(classes))
        return classes

    def __len__(self):
        """Return the number of classes."""
        return len(self.values)

    @cached_property
    def are_numbers(self) -> bool:
        """Whether the labels are the numbers 0..k-1, so that nothing need be translated."""
        return self.values == tuple(range(len(self.values)))

    @property
    def names(self) -> tuple[str, ...]:
        """The labels as text."""
        return tuple(map(str, self.values))

    @property
    def mapping(self) -> str:
        """Which label is which class, in words."""
        return f"labels {listed(self.values)} are classes {listed(range(len(self)))}"

    def encode(self, labels, subject: str = "labels") -> np.ndarray:
        """Return the class numbers, int64 of shape (n,), of a user's labels.

        Args:
            labels: Labels, as for `read_labels`.
            subject: What the labels are, for the message of an error.

        Raises:
            ValueError: If a label is none of these classes, or the labels cannot be read.
        """
        labels, columns, _ = _vector(labels, subject)
        if columns is not None:
            expect(columns == len(self), subject, f"{len(self)} columns", columns)
        numbers, known = self._look_up(labels, subject)
        if not known.all():
            unknown = listed(np.unique(labels[~known]).tolist())
            expect(False, subject, self._described(), f"{unknown}{_first(labels, ~known)}")
        return numbers

    def encode_known(self, labels, subject: str = "labels") -> np.ndarray:
        """Return the class numbers of labels, some of which are unknown.

        Args:
            labels: Class numbers of shape (n,). A negative number that is no class, an empty string
                or None says that the label is unknown.
            subject: What the labels are, for the message of an error.

        Returns:
            int64 of shape (n,), -1 where the label is unknown.

        Raises:
            ValueError: As `encode`.
        """
        labels = np.asarray(labels)
        missing = np.array([label in (None, "") for label in labels.tolist()], bool)
        if labels.dtype.kind in "iuf":
            classes = self.values if isinstance(self.values[0], int) else ()
            missing = (labels < 0) & ~np.isin(labels, classes)
        numbers = np.full(labels.shape, -1)
        if not missing.all():
            numbers[~missing] = self.encode(labels[~missing], subject)
        return numbers

    def is_known(self, numbers: np.ndarray) -> np.ndarray:
        """Return which of the numbers of `encode_known` are known, bool (n,)."""
        return numbers >= 0

    def decode(self, numbers, refusal: int | None = None) -> np.ndarray:
        """Return the user's labels, int64 or strings of shape (n,), of class numbers (n,).

        Args:
            numbers: Class numbers.
            refusal: The number that stands for no answer, see `Task`. Where there may be some the
                labels are Python objects, and None stands for each.

        Raises:
            ValueError: If a number is none of 0..k-1, nor the refusal.
        """
        if refusal is not None:
            answered = np.asarray(numbers) != refusal
            labels = np.full(len(answered), None, object)
            labels[answered] = self.decode(np.asarray(numbers)[answered]).tolist()
            return labels
        if len(numbers):
            numbers = class_numbers(numbers, len(self), "classes")
        return numbers if self.are_numbers else np.array(self.values)[numbers]

    def _described(self):
        if self.are_numbers:
            return f"classes in 0..{len(self) - 1}"
        return f"known labels, {listed(self.values)}"

    def _look_up(self, labels, subject):
        """Return the numbers of labels, and which of these are right."""
        texts = isinstance(self.values[0], str)
        wanted = f"{'strings' if texts else 'integers'} such as {self.values[0]!r}"
        expect((labels.dtype.kind == "U") == texts, subject, wanted, f"dtype {labels.dtype}")
        if self.are_numbers:
            return labels, (labels >= 0) & (labels < len(self))
        known = np.array(self.values)
        order = np.argsort(known)
        places = np.searchsorted(known, labels, sorter=order)
        numbers = order[np.minimum(places, len(known) - 1)]
        return numbers, known[numbers] == labels


def labels_of(manifest: Mapping) -> Classes | Numbers:
    """Return what an artefact answers in: its classes, or numbers.

    Raises:
        ValueError: As `task_of`, or if there is not a label for each name.
    """
    return task_of(manifest).target_reader or Classes.of_manifest(manifest)


def read_labels(labels, subject: str = "labels") -> tuple[np.ndarray, Classes, str | None]:
    """Read the labels of training data, which decide what the classes are.

    Labels 0..k-1 that are all there are class numbers already. Others, with gaps, from 1 on,
    negative or strings, become numbers in their own order.

    Args:
        labels: Integers, whole floats or strings of shape (n,) or (n, 1), or one-hot (n, k).
        subject: What they are, for the message of an error.

    Returns:
        The class numbers, int64 of shape (n,); the classes; and in words how the labels were read,
        None if they were class numbers.

    Raises:
        ValueError: If they have another shape or type, are empty or missing, or would make more
            classes than there are samples.
    """
    labels, columns, how = _vector(labels, subject)
    if columns is not None:
        require_samples_for(columns, len(labels), subject)
        return labels, Classes.numbered(columns), how
    values, numbers = np.unique(labels, return_inverse=True)
    classes = Classes(tuple(values.tolist()))
    said = [how] if how else []
    if classes.are_numbers:
        numbers = labels
    else:
        said.append(classes.mapping)
    return numbers, classes, "; ".join(said) or None


def class_numbers(labels, num_classes: int | None, subject: str) -> np.ndarray:
    """Return labels that must be class numbers already, as int64 of shape (n,).

    Args:
        labels: Integers or whole floats of shape (n,).
        num_classes: Upper bound; None for none.
        subject: What they are, for the message of an error.

    Raises:
        ValueError: If they are anything else.
    """
    labels = np.asarray(labels)
    advice = "pass labels.argmax(axis=1) if they are one-hot, labels.ravel() if they are a column"
    expect(labels.ndim == 1, subject, "shape (n,)", f"shape {labels.shape}; {advice}")
    expect(len(labels), subject, "at least one label", "an empty split")
    labels = _integers(labels, subject, "integers")
    low, high = int(labels.min()), int(labels.max())
    last = high if num_classes is None else num_classes - 1
    bounds = "0 or above" if num_classes is None else f"in 0..{last}"
    wrong = (labels < 0) | (labels > last)
    received = f"{low} to {high}{_first(labels, wrong)}"
    expect(not wrong.any(), subject, f"classes {bounds}", received)
    return labels


def require_samples_for(num_classes: int, samples: int, subject: str) -> None:
    """Raise ValueError if there are more classes than samples: something else was meant."""
    received = f"{num_classes:,} classes and {samples:,} samples"
    expect(num_classes <= samples, subject, "at most as many classes as samples", received)


def listed(items: Sequence) -> str:
    """Return items as Python writes them, some left out of the middle where there are many.

    Strings are quoted: 'cat' and 'cat ' differ.
    """
    texts = list(map(repr, items if len(items) <= SHOWN else [*items[:3], items[-1]]))
    return ", ".join(texts if len(items) <= SHOWN else [*texts[:3], "…", texts[3]])


def _first(labels: np.ndarray, wrong: np.ndarray) -> str:
    """Say where the first wrong label is; nothing if none is wrong."""
    places = np.flatnonzero(wrong)
    if not len(places):
        return ""
    return f"; the first wrong one is labels[{places[0]}] = {labels[places[0]].item()!r}"


def _vector(labels, subject) -> tuple[np.ndarray, int | None, str | None]:
    """Return labels (n,), int64 or strings, the columns of one-hot ones, and how they were read."""
    labels = np.asarray(labels)
    columns = how = None
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels, how = labels[:, 0], "a column of labels is read as one label a sample"
    elif labels.ndim == 2 and labels.dtype.kind in "biuf" and _one_hot(labels):
        columns, labels = labels.shape[1], labels.argmax(axis=1)
        how = f"one-hot labels are read as classes 0 to {columns - 1}"
    advice = "" if labels.ndim != 2 else "; give class numbers, or 0 and a single 1 in each row"
    expect(labels.ndim == 1, subject, "shape (n,)", f"shape {labels.shape}{advice}")
    expect(len(labels), subject, "at least one label", "an empty split")
    if labels.dtype.kind in "US" or (
        labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels)
    ):
        return _strings(labels, subject), None, how
    return _integers(labels, subject, "integers or strings"), columns, how


def _one_hot(labels) -> bool:
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all())


def _strings(labels, subject):
    try:
        labels = np.char.decode(labels, "utf-8") if labels.dtype.kind == "S" else labels.astype(str)
        for label in np.unique(labels).tolist():
            label.encode()  # a report will
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise ValueError(f"{subject}: expected text in UTF-8, received {error.object!r}") from None
    missing = int(np.sum(labels == ""))
    received = f"an empty string for {missing} of {len(labels)}"
    expect(not missing, subject, "a label for every sample", received)
    return labels


def _integers(labels, subject, expected):
    if labels.dtype.kind == "O" and all(isinstance(label, Integral) for label in labels):
        labels = np.array(labels.tolist())
    advice = "; pass labels.astype(int)" if labels.dtype.kind == "b" else ""
    expect(labels.dtype.kind in "iuf", subject, expected, f"dtype {labels.dtype}{advice}")
    if labels.dtype.kind == "f":
        whole = np.isfinite(labels) & (labels == np.rint(labels))
        expect(whole.all(), subject, "integers", "fractions or NaN")
    # 2**63 itself is a float, the largest int64 is none.
    inside = (labels >= -(2.0**63)) & (labels < 2.0**63)
    received = f"others{_first(labels, ~inside)}"
    expect(inside.all(), subject, "integers of 64 bits with a sign, -2**63 to 2**63-1", received)
    return np.ascontiguousarray(labels, dtype=np.int64)
