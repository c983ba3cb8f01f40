"""What TensorBoard should show and Keras does not write.

`keras.callbacks.TensorBoard` writes the scalars of every epoch. This file adds the HParams table of
a search, the histogram of B_k with its threshold b*, figures, and the local features in the
embedding projector.

Each call writes one event file and closes it, so a reader sees the result at once and no writer is
left open. Runs are told apart by their folders: use one folder a trial.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from tensorboard.plugins import projector
from tensorboard.plugins.hparams import api as hp

# Small graphics cards hold no larger texture; the browser would show black squares.
MAX_SPRITE_PIXELS = 4096


def write_scalars(folder: str | Path, scalars: Mapping[str, ArrayLike]) -> None:
    """Write each named value at step 0, or each sequence of n values at steps 0..n-1.

    Raises ValueError for a value that is neither a number nor a one-dimensional sequence.
    """
    series = {name: np.atleast_1d(values) for name, values in scalars.items()}
    for name, values in series.items():
        if values.ndim != 1:
            raise ValueError(f"scalar {name!r} has shape {values.shape}, expected () or (steps,)")
    with _event_file(folder):
        for name, values in series.items():
            for step, value in enumerate(values):
                tf.summary.scalar(name, value, step=step)


def write_text(folder: str | Path, tag: str, facts: Mapping[str, object]) -> None:
    """Write what a run is, for the Text tab: a row a fact, with its name and its `str`."""
    rows = [f"| {name} | {_in_table(value)} |" for name, value in facts.items()]
    with _event_file(folder):
        tf.summary.text(tag, "\n".join(["| what | value |", "| --- | --- |", *rows]), step=0)


def write_hparams(
    folder: str | Path,
    trial_id: str,
    hparams: Mapping[str, object],
    metrics: Mapping[str, float],
) -> None:
    """Write one trial, a row of the HParams table: its hyper-parameters and its final metrics.

    Hyper-parameters are bool, int, float or str; anything else (None, a tuple) is shown as its
    `str`. The folder must hold this trial only.
    """
    with _event_file(folder):
        hp.hparams({name: _plain(value) for name, value in hparams.items()}, trial_id=trial_id)
        for name, value in metrics.items():
            tf.summary.scalar(name, value, step=0)


def write_hparams_experiment(
    root: str | Path, hparams_domains: Mapping[str, Sequence], metric_names: Sequence[str]
) -> None:
    """Name the columns of the HParams table for all trials in folders below `root`.

    Without it the table has a column for every scalar of every run, epochs and all. A tuple
    (low, high) is an interval, a list is the set of choices.

    Raises ValueError for a tuple that is not a pair.
    """
    columns = [hp.HParam(name, _domain(name, choices)) for name, choices in hparams_domains.items()]
    with _event_file(root):
        hp.hparams_config(hparams=columns, metrics=[hp.Metric(name) for name in metric_names])


def write_benefit(
    folder: str | Path,
    benefit: ArrayLike,
    benefit_threshold: float,
    step: int = 0,
    tag: str = "benefit",
) -> None:
    """Write the histogram of B_k, the threshold b*, and the share of samples b* keeps local.

    `benefit` is (n,) float; a sample is easy when its benefit lies below the threshold. `tag`
    begins the names of the three, to tell the gates of a chain apart.

    Raises ValueError when `benefit` is empty, not one-dimensional, or not finite.
    """
    benefit = np.asarray(benefit, np.float64)
    if benefit.ndim != 1 or not benefit.size:
        raise ValueError(f"benefit has shape {benefit.shape}, expected (n,) with n > 0")
    _check_finite("benefit", benefit)
    with _event_file(folder):
        tf.summary.histogram(f"{tag}/B_k", benefit, step=step)
        tf.summary.scalar(f"{tag}/threshold", benefit_threshold, step=step)
        local_fraction = np.mean(benefit < benefit_threshold)
        tf.summary.scalar(f"{tag}/local_fraction", local_fraction, step=step)


def write_figure(folder: str | Path, tag: str, figure: Figure, step: int = 0) -> None:
    """Write a matplotlib figure as an image of its own size times its own dpi.

    The figure is neither closed nor registered with pyplot, so no display is needed.
    """
    png = BytesIO()
    # A user's savefig.dpi or savefig.bbox must not change what the figure was laid out for.
    figure.savefig(png, format="png", dpi=figure.dpi, bbox_inches=None)
    image = tf.io.decode_png(png.getvalue(), channels=4)
    with _event_file(folder):
        tf.summary.image(tag, image[tf.newaxis], step=step)


def write_projector(
    folder: str | Path,
    vectors: ArrayLike,
    metadata: Mapping[str, Sequence],
    images: np.ndarray | None = None,
    max_points: int = 2000,
    seed: int = 0,
) -> np.ndarray:
    """Write vectors for the embedding projector; return the sorted indices of those written.

    `vectors` is (n, d) float, at most a few hundred wide for a browser to stay quick. Each column
    of `metadata` has n entries and can label, colour and search the points: a column "decision" of
    "easy" and "hard" shows whether the features know the oracle's answer. The first column labels
    the points. `images` is (n, h, w, c) uint8, c one of 1, 3, 4, and adds a second entry to the
    menu, in which each point is drawn as its image. Above `max_points`, a random sample drawn from
    `seed` is written.

    Raises ValueError when the lengths differ, shapes or dtypes are wrong, or vectors not finite.
    """
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or not vectors.size:
        raise ValueError(f"vectors have shape {vectors.shape}, expected (n, d) with n, d > 0")
    _check_finite("vectors", vectors)
    for name, column in metadata.items():
        _check_length(f"metadata column {name!r}", column, vectors)
    if images is not None:
        _check_length("images", images, vectors)
        if images.ndim != 4 or images.dtype != np.uint8:
            raise ValueError(
                f"images are {images.dtype} of shape {images.shape}, expected uint8 (n, h, w, c)"
            )

    rows = np.arange(len(vectors))
    if len(rows) > max_points:
        rows = np.sort(np.random.default_rng(seed).choice(rows, max_points, replace=False))

    folder = Path(folder)
    with _event_file(folder):
        pass  # TensorBoard looks for a projector only in folders with an event file, be it empty
    # Paths are relative to the configuration, so that the folder can be moved or sent.
    embedding = projector.EmbeddingInfo(tensor_name="local_features", tensor_path="vectors.tsv")
    np.savetxt(folder / "vectors.tsv", vectors[rows], fmt="%.6g", delimiter="\t")
    if metadata:
        embedding.metadata_path = "metadata.tsv"
        (folder / "metadata.tsv").write_text(_metadata_tsv(metadata, rows), encoding="utf-8")
    config = projector.ProjectorConfig(embeddings=[embedding])
    if images is not None:
        # The projector multiplies an image by its colour, so coloured dots get their own entry.
        sheet, tile_size = _sprite_sheet(images[rows])
        (folder / "sprite.png").write_bytes(tf.io.encode_png(sheet).numpy())
        embedding.tensor_name = "local_features_as_images"
        embedding.sprite.image_path = "sprite.png"
        embedding.sprite.single_image_dim.extend(tile_size)
        config.embeddings.append(embedding)
    projector.visualize_embeddings(str(folder), config)
    return rows


@contextmanager
def _event_file(folder: str | Path) -> Iterator[None]:
    """Send the summaries written inside to one new event file in `folder`."""
    writer = tf.summary.create_file_writer(str(folder))
    try:
        # The Keras callback, given update_freq=n, lets one batch in n be recorded: for everybody.
        with writer.as_default(), tf.summary.record_if(True):
            yield
    finally:
        writer.close()


def _plain(value: object) -> bool | int | float | str:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bool | int | float | str):
        return value
    # JSON turns tuples into lists: both must read the same, or filtering by one hides the other.
    return str(tuple(value) if isinstance(value, list) else value)


def _domain(name: str, choices: Sequence) -> hp.Domain | None:
    if isinstance(choices, tuple):
        if len(choices) != 2:
            raise ValueError(f"{name!r}: {choices} is no interval (low, high); list the choices")
        return hp.RealInterval(*map(float, choices))
    values = [_plain(value) for value in choices]
    # A domain has one type, and a filter for "0.1" would hide 0.1: a mixture gets no filter.
    return hp.Discrete(values) if len(set(map(type, values))) == 1 else None


def _metadata_tsv(metadata: Mapping[str, Sequence], rows: np.ndarray) -> str:
    columns = [map(_cell, np.asarray(column)[rows]) for column in metadata.values()]
    # The projector takes a first line without a tab for data: a single column has no header.
    header = [[_cell(name) for name in metadata]] if len(metadata) > 1 else []
    return "".join("\t".join(line) + "\n" for line in [*header, *zip(*columns)])


def _in_table(value: object) -> str:
    # The tab reads Markdown, in which a bar ends a cell and _ begins italics.
    return f"`{_cell(value).replace('|', '/')}`"


def _cell(value: object) -> str:
    return " ".join(str(value).split())


def _sprite_sheet(images: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """Tile images row by row into a square sheet; return it and the (width, height) of a tile."""
    side = math.ceil(math.sqrt(len(images)))
    stride = math.ceil(side * max(images.shape[1:3]) / MAX_SPRITE_PIXELS)
    images = images[:, ::stride, ::stride]
    _, height, width, channels = images.shape
    blanks = np.zeros((side**2 - len(images), height, width, channels), np.uint8)
    grid = np.concatenate([images, blanks]).reshape(side, side, height, width, channels)
    sheet = grid.swapaxes(1, 2).reshape(side * height, side * width, channels)
    return sheet, (width, height)


def _check_length(name: str, values: Sequence, vectors: np.ndarray) -> None:
    if len(values) != len(vectors):
        raise ValueError(f"{name} has {len(values)} entries, but there are {len(vectors)} vectors")


def _check_finite(name: str, values: np.ndarray) -> None:
    bad = values.size - np.count_nonzero(np.isfinite(values))
    if bad:
        raise ValueError(f"{name}: {bad} of {values.size} values are not finite")
