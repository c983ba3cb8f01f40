"""Decoded images in the cache folder: whole or not there, resumed after a kill.

A set of images is a folder of an array, named by its content, and of `images.json`. It is found by
the paths of its files and by how they are read. Like Git, it trusts a file whose size, times and
inode are as they were; any other is hashed, and decoded anew only if its bytes have changed. So
files that were touched or restored are found, and edited ones are not mistaken, at the price of a
stat for each at a start. The array itself is trusted by its size and time likewise, else its chunks
are hashed, and what is damaged is decoded anew.

While it is made, each chunk of rows is written and then noted with its hash, in a folder whose name
ends with ".part". A later process takes from there what has the noted hash, and nothing else. Where
a few files have changed it starts from a copy, which gets another name: whoever still opens the old
array by its name, as workers do, must not find other images.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_ddnn.data.rows.chunk_notes import (
    NOTED,
    header_of,
    noted_chunks,
    undamaged,
    write_at,
)
from keras_ddnn.data.rows.decoding import (
    FileState,
    ImageFiles,
    SizesDiffer,
    chunks_of,
    parallel,
    unchanged,
)
from keras_ddnn.data.rows.place import VARIABLE, alone_with, cache_folder
from keras_ddnn.data.rows.view import MappedFile
from keras_ddnn.files.checksums import read_sealed_json, sha256_of_json, write_sealed_json
from keras_ddnn.files.notices import progress_bar

VERSION = 1  # of what pixels a file means; raised when reading or fitting changes
IMAGES, RECORD = "images.npy", "images.json"
CONTENT = "content.json"  # what stands for the pixels
ROOM = 2**24  # bytes that stay free on the disk


class Decoded(NamedTuple):
    """Images (n, h, w, c), a state for each file, and notes of what was chosen for them."""

    images: np.ndarray | None
    states: Sequence[FileState]
    notes: list[str]


def decoded(asked: ImageFiles) -> Decoded:
    """Return decoded images from the cache, where they are put if they are not there.

    Raises:
        OSError: The cache folder cannot be written.
        ValueError: See `read_image`.
    """
    folder = cache_folder() / "images" / _key(asked)
    if found := _found(folder, asked):  # also where the folder is read-only
        return found
    with alone_with(folder.with_suffix(".lock")):
        if found := _found(folder, asked):  # another process has made it meanwhile
            return found
        for exact in (False, True):
            with suppress(SizesDiffer):
                return _made(folder, asked, exact)
    raise AssertionError("exact sizes cannot differ")


def content_of(array: np.memmap) -> str | None:
    """Return what stands for the contents of a part of an array of this cache; None of others."""
    place = MappedFile.of(array)
    if place is None or not Path(place.path).with_name(CONTENT).exists():
        return None
    try:
        content = read_sealed_json(Path(place.path).with_name(CONTENT))["content"]
    except (ValueError, KeyError, TypeError):
        return None
    known = Path(place.path).name == _name_of(content)
    return f"{content} {place.offset} {place.shape}" if known else None


def remembered(contents: Sequence[str | None], compute: Callable[[], str]) -> str:
    """Return what is computed of some contents; from the cache where it has been computed before.

    Args:
        contents: What stands for them; None where nothing does, so that it is computed.
        compute: Returns one line.
    """
    if None in contents:
        return compute()
    with suppress(OSError):
        path = cache_folder() / "fingerprints" / sha256_of_json(list(contents))
        with suppress(ValueError, KeyError, TypeError):
            return read_sealed_json(path)["fingerprint"]
        result = compute()
        write_sealed_json(path, {"fingerprint": result})
        return result
    return compute()


def _key(asked: ImageFiles) -> str:
    place = {"root": str(asked.root.absolute()), "files": asked.names}
    return sha256_of_json({"version": VERSION, **place, **asked.options()})[:32]


def _found(folder: Path, asked: ImageFiles) -> Decoded | None:
    """Return what is in the cache, unless it is damaged or a file has changed."""
    try:
        record = read_sealed_json(folder / RECORD)
        known = [FileState(*state) for state in record["states"]]
        states = [now for now in map(unchanged, asked.files, known) if now]
        if len(states) != len(asked.files):
            return None
        if any(asked.is_readable(row) for row, state in enumerate(states) if state.error):
            return None
        images = np.load(folder / record["images"], mmap_mode="r")
        if images.shape != tuple(record["shape"]):
            return None
        marks = _marks(folder / record["images"])
        if marks != record.get("marks") and not undamaged(folder, images):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if marks != record.get("marks") or any(now is not old for now, old in zip(states, known)):
        with suppress(OSError):  # next time no file need be read
            write_sealed_json(folder / RECORD, record | {"states": states, "marks": marks})
    place = f"{len(images):,} decoded images are read from {folder}"
    return Decoded(images, states, [*record["notes"], place])


def _marks(array: Path) -> list[int]:
    """Return size and time of change of an array: while they are as noted it is trusted."""
    state = os.stat(array)
    return [state.st_size, state.st_mtime_ns]


def _made(folder: Path, asked: ImageFiles, exact: bool) -> Decoded:
    size, alike, words = asked.target(exact)
    if size is None:
        return Decoded(None, asked.unreadable(), [])
    shape = (len(asked.files), *size, asked.channels)
    notes = [words] if words else []
    part = folder.with_suffix(".part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        _start_from(folder, part)
        states, content = _fill(part, asked, shape, alike)
        record: dict[str, Any] = {"shape": shape, "states": states, "notes": notes}
        record |= {"images": _name_of(content), "marks": _marks(part / IMAGES)}
        record |= {"root": str(asked.root.absolute()), "names": asked.names}
        record |= {"options": asked.options()}
        write_sealed_json(part / CONTENT, {"content": content})
        write_sealed_json(part / RECORD, record)
        os.replace(part / IMAGES, part / record["images"])
        _move(part, folder)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
        raise
    _remove_older(folder, record)
    megabytes = np.prod(shape) / 1e6
    place = (
        f"{shape[0]:,} images are decoded once, into {folder} ({megabytes:,.0f} MB), which may be "
        f"deleted; {VARIABLE} names another cache folder"
    )
    return Decoded(np.load(folder / record["images"], mmap_mode="r"), states, [*notes, place])


def _name_of(content: str) -> str:
    return f"{content[:32]}.npy"


def _start_from(folder: Path, part: Path) -> None:
    """Copy an array of which files have changed to where it is made anew."""
    if not (part / NOTED).exists():
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            shutil.copyfile(folder / read_sealed_json(folder / RECORD)["images"], part / IMAGES)
            shutil.copyfile(folder / NOTED, part / NOTED)


def _fill(
    part: Path, asked: ImageFiles, shape: tuple[int, ...], alike: bool
) -> tuple[list[FileState], str]:
    """Write the missing chunks of an unfinished array; return all states, and the content's hash.

    Raises:
        OSError: It cannot be written.
        SizesDiffer: See `ImageFiles.decode`.
    """
    header = header_of(shape)
    chunks, row_bytes = chunks_of(shape), int(np.prod(shape[1:]))
    free = shutil.disk_usage(part).free
    mode = "r+b" if (part / IMAGES).exists() else "w+b"
    with open(part / IMAGES, mode, buffering=0) as images:
        if shape[0] * row_bytes + ROOM > free + os.fstat(images.fileno()).st_size:
            raise OSError(f"{shape[0] * row_bytes / 1e6:,.0f} MB are more than the disk has free")

        def place_of(rows: range) -> tuple[int, int]:
            return len(header) + rows.start * row_bytes, len(rows) * row_bytes

        noted = noted_chunks(part / NOTED, header)
        done = {}
        for chunk, (digest, states) in noted.items():
            rows = chunks[chunk]
            offset, length = place_of(rows)
            images.seek(offset)
            pixels = images.read(length)
            files = asked.files[rows.start : rows.stop]
            same = [now for now in map(unchanged, files, states) if now]
            mended = any(state.error for state in states)  # perhaps
            if sha256(pixels).hexdigest() == digest and len(same) == len(files) and not mended:
                done[chunk] = digest, same
        write_at(images, header, 0)
        images.truncate(len(header) + shape[0] * row_bytes)

        todo = [chunk for chunk in range(len(chunks)) if chunk not in done]
        decode = partial(asked.decode, size=(shape[1], shape[2]), alike=alike, hashed=True)
        results = parallel(decode, (chunks[chunk] for chunk in todo))
        with (
            open(part / NOTED, "ab") as notes,
            progress_bar(
                total=shape[0],
                initial=shape[0] - sum(len(chunks[chunk]) for chunk in todo),
                desc=f"decoding {asked.root.name}",
                unit=" images",
                delay=1.0,
            ) as bar,
        ):
            if not noted:
                notes.truncate(0)
                notes.write(json.dumps({"header": header.hex()}).encode() + b"\n")
            for chunk, (pixels, states) in zip(todo, results):
                digest = sha256(pixels).hexdigest()
                write_at(images, pixels.tobytes(), place_of(chunks[chunk])[0])
                notes.write(b"\n" + json.dumps([chunk, digest, states]).encode() + b"\n")
                notes.flush()
                done[chunk] = digest, states
                bar.update(len(states))
        os.fsync(images.fileno())
    ordered = [done[chunk] for chunk in range(len(chunks))]
    content = sha256_of_json([shape, [digest for digest, _ in ordered]])
    return [state for _, states in ordered for state in states], content


def _move(part: Path, folder: Path) -> None:
    """Let a complete folder take the place of another."""
    older = folder.with_suffix(".older")
    shutil.rmtree(older, ignore_errors=True)
    with suppress(FileNotFoundError):
        os.replace(folder, older)
    os.replace(part, folder)
    shutil.rmtree(older, ignore_errors=True)  # who has mapped it keeps it until then


def _remove_older(folder: Path, record: dict) -> None:
    """Delete what was decoded of the same folder before files were changed or added."""
    for other in folder.parent.glob(f"*/{RECORD}"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            old = read_sealed_json(other)
            alike = all(old[name] == record[name] for name in ("root", "options"))
            if other.parent == folder or other.parent.suffix or not alike:
                continue
            files = [Path(old["root"]) / name for name in old["names"]]
            states = (FileState(*state) for state in old["states"])
            if set(old["names"]) <= set(record["names"]) or not all(map(unchanged, files, states)):
                shutil.rmtree(other.parent, ignore_errors=True)
