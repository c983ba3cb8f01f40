"""Series in files: a table of one column a series, and the grid of Milano as it is published."""

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_ddnn.data.series.series import Series
from keras_ddnn.files.checks import expect
from keras_ddnn.files.notices import notice

if TYPE_CHECKING:
    import pandas as pd

MILANO = "sms-call-internet-mi-*.txt"  # a file a day
# Of a line: square, beginning of ten minutes (ms), country, then SMS, calls and internet.
COLUMNS = {0: "square", 1: "time", 7: "internet"}
EXAMPLE = "2024-03-13 14:00"
# Of names of columns that are clocks or keys, and nothing that was measured.
CLOCK_WORDS = {
    *("unix", "epoch", "timestamp", "time", "datetime", "date", "year", "month", "week", "weekday"),
    *("day", "hour", "minute", "second", "of", "utc", "gmt", "ms", "ns", "id"),
}
SHOWN = 8  # names that a notice lists before it leaves some out
TEN_MINUTES, HOUR, DAY = 600, 3600, 24 * 3600  # seconds


def read_table(path: str | Path, columns: Sequence[str] | None = None) -> Series:
    """Read a `.csv` or `.parquet` table of one column a series, and perhaps one of times.

    The one column that is no number is that of the times, which any date that pandas knows may
    stand for; where it could be of two days, as 01/03/2024, it is refused. Where series are named,
    columns of other text are left out. What nobody has named is told in one line.

    Args:
        path: The file.
        columns: Names of the series that are wanted; None for all columns of numbers.

    Returns:
        Series: In the order of the columns.

    Raises:
        ValueError: If the file is of another kind or no table, a column is missing or holds no
            numbers, several columns hold none, two have one name, a column of numbers looks like an
            index or a clock and `columns` does not name those that are wanted, or as `Series`.
        OSError: If the file cannot be read.
    """
    path = Path(path)
    table = _table(path)
    _require_names(path, list(table.columns), with_header=path.suffix == ".csv")
    numbers = table.select_dtypes("number").columns
    others = [name for name in table.columns if name not in set(numbers)]
    wanted = list(numbers) if columns is None else list(columns)
    missing = [name for name in wanted if name not in table.columns]
    held = f"columns among {', '.join(map(str, numbers)) or 'none of numbers'}"
    expect(not missing, str(path), held, f"{missing}")
    odd = [name for name in wanted if name in others]
    expect(not odd, str(path), "columns of numbers", f"{odd}")
    expect(wanted, str(path), "a column of numbers, one a series", f"{list(table.columns)}")
    if columns is None:
        # A cell that is no number would silently cost its series, and a counter become one.
        texts = f"{others}: mend cells that hold no number, or name the series by columns="
        expect(len(others) < 2, str(path), "at most one column of times, the others numbers", texts)
        clocks = [str(name) for name in wanted if _is_clock(str(name), table[name].to_numpy(float))]
        told = f"{clocks}, by name or steps a clock or an index: name the series by columns="
        expect(not clocks, str(path), "columns of measurements, and times as dates", told)
    else:
        others = [name for name in others if _holds_dates(table[name])]
        expect(len(others) < 2, str(path), "at most one column of times", f"{others}: drop one")
    times = _times(f"{path}, column {others[0]!r}", table[others[0]]) if others else None
    series = Series(table[wanted].to_numpy(np.float64), tuple(map(str, wanted)), times)
    if columns is None:
        more = f" and {len(wanted) - SHOWN} more" if len(wanted) > SHOWN else ""
        clock = f"times are {others[0]!r}" if others else "there are no times"
        notice(f"{path}: series are {', '.join(series.names[:SHOWN])}{more}; {clock}")
    return series


def _table(path: Path) -> "pd.DataFrame":
    """Return a table as it is in its file."""
    import pandas as pd

    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": pd.read_csv,
        ".parquet": pd.read_parquet,
    }
    expect(path.suffix in readers, str(path), "a .csv or .parquet file", path.suffix or "no ending")
    try:
        table = readers[path.suffix](path)
    except ValueError as error:  # those of both libraries, and of text that is no UTF-8
        expect(False, str(path), f"a table, {path.suffix}", " ".join(str(error).split()))
    expect(len(table), str(path), "a row a step", "no row: give another file")
    return table


def _holds_dates(column: "pd.Series") -> bool:
    """Whether most cells are dates: the others then are mistakes, and the column no other text."""
    import pandas as pd

    text = column.astype(str)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        dates = pd.to_datetime(text, utc=True, errors="coerce", dayfirst=True, format="mixed")
    return bool((dates.notna() & text.str.contains(r"\d")).mean() > 0.5)


