"""Hashes kept with what was written, so that damage is noticed before anything is trusted.

A hash proves that a file is as it was when the hash was written. It proves nothing of who wrote
both: whoever can change a file can change its hash too. That is proved by a signature; see
`keras_ddnn.files.signature`.
"""

import hashlib
import json
import os
import stat
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from keras_ddnn.files.atomic import replacing_folder, write_json

SEAL = "sha256.json"


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def sha256_of_json(content) -> str:
    """Return the SHA-256, in hex, of plain JSON content, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def files_of(folder) -> dict[str, Path]:
    """Return the files of a folder and of those below it, by their paths relative to it, in order.

    Raises:
        ValueError: If one is a symbolic link, which may lead out of the folder, or is neither a
            file nor a folder.
        OSError: If a folder cannot be read.
    """
    folder, files = Path(folder), {}

    def fail(error: OSError) -> None:
        raise error

    for root, folders, names in os.walk(folder, onerror=fail):
        for path in (Path(root, name) for name in (*folders, *names)):
            kind = path.lstat().st_mode
            if stat.S_ISREG(kind):
                files[path.relative_to(folder).as_posix()] = path
            elif not stat.S_ISDIR(kind):
                what = "a symbolic link" if stat.S_ISLNK(kind) else "no regular file"
                raise ValueError(
                    f"{path} is {what}: expected files and folders alone; replace it by a copy"
                )
    return dict(sorted(files.items()))


@contextmanager
def sealed_folder(path):
    """Yield a new folder as `replacing_folder` does, and keep in it the hash of each of its files.

    Raises:
        OSError: If the parent folder cannot be written.
    """
    with replacing_folder(path) as folder:
        yield folder
        write_json(folder / SEAL, {name: sha256(file) for name, file in files_of(folder).items()})


def damage_of_folder(folder) -> str | None:
    """Say which file of a sealed folder is not as it was written; None if all are.

    A folder in it of which no file is sealed came later: it has a seal of its own, and is not
    looked at.
    """
    folder = Path(folder)
    try:
        hashes = json.loads((folder / SEAL).read_bytes())
        files = files_of(folder)
        if wrong := next(filter(None, (damage(folder / n, hashes[n]) for n in hashes)), None):
            return wrong
        sealed = {name.partition("/")[0] for name in hashes}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        return f"{folder / SEAL} cannot be read: {error}"
    later = (n for n in files if "/" in n and n.partition("/")[0] not in sealed)
    if unlisted := sorted(set(files) - set(hashes) - set(later) - {SEAL}):
        return f"{folder / unlisted[0]} is not in {SEAL}"
    return None


def damage(file: Path, expected: str) -> str | None:
    """Return why a file is damaged, given the SHA-256 it should have; None if it is whole."""
    if not file.is_file():
        return f"{file} is missing"
    if (received := sha256(file)) != expected:
        return f"{file} is damaged: expected SHA-256 {cut(expected)}; received {cut(received)}"
    return None


def cut(digest: str) -> str:
    """Return as much of a hash in hex as a person compares."""
    return f"{digest[:16]}…"


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
        raise ValueError(
            f"{path} is damaged: expected SHA-256 {cut(expected)}; received {cut(received)}"
        )
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
