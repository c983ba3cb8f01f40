"""Series as samples: a window of the past, and the number that comes after it; split by time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from keras_ddnn.data.rows.computed import Computed
from keras_ddnn.data.rows.fingerprint import fingerprint
from keras_ddnn.data.rows.view import Rows
from keras_ddnn.data.series.series import Series
from keras_ddnn.data.splits import Split
from keras_ddnn.files.checks import expect, require_count, require_fraction
from keras_ddnn.tasks.arrays import Numbers

DAY = 24 * 60 * 60  # seconds
WEEK = 7 * DAY
PARTS = ("train", "val", "test")
SHARES = (0.6, 0.2, 0.2)  # of the steps: training, validation, test


@dataclass(frozen=True, eq=False)
class SeriesSplits:
    """Windows of series, in three parts of time that follow one another.

    Attributes:
        name: Of the data.
        train, val, test: Inputs float32 (n, length, channels) and targets float64 (n,), in the
            order of time: all series at one time, then all at the next. The first channel is the
            series, divided by `scale`; where times are known, the sines and cosines of the time of
            day and of the week follow. Targets are divided by `scale`, too. No two parts share a
            number.
        scale: float64 (s,): the mean of each series over the steps of `train`.
        names: Of the s series.
        length: Steps of a window.
        horizon: Steps from the last one of a window to its target.
        classes: What reads the targets; None before `read_by`.
    """

    name: str
    train: Split
    val: Split
    test: Split
    scale: np.ndarray
    names: tuple[str, ...]
    length: int
    horizon: int
    classes: Numbers | None = None

    reading = drawn_by = None  # as of `Splits`: no files of images, and nothing is drawn

    def require_measurable(self) -> None:
        """Raise ValueError unless `val` and `test` have the two windows that intervals need."""
        for what, split in (("val", self.val), ("test", self.test)):
            expect(len(split) > 1, what, "at least two windows to measure by", len(split))

    def read_by(self, reader: Numbers) -> "SeriesSplits":
        """Return the same data as those of a task, with its `target_reader`."""
        parts = {part: replace(getattr(self, part), classes=reader) for part in PARTS}
        return replace(self, classes=reader, **parts)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the outputs, as of `Splits`; none before `read_by`."""
        return () if self.classes is None else self.classes.names

    def fingerprint(self) -> str:
        """Return the SHA-256, in hex, of every array's shape, dtype and contents."""
        splits = (getattr(self, part) for part in PARTS)
        return fingerprint([array for s in splits for array in (s.images, s.labels)])

    def series_of(self, rows: np.ndarray) -> np.ndarray:
        """Return which series the samples of a part belong to: int (n,) in 0..s-1."""
        return np.asarray(rows) % len(self.names)


def split_by_time(
    series: Series,
    name: str = "series",
    *,
    length: int = 24,
    horizon: int = 1,
    shares: Sequence[float] = SHARES,
) -> SeriesSplits:
    """Cut series into windows: the first steps train, the next validate, the last test.

    Nothing of a later step is in an earlier part, and scales come from the training steps alone.

    Args:
        series: What was measured; the mean of each over the training steps must be above 0.
        name: Of the data.
        length: Steps of a window.
        horizon: Steps from the last one of a window to its target, at least 1.
        shares: Of the steps, for the three parts; their sum is 1.

    Raises:
        ValueError: If a part is too short for one window, or an argument lies outside its range.
    """
    require_count(length=length, horizon=horizon)
    for share in shares:
        require_fraction("a share of the steps", share)
    whole = len(shares) == 3 and np.isclose(sum(shares), 1.0)
    expect(whole, "shares of the steps", "three whose sum is 1", tuple(shares))
    steps, parts = len(series), {}
    ends = [0, *(round(steps * share) for share in np.cumsum(shares))]
    for part, first, end in zip(PARTS, ends, ends[1:]):
        needed = length + horizon
        wanted = f"{needed} steps or more, a window and its horizon"
        expect(end - first >= needed, f"{part} steps of {name}", wanted, end - first)
        parts[part] = series.rows(slice(first, end))
    scale = parts["train"].values.mean(axis=0)
    low = series.names[int(scale.argmin())]
    expect(
        scale.min() > 0,
        f"series {low!r}",
        "a mean above 0 over the training steps, by which it is divided",
        f"{scale.min():g}",
    )
    train, val, test = (_windows(parts[part], scale, length, horizon) for part in PARTS)
    return SeriesSplits(name, train, val, test, scale, series.names, length, horizon)


def _windows(series: Series, scale: np.ndarray, length: int, horizon: int) -> Split:
    """Return all windows of a part of time."""
    values = (series.values / scale).astype(np.float32)
    count = values.shape[1]
    clock = _clock(series)
    ends = np.arange(length, len(series) - horizon + 1)  # one past the last step of a window
    n = len(ends) * count

    make = partial(_window_rows, values, clock, length, n)
    inputs = Rows(Computed((n, length, 1 + clock.shape[1]), np.float32, make))
    targets = (series.values / scale)[ends + horizon - 1].ravel()
    return Split(inputs, targets, gap=(length + horizon) * count)


def _window_rows(
    values: np.ndarray, clock: np.ndarray, length: int, n: int, rows: slice | np.ndarray
) -> np.ndarray:
    """Return rows of the n windows of values (t, s), with the clock (t, c) beside.

    Not inside `_windows`: a search hands its data to other processes.
    """
    places, which = np.divmod(np.arange(n)[rows], values.shape[1])
    steps = places[:, None] + np.arange(length)
    window = values[steps, which[:, None]][..., None]
    return np.concatenate([window, clock[steps]], axis=2)


def _clock(series: Series) -> np.ndarray:
    """Return the sines and cosines of the time of day and of the week, float32 (t, 4) or (t, 0)."""
    if series.times is None:
        return np.zeros((len(series), 0), np.float32)
    seconds = series.times.astype(np.int64)
    angles = [2 * np.pi * (seconds % period) / period for period in (DAY, WEEK)]
    waves = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
    return np.stack(waves, axis=1).astype(np.float32)
