"""IDX files, in which MNIST and its family are published: train-images-idx3-ubyte.gz and others."""

import gzip
import math
import re
import zlib
from pathlib import Path

import numpy as np

from keras_ddnn.data.formats.archives import require_room
from keras_ddnn.data.formats.found import Found
from keras_ddnn.files.notices import notice

# MNIST, Fashion-MNIST and KMNIST; EMNIST has its part in front.
_NAME = re.compile(
    r"(?P<set>.*?)(?P<split>train|test|t10k)-(?P<kind>images|labels)[-.]idx[13]-ubyte(\.gz)?", re.I
)
_UNSIGNED_BYTES = b"\0\0\x08"  # and the number of axes
_AXES = {"images": 3, "labels": 1}
_PAD = 2  # of 28 pixels, to the 32 that three poolings divide


def read_idx(folder: Path) -> Found | None:
    """Read the four IDX files of a folder, compressed or not; None if it holds none.

    Images of 28×28 get a black border of 2 pixels and three equal channels, as `load` gives those
    of TensorFlow Datasets.

    Raises:
        ValueError: A file is missing, damaged, of another type or too large for the memory; images
            and labels of several sets lie in one folder.
    """
    files = {path: match for path in sorted(folder.iterdir()) if (match := _match(path))}
    if not files:
        return None
    sets = sorted({match["set"] for match in files.values()})
    if len(sets) > 1:
        raise ValueError(
            f"{folder}: expected the IDX files of one dataset, received those of "
            f"{', '.join(name or 'no name' for name in sets)}: move each to a folder of its own"
        )
    found: dict[tuple[str, str], Path] = {}
    for path, match in files.items():  # X comes before X.gz
        role = (match["kind"].lower(), "train" if match["split"].lower() == "train" else "test")
        if (first := found.setdefault(role, path)) != path:
            notice(f"{folder}: {path.name} is not read, because {first.name} is")
    missing = [
        f"{what} {kind}"
        for what in ("train", "test")
        for kind in _AXES
        if (kind, what) not in found
    ]
    if missing:
        received = ", ".join(path.name for path in files)
        raise ValueError(
            f"{folder}: expected IDX files of {', '.join(missing)}, received {received}"
        )
    arrays = {role: read_idx_file(path, _AXES[role[0]]) for role, path in found.items()}
    inputs, labels = (
        {what: arrays[kind, what] for what in ("train", "test")} for kind in ("images", "labels")
    )
    if inputs["train"].shape[1:] == (28, 28):
        notice("grey images of 28×28 get a black border to 32×32 and three equal channels")
        inputs = {what: padded(images[..., None]) for what, images in inputs.items()}
    return Found(folder.name, inputs, labels)


def padded(images: np.ndarray) -> np.ndarray:
    """Return images (n, 28, 28, 1) with a black border and repeated channels, (n, 32, 32, 3)."""
    border = (_PAD, _PAD)
    return np.pad(images, ((0, 0), border, border, (0, 0))).repeat(3, axis=3)


def read_idx_file(path: Path, axes: int) -> np.ndarray:
    """Read one IDX file of unsigned bytes, which is decompressed if it ends in .gz.

    Raises:
        ValueError: It is damaged, has other axes or types, or does not fit in memory.
    """
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rb") as file:
            header = file.read(4)
            if header != _UNSIGNED_BYTES + bytes([axes]):
                raise ValueError(
                    f"its first bytes are {header.hex() or 'none'}, not 000008{axes:02}"
                )
            sizes = file.read(4 * axes)
            shape = tuple(np.frombuffer(sizes, ">u4").tolist()) if len(sizes) == 4 * axes else ()
            count = math.prod(shape) if shape else 0
            require_room({path.name: count})
            content = file.read(count + 1)  # one more, to notice what is left over
    except (ValueError, EOFError, OSError, zlib.error, MemoryError) as error:
        raise ValueError(f"{path}: expected an IDX file: {error}") from error
    if not shape or len(content) != count:
        raise ValueError(
            f"{path}: expected an IDX file, received one whose header asks for "
            f"{count:,} bytes, not for those it holds"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _match(path: Path) -> re.Match | None:
    return _NAME.fullmatch(path.name)
