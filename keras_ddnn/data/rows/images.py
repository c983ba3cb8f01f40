"""Image files as rows of one array: decoded once, kept in a file, found again by their content."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from keras_ddnn.data.formats.archives import available_memory
from keras_ddnn.data.readers import WHITE, colour_of
from keras_ddnn.data.rows import kept
from keras_ddnn.data.rows.decoding import FileState, ImageFiles, SizesDiffer, chunks_of, parallel
from keras_ddnn.data.rows.kept import Decoded
from keras_ddnn.data.rows.place import VARIABLE
from keras_ddnn.data.rows.sizes import Fit, require_fit, size_of
from keras_ddnn.data.rows.view import Array, taken
from keras_ddnn.files.notices import notice

NAMED = 100  # unreadable files that a message lists
DEFAULTS = {"fit": "resize", "background": WHITE, "scale": None}  # how image files are read


def chosen_reading(given: Mapping[str, Any], trained: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return how image files are read: as given, else as a network's training images, else as ever.

    What is given and differs from training is said in a line.

    Args:
        given: Keywords of `read_groups`; None where a value is not given.
        trained: `Splits.reading`; None where it is not known.
    """
    asked = {name: value for name, value in given.items() if value is not None}
    known = DEFAULTS | dict(trained or {})
    for reading in (asked, known):
        if "background" in reading:
            reading["background"] = colour_of(reading["background"])
    for name in trained or ():
        here, there = asked.get(name, known[name]), known[name]
        if here != there:
            notice(f"{name} is {here} here; for the training images it was {there}")
    return known | asked


def read_groups(
    groups: Sequence[Sequence[Path]],
    root: Path,
    *,
    skip_unreadable: bool = False,
    image_size: int | Sequence[int] | str | None = None,
    fit: Fit = "resize",
    cached: bool = True,
    **reading: Any,
) -> list[tuple[Array, np.ndarray]]:
    """Read groups of image files, all brought to one size.

    All groups share one array, which is mapped from the cache, so that a group is a view of it:
    however files are divided, they are decoded once. What was chosen is said in a line each.

    Args:
        groups: Paths.
        root: Folder that messages name.
        skip_unreadable: Leave out files that cannot be read, rather than refuse them all.
        image_size: Height and width, or a side; None for that of the images. If these differ, the
            median of the shorter sides, at most 224.
        fit: How images are brought to that size, see `fitted`.
        cached: Keep the array in the cache folder; else in memory.
        reading: Keywords of `read_image`.

    Returns:
        For each group the images, uint8 of shape (m, h, w, channels), and which of its files they
        are, bool of shape (n,).

    Raises:
        ValueError: Files cannot be read, all of which are listed; none can be read; or an argument
            is out of range.
    """
    require_fit(fit)
    files = sorted({file for group in groups for file in group}, key=str)
    asked = ImageFiles(root, files, size=size_of(image_size), fit=fit, **reading)
    decoded = _decoded(asked, cached)
    damaged = [row for row, state in enumerate(decoded.states) if state.error]
    if damaged:
        _say_unreadable(asked, decoded.states, damaged, skip_unreadable)
    if decoded.images is None or len(damaged) == len(files):
        raise ValueError(f"{root}: expected images, received none that can be read")
    for note in decoded.notes:
        notice(f"{root}: {note}")
    remarks = Counter(remark for state in decoded.states for remark in state.remarks)
    for remark, count in remarks.items():
        notice(f"{root}: {count:,} of {len(files):,} images {remark}")
    places = {file: row for row, file in enumerate(files)}
    readable = np.array([not state.error for state in decoded.states])
    divided = []
    for group in groups:
        rows = np.array([places[file] for file in group], np.int64)
        chosen = readable[rows]
        divided.append((_view(decoded.images, rows[chosen]), chosen))
    return divided


def _decoded(asked: ImageFiles, cached: bool) -> Decoded:
    if cached:
        try:
            return kept.decoded(asked)
        except OSError as error:
            reason = f"{error.strerror or error}"
            notice(
                f"{asked.root}: images are kept in memory, for the cache folder cannot be written "
                f"({reason}); {VARIABLE} names another"
            )
    for exact in (False, True):
        with suppress(SizesDiffer):
            return _in_memory(asked, exact)
    raise AssertionError("exact sizes cannot differ")


def _in_memory(asked: ImageFiles, exact: bool) -> Decoded:
    size, alike, words = asked.target(exact)
    if size is None:
        return Decoded(None, asked.unreadable(), [])
    shape = (len(asked.files), *size, asked.channels)
    needed, available = int(np.prod(shape)), available_memory()
    if needed > available:
        raise ValueError(
            f"{asked.root}: expected images that fit in memory, received {needed / 2**30:,.2f} GiB "
            f"of which {available / 2**30:,.2f} are available: let {VARIABLE} name a folder with "
            "room, or give a smaller image_size (--image-size)"
        )
    images, states = np.empty(shape, np.uint8), []
    chunks = chunks_of(shape)
    done = parallel(lambda rows: asked.decode(rows, size, alike=alike, hashed=False), chunks)
    for rows, (pixels, found) in zip(chunks, done):
        images[rows.start : rows.stop] = pixels
        states += found
    return Decoded(images, states, [words] if words else [])


def _view(images: np.ndarray, rows: np.ndarray) -> Array:
    if len(rows) and (np.diff(rows) == 1).all():
        return images[rows[0] : rows[-1] + 1]
    return taken(images, rows)


def _say_unreadable(
    asked: ImageFiles, states: Sequence[FileState], damaged: list[int], skip: bool
) -> None:
    """Name all unreadable files in one line.

    Raises:
        ValueError: They are not to be skipped.
    """
    names = ", ".join(asked.names[row] for row in damaged[:NAMED])
    more = f" and {len(damaged) - NAMED:,} others" if len(damaged) > NAMED else ""
    count = f"{len(damaged)} of {len(states):,} files"
    if skip:
        notice(f"{asked.root}: {count} are skipped, for PIL cannot read them: {names}{more}")
        return
    if len(damaged) == 1:
        raise ValueError(states[damaged[0]].error)
    raise ValueError(
        f"{asked.root}: expected images, received {count} that PIL cannot read: {names}{more}: "
        "mend them, or leave them out with --skip-unreadable (skip_unreadable= of keras_ddnn.load)"
    )
