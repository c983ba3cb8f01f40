"""Files and folders that appear whole or not at all, whenever the process is killed."""

import json
import os
import re
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

# .name.random, as `tempfile` draws it
LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}(\.older)?")


@contextmanager
def replacing_file(path):
    """Yield a binary file that takes the place of `path` once it is complete and on disk.

    Raises:
        OSError: If the folder cannot be written; an older file at `path` is then untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        try:
            yield file
            file.flush()
            os.chmod(file.name, 0o644)  # a temporary file starts out private
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


@contextmanager
def replacing_folder(path):
    """Yield a new folder that takes the place of `path` once its files are complete and on disk.

    Raises:
        OSError: If the parent folder cannot be written; an older `path` is then untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    older = folder.with_name(f"{folder.name}.older")
    try:
        yield folder
        for file in folder.rglob("*"):
            if file.is_file():
                with open(file, "rb") as written:
                    os.fsync(written.fileno())
        folder.chmod(0o755)
        if path.is_dir() and not path.is_symlink():
            os.replace(path, older)
        os.replace(folder, path)
        shutil.rmtree(older, ignore_errors=True)
    except BaseException:
        if older.exists() and not path.exists():
            os.replace(older, path)
        shutil.rmtree(folder, ignore_errors=True)
        raise


def require_writable(path) -> None:
    """Raise ValueError, before what is to fill it is made, unless a folder can be written there."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.").cleanup()
    except OSError as error:
        raise ValueError(f"cannot write the folder {path}: {error}") from error
    if path.exists() and not path.is_dir():
        raise ValueError(f"cannot write the folder {path}: a file of this name is in its place")


def remove_leftovers(folder, seconds: float = 0.0) -> None:
    """Delete what killed writers have left in a folder.

    Args:
        folder: Where the functions above have written; it need not exist.
        seconds: How long ago a leftover was last changed, at least: in a folder that others write
            to as well, what is young may still become something.
    """
    latest = time.time() - seconds
    for path in Path(folder).glob(".*"):
        if LEFTOVER.fullmatch(path.name) and path.lstat().st_mtime <= latest:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def write_json(path, content) -> None:
    """Write plain JSON, indented and with sorted keys, whole or not at all."""
    with replacing_file(path) as file:
        file.write(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False).encode())