def _times(subject: str, column: "pd.Series") -> np.ndarray:
    """Return the times of a column of dates.

    Raises:
        ValueError: If a cell is no date or written otherwise than the first, or days could be
            months in all of them.
    """
    import pandas as pd

    readings, text = [], column.astype(str)
    # Told that days are first, pandas takes the second number of 2024-01-02 for the day, too.
    year_first = text.str.match(r"\d{4}").all()
    for day_first in (False,) if year_first else (False, True):
        with suppress(ValueError, TypeError), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it has found the other order
            readings.append(pd.to_datetime(column, utc=True, dayfirst=day_first))
    wanted = f"times, all written as {EXAMPLE}, or numbers"
    if not readings:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            odd = text[pd.to_datetime(text, utc=True, errors="coerce").isna() & column.notna()]
        expect(False, subject, wanted, repr(next(iter(odd), text.iloc[0])))
    said = f"{column.iloc[0]!r}, whose day may be its month: write the year first"
    expect(readings[0].equals(readings[-1]), subject, wanted, said)
    return readings[0].dt.tz_localize(None).to_numpy()


def _require_names(path: Path, names: Sequence[object], *, with_header: bool) -> None:
    """Raise ValueError unless each column has a name, and one of its own, parted by commas."""
    told = [str(name) for name in names]
    hint = f"{told[0]!r}: write commas between columns and points in numbers"
    expect(len(told) > 1 or ";" not in told[0], str(path), "columns parted by commas", hint)
    # pandas makes "a.1" of a second "a".
    twice = [name for name in told if name.endswith(".1") and name[:-2] in told]
    expect(
        not twice, str(path), "a name of its own for each column", f"{twice[:3]} beside its like"
    )
    unnamed = [name for name in told if _is_number(name)] if with_header else []
    expect(not unnamed, str(path), "a first row with the names of the columns", f"{unnamed[:3]}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_clock(name: str, values: np.ndarray) -> bool:
    """Whether a column is named as a clock, or rises as one, or as an index."""
    words = re.findall(r"[a-z]+", name.lower())
    if words and CLOCK_WORDS.issuperset(words):
        return True
    steps = np.diff(values)
    # A row may be missing: steps of whole numbers need not be equal.
    alike = bool((values == np.rint(values)).all() or (steps == steps[:1]).all())
    return len(steps) > 1 and alike and bool((steps > 0).all())


def read_milano(folder: str | Path, squares: Iterable[int], *, hourly: bool = True) -> Series:
    """Read internet traffic of squares of the grid of Milano, as Telecom Italia has published it.

    Source: Barlacchi et al., "A multi-source dataset of urban life in the city of Milan and the
    Province of Trentino", Scientific Data, 2015. Traffic is in the units of that data set, summed
    over countries; a square and ten minutes without a line had none.

    Args:
        folder: Holds `sms-call-internet-mi-2013-11-01.txt` and the others, a file a day.
        squares: Numbers of squares of the grid, 1 to 10,000.
        hourly: Whether the six parts of an hour are summed.

    Returns:
        Series: One a square, in the order given, from the first line to the last.

    Raises:
        ValueError: If the folder holds no such file, a file is none of these, or a square has no
            line.
    """
    import pandas as pd

    paths = sorted(Path(folder).glob(MILANO))
    expect(paths, str(folder), f"files {MILANO}, one a day", "none")
    wanted = [int(square) for square in squares]
    parts = []
    for path in paths:
        try:
            lines = pd.read_csv(
                path, sep="\t", header=None, usecols=[*COLUMNS], dtype=np.float64
            ).rename(columns=COLUMNS)
        except ValueError as error:
            reason = " ".join(str(error).split())
            expect(False, str(path), "eight columns of numbers, parted by tabs", reason)
        lines = lines[lines["square"].isin(wanted) & lines["internet"].notna()]
        parts.append(lines.groupby(["time", "square"])["internet"].sum())
    found = pd.concat(parts).groupby(["time", "square"]).sum().unstack(fill_value=0.0)
    missing = sorted({*wanted} - {*found.columns.astype(int)})
    expect(not missing, str(folder), "traffic of all squares", f"none of {missing}")
    step = HOUR if hourly else TEN_MINUTES
    seconds = found.index.to_numpy() // 1000
    days = np.unique(seconds // DAY).astype(np.int64)
    absent = np.setdiff1d(np.arange(days[0], days[-1] + 1), days).astype("datetime64[D]")
    expect(not len(absent), str(folder), "a file of each day", f"none of {absent.tolist()[:3]}")
    first, last = int(seconds.min()) // step * step, int(seconds.max()) // step * step
    places = ((seconds - first) // step).astype(np.int64)
    values = np.zeros(((last - first) // step + 1, len(wanted)))
    np.add.at(values, places, found[[float(square) for square in wanted]].to_numpy())
    times = np.datetime64(first, "s") + np.arange(len(values)) * np.timedelta64(step, "s")
    return Series(values, tuple(f"square_{square}" for square in wanted), times)
