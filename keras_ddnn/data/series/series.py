"""Numbers measured at equal steps of time, a column for each thing that is measured."""

from dataclasses import dataclass

import numpy as np

from keras_ddnn.files.checks import expect


@dataclass(frozen=True, eq=False)
class Series:
    """Series of one length, whose steps are equal.

    Attributes:
        values: float64 (t, s), finite.
        names: Of the s series.
        times: datetime64[s] (t,), the beginning of each step; None if they are not known.

    Raises:
        ValueError: If the arrays do not fit each other, a number is missing, or steps differ.
    """

    values: np.ndarray
    names: tuple[str, ...]
    times: np.ndarray | None = None

    def __post_init__(self) -> None:
        values = np.asarray(self.values, np.float64)
        expect(values.ndim == 2 and values.size, "series", "numbers (t, s)", f"{values.shape}")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "names", tuple(map(str, self.names)))
        steps, count = values.shape
        expect(len(self.names) == count, "names of series", f"{count}", len(self.names))
        expect(len({*self.names}) == count, "names of series", "no two alike", self.names)
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            row, column = bad[0]
            expect(
                False,
                f"series {self.names[column]!r}",
                "a finite number at each step; fill the gaps or leave the series out",
                f"none in row {row}, and in {len(bad):,} places in all",
            )
        if self.times is None:
            return
        times = np.asarray(self.times).astype("datetime64[s]")
        object.__setattr__(self, "times", times)
        expect(len(times) == steps, "times of series", f"{steps:,}", f"{len(times):,}")
        gaps = np.diff(times.astype(np.int64))
        odd = np.flatnonzero(gaps != gaps[0]) if len(gaps) else gaps
        wanted = "equal steps that go forward; put in the rows that are missing"
        received = f"{times[odd[0]]} and then {times[odd[0] + 1]}" if len(odd) else ""
        expect(not len(odd), "times of series", wanted, received)
        expect(not len(gaps) or gaps[0] > 0, "times of series", wanted, "times that go back")

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, rows: slice) -> "Series":
        """Return the series over some of the steps."""
        times = None if self.times is None else self.times[rows]
        return Series(self.values[rows], self.names, times)
