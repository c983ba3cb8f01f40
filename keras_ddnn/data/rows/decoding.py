"""Image files decoded to one size, several at once, a chunk of rows after another."""

import os
import stat
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from keras_ddnn.data.readers import WHITE, Unreadable, read_image, upright_size
from keras_ddnn.data.rows.sizes import Fit, Size, common_size, fitted
from keras_ddnn.files.checksums import sha256

CHUNK_BYTES = 4 * 2**20
MOST_ROWS = 256  # of a chunk: so much is lost by a kill
RECENT = 2_000_000_000  # ns; a file written so lately may change once more and show the same times

In = TypeVar("In")
Out = TypeVar("Out")


class FileState(NamedTuple):
    """What is known of an image file beside its pixels; plain JSON, as a list.

    Attributes:
        stat: Size, times of change in ns and inode, as Git compares them; None if the file was
            changed so lately that a further change might not show.
        sha256: Of its bytes, in hex; None if it cannot be read.
        remarks: Of `read_image`.
        error: Why it is unreadable; None if it is not.
    """

    stat: list[int] | None
    sha256: str | None
    remarks: Sequence[str] = ()
    error: str | None = None


def state_of(file: Path, known: FileState | None = None) -> FileState:
    """Return the present stat and hash of a file, whose bytes are read unless its stat is known."""
    try:
        now = os.stat(file)
        if not stat.S_ISREG(now.st_mode):  # to read a pipe would wait for ever
            return FileState(None, None)
        marks = [now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino]
        if known and known.stat == marks:
            return known
        lately = max(marks[1:3]) > time.time_ns() - RECENT
        return FileState(None if lately else marks, sha256(file))
    except OSError:
        return FileState(None, None)


def unchanged(file: Path, known: FileState) -> FileState | None:
    """Return what is known of a file, with its present stat; None if its bytes are others."""
    now = state_of(file, known)
    if now is known:
        return known
    same = now.sha256 is not None and now.sha256 == known.sha256
    return known._replace(stat=now.stat) if same else None


class SizesDiffer(Exception):
    """An image has another size than its header says."""


@dataclass(frozen=True)
class ImageFiles:
    """Image files and how they are to be read.

    Attributes:
        root: Folder that messages name.
        files: Paths, in order.
        channels, background, scale: See `read_image`.
        size: Height and width; None for that of the images, or one chosen by `common_size`.
        fit: How images are brought to it.
    """

    root: Path
    files: Sequence[Path]
    channels: int = 3
    background: tuple[int, int, int] = WHITE
    scale: float | None = None
    size: Size | None = None
    fit: Fit = "resize"
    names: list[str] = field(init=False, repr=False)  # relative to root

    def __post_init__(self) -> None:
        below = f"{self.root}{os.sep}"  # relpath alone took a second for 50,000 files
        names = [
            name[len(below) :] if name.startswith(below) else os.path.relpath(name, self.root)
            for name in map(str, self.files)
        ]
        object.__setattr__(self, "names", names)

    def options(self) -> dict[str, Any]:
        """Return what beside the files decides the pixels, as JSON."""
        return {
            "channels": self.channels,
            "background": list(self.background),
            "scale": self.scale,
            "size": self.size and list(self.size),
            "fit": self.fit,
        }

    def target(self, exact: bool) -> tuple[Size | None, bool, str | None]:
        """Return the size to decode to, whether all images have it, and in words what was chosen.

        Args:
            exact: Decode the images to learn their sizes, rather than read their headers.
        """
        if self.size:
            return self.size, False, None
        sizes = Counter(size for size in parallel(partial(self._size, exact=exact), self.files))
        sizes.pop(None, None)
        if not sizes:
            return None, False, None
        size, words = common_size(sizes)
        return size, len(sizes) == 1, words

    def is_readable(self, row: int) -> bool:
        """Return whether a file can be read."""
        try:
            return self._read(self.files[row]) is not None
        except ValueError:
            return False

    def unreadable(self) -> list[FileState]:
        """Return the states of files, none of which can be read."""
        rows = range(len(self.files))
        return self.decode(rows, (1, 1), alike=False, hashed=False)[1]

    def _size(self, file: Path, exact: bool) -> Size | None:
        try:
            return self._read(file)[0].shape[:2] if exact else upright_size(file)
        except ValueError:  # it is decoded later, and the reason said then
            return None

    def _read(self, file: Path) -> tuple[np.ndarray, tuple[str, ...]]:
        return read_image(file, self.channels, background=self.background, scale=self.scale)

    def decode(
        self, rows: range, size: Size, *, alike: bool, hashed: bool
    ) -> tuple[np.ndarray, list[FileState]]:
        """Return the pixels of some of the files, uint8 (m, *size, channels), and their states.

        Args:
            rows: Which.
            size: Height and width.
            alike: All images are said to have that size.
            hashed: Whether their states are wanted, which takes one more reading.

        Raises:
            SizesDiffer: An image is not as all are said to be.
            ValueError: See `read_image`; unreadable files have zeros, and their state says why.
        """
        pixels = np.zeros((len(rows), *size, self.channels), np.uint8)
        states = []
        for place, row in enumerate(rows):
            file = self.files[row]
            # Before it is read: what changes in between, shows later.
            state = state_of(file) if hashed else FileState(None, None)
            try:
                image, remarks = self._read(file)
                if alike and image.shape[:2] != size:
                    raise SizesDiffer
                if image.shape[:2] != size:
                    remarks += (f"are brought to {size[0]}×{size[1]} pixels by {self.fit}",)
                pixels[place] = fitted(image, size, self.fit, self.background)
                states.append(state._replace(remarks=remarks))
            except Unreadable as error:
                states.append(state._replace(error=f"{error}"))
        return pixels, states


def chunks_of(shape: Sequence[int]) -> list[range]:
    """Return the rows of each chunk of an array of uint8."""
    size = int(np.clip(CHUNK_BYTES // max(1, int(np.prod(shape[1:]))), 1, MOST_ROWS))
    return [range(start, min(start + size, shape[0])) for start in range(0, shape[0], size)]


def parallel(function: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """Yield what a function makes of each item, in order, a few of them at once.

    In threads: PIL decodes outside the interpreter's lock, and pixels need not travel. Processes
    took longer on two cores, for small images and for large ones.
    """
    workers = max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)
    waiting: deque = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
