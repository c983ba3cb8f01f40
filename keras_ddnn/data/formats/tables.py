"""Tables of image files and their classes: CSV and Parquet."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_ddnn.data.formats.found import SPELLINGS, Found, paths_array, split_named
from keras_ddnn.files.extras import extras_named
from keras_ddnn.files.notices import notice

if TYPE_CHECKING:
    import pandas as pd

TABLES = (".csv", ".tsv", ".parquet")
# The usual names of columns, in lower case; the first that a table has is read.
COLUMNS = {
    "path": (
        *("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path"),
        *("img", "img_path", "image_file", "images", "files"),
    ),
    "label": ("label", "class", "class_name", "category", "target", "y", "labels", "species"),
    "split": ("split", "set", "subset", "partition", "usage"),
}


def read_table(path: Path) -> Found:
    """Read the paths of images, their labels and maybe their splits from a table.

    Args:
        path: A .csv file, whose first line names the columns, apart by commas, semicolons or, in a
            .tsv, tabs; or a .parquet file. Paths in it are relative to its folder.

    Raises:
        ValueError: It is no such table; a column is missing; a path or a label is empty, or a path
            is there twice; a split is unknown, or not that of training data alone.
        ModuleNotFoundError: What reads such tables is not installed; the message names the extra.
    """
    with extras_named():
        import pandas as pd
    if path.suffix.lower() == ".parquet":
        with extras_named():
            import pyarrow  # noqa: F401 - what pandas reads Parquet by
    try:
        table = _read(path, pd)
    except OSError:
        raise
    except Exception as error:  # each parser has its own errors
        reason = " ".join(f"{error}".split())
        raise ValueError(f"{path}: expected a table of image files: {reason}") from error
    columns = {what: _column(table, known) for what, known in COLUMNS.items()}
    for what in ("path", "label"):
        if columns[what] is None:
            raise ValueError(
                f"{path}: expected a column named {', '.join(COLUMNS[what][:6])} or the like, "
                f"received columns {', '.join(map(str, table.columns)) or 'none'}: rename one, "
                "or read a table of series by load_series"
            )
    others = [str(name) for name in table.columns if name not in columns.values()]
    read = ", ".join(f"{what}s of column {name!r}" for what, name in columns.items() if name)
    left = f"; not read: {', '.join(others)}" if others else ""
    notice(f"{path}: {read}{left}")
    files = _texts(table[columns["path"]], path)
    labels = _labels(table[columns["label"]], path)
    if len(files) == 0:
        raise ValueError(f"{path}: expected a line for each image, received none")
    paths = paths_array([path.parent / name for name in files])  # ./a.png is a.png
    often = [str(file) for file, count in Counter(paths.tolist()).items() if count > 1]
    if often:
        raise ValueError(
            f"{path}: expected each image once, received {len(often):,} of them more often, the "
            f"first {often[0]}"
        )
    if columns["split"] is None:
        return Found(path.stem, {"train": paths}, {"train": labels}, root=path.parent)
    rows = _splits(table[columns["split"]], path)
    inputs, parts = ({s: array[at] for s, at in rows.items()} for array in (paths, labels))
    return Found(path.stem, inputs, parts, root=path.parent)


def _read(path: Path, pd) -> "pd.DataFrame":
    if path.suffix.lower() == ".parquet":
        return pd.read_parquet(path, engine="pyarrow")
    with open(path, encoding="utf-8-sig") as file:
        first = file.readline()
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    if separator not in first and ";" in first:
        separator = ";"
    # All as text: 007 is no number, and a class may be called NA.
    options = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
    return pd.read_csv(path, sep=separator, **options)


def _column(table: "pd.DataFrame", known: tuple[str, ...]):
    names = {str(name).strip().lower(): name for name in reversed(table.columns)}
    return next((names[name] for name in known if name in names), None)


def _texts(column: "pd.Series", path: Path) -> np.ndarray:
    empty = column.isna().to_numpy() | (column.astype(str).str.strip() == "").to_numpy()
    if empty.any():
        raise ValueError(
            f"{path}: expected {column.name} of every image, received none for {empty.sum():,} of "
            f"{len(column):,}"
        )
    return column.astype(str).to_numpy(object)


def _labels(column: "pd.Series", path: Path) -> np.ndarray:
    """Return labels, int64 where all are written as integers are, else strings."""
    if column.dtype.kind == "f" and (column % 1 == 0).all():  # Parquet's integers with gaps
        return column.to_numpy(np.int64)
    texts = _texts(column, path).astype(str)
    numbers = len(texts) and all(_is_integer(text) for text in np.unique(texts).tolist())
    return texts.astype(np.int64) if numbers else texts


def _is_integer(text: str) -> bool:
    try:
        return str(int(text)) == text and abs(int(text)) < 2**63
    except ValueError:
        return False


def _splits(column: "pd.Series", path: Path) -> dict[str, np.ndarray]:
    """Return split → rows, int64."""
    texts = _texts(column, path).astype(str)
    known = {text: split_named(text.strip()) for text in np.unique(texts).tolist()}
    if unknown := [text for text, what in known.items() if what is None]:
        raise ValueError(
            f"{path}: expected splits train, val and test in column {column.name}, received "
            f"{', '.join(map(repr, unknown[:5]))}"
        )
    splits = np.array([known[text] for text in texts.tolist()])
    rows = {what: np.flatnonzero(splits == what) for what in SPELLINGS}
    rows = {what: at for what, at in rows.items() if len(at)}
    if "train" not in rows:
        raise ValueError(f"{path}: expected rows of the split train, received {', '.join(rows)}")
    return rows
