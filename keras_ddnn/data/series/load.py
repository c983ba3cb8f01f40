"""Series by a name or a path, as the samples that networks are trained on."""

from collections.abc import Sequence
from pathlib import Path

from keras_ddnn.data.series import cell_traffic
from keras_ddnn.data.series.files import read_table
from keras_ddnn.data.series.series import Series
from keras_ddnn.data.series.windows import SHARES, SeriesSplits, split_by_time
from keras_ddnn.files.checks import expect

EMBEDDED = {"cell_traffic": cell_traffic.generate}


def load_series(
    source: str | Path | Series,
    *,
    length: int = 24,
    horizon: int = 1,
    columns: Sequence[str] | None = None,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
) -> SeriesSplits:
    """Load series as windows and targets, split by time, never at random.

    Args:
        source: "cell_traffic", which is generated; the path of a `.csv` or `.parquet` table of one
            column a series; or a `Series`, as `read_milano` makes one.
        length: Steps of a window.
        horizon: Steps from the last one of a window to its target.
        columns: Of a table, the series that are wanted.
        shares: Of the steps, for training, validation and test.
        seed: Of what is generated.

    Returns:
        SeriesSplits: Training, validation and test data, for `fit_ddnn`.

    Raises:
        ValueError: As `read_table` and `split_by_time`.
    """
    is_table = not isinstance(source, Series) and source not in EMBEDDED
    expect(is_table or columns is None, "columns", "a .csv or .parquet table", "other series")
    if isinstance(source, Series):
        series, name = source, "series"
    elif source in EMBEDDED:
        series, name = EMBEDDED[source](seed), str(source)
    else:
        series, name = read_table(source, columns), Path(source).stem
    return split_by_time(series, name, length=length, horizon=horizon, shares=shares)
