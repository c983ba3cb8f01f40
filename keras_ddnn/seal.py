"""Hashes kept with what was written, so that damage is noticed before anything is trusted."""

import hashlib
import json
import os
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from keras_ddnn.atomic import replacing_folder, write_json

SEAL = "sha256.json"


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def sha256_of_json(content) -> str:
    """Return the SHA-256, in hex, of plain JSON content, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def sealed_folder(path):
    """Yield a new folder as `replacing_folder` does, and keep in it the hash of each of its files.

    Raises:
        OSError: If the parent folder cannot be written.
    """
    with replacing_folder(path) as folder:
        yield folder
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        write_json(folder / SEAL, {str(f.relative_to(folder)): sha256(f) for f in files})


def damage_of_folder(folder) -> str | None:
    """Say which file of a sealed folder is not as it was written; None if all are.

    Files that came later are not looked at.
    """
    folder = Path(folder)
    try:
        hashes = json.loads((folder / SEAL).read_bytes())
        return next(filter(None, (damage(folder / name, hashes[name]) for name in hashes)), None)
    except (OSError, ValueError, TypeError) as error:
        return f"{folder / SEAL} cannot be read: {error}"


def damage(file: Path, expected: str) -> str | None:
    """Say in what a file differs from the SHA-256 it should have; None if in nothing."""
    if not file.is_file():
        return f"{file} is missing"
    if (received := sha256(file)) != expected:
        return f"{file} is damaged: expected SHA-256 {expected}; received {received}"
    return None


def write_sealed_json(path, content: dict) -> None:
    """Write plain JSON with the hash of its content, whole or not at all."""
    write_json(path, {"content": content, "sha256": sha256_of_json(content)})


def read_sealed_json(path) -> dict:
    """Read what `write_sealed_json` has written.

    Raises:
        ValueError: If it is not what was written.
    """
    try:
        sealed = json.loads(Path(path).read_bytes())
        content, expected = sealed["content"], sealed["sha256"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged: {type(error).__name__} {error}") from error
    if (received := sha256_of_json(content)) != expected:
        raise ValueError(f"{path} is damaged: expected SHA-256 {expected}; received {received}")
    return content


def set_aside(path) -> Path:
    """Rename a damaged file or folder, so that it can be looked at and made again.

    Returns:
        Its new path: ".damaged" appended, and a number where that exists.
    """
    path = Path(path)
    names = (f"{path.name}.damaged{number or ''}" for number in count())
    aside = next(new for name in names if not (new := path.with_name(name)).exists())
    os.replace(path, aside)
    return aside
