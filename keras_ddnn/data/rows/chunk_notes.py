"""The chunks of an array in a file: how they are written, and the hashes that are noted of them."""

import json
from contextlib import suppress
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np

from keras_ddnn.data.rows.decoding import FileState, chunks_of

NOTED = "chunks.jsonl"


def undamaged(folder: Path, images: np.ndarray) -> bool:
    """Return whether every chunk of a complete array has the hash that was noted for it."""
    noted = noted_chunks(folder / NOTED, header_of(images.shape))
    chunks = chunks_of(images.shape)
    return noted.keys() == set(range(len(chunks))) and all(
        sha256(images[rows.start : rows.stop]).hexdigest() == noted[chunk][0]
        for chunk, rows in enumerate(chunks)
    )


def noted_chunks(path: Path, header: bytes) -> dict[int, tuple[str, list[FileState]]]:
    """Return the noted chunks of an unfinished array with this header; torn lines are left out."""
    lines = []
    with suppress(OSError):
        for line in path.read_bytes().splitlines():
            with suppress(ValueError):
                lines.append(json.loads(line))
    if lines[:1] != [{"header": header.hex()}]:
        return {}
    return {
        chunk: (digest, [FileState(*state) for state in states])
        for chunk, digest, states in lines[1:]
    }


def header_of(shape: tuple[int, ...]) -> bytes:
    """Return what a `.npy` file of uint8 of a shape begins with."""
    file = BytesIO()
    description = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, description)
    return file.getvalue()


def write_at(file: IO[bytes], content: bytes, offset: int) -> None:
    """Write all of some bytes at a place of an unbuffered file; raises OSError if it cannot."""
    # Not through a mapping: there a full disk is a signal that kills, here it is an exception.
    file.seek(offset)
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]
