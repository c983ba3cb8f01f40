"""Files and folders that appear whole or not at all, whenever the process is killed."""

import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl

    LOCKS = True
except ImportError:  # Windows: what is left behind is removed by its age
    LOCKS = False

# .name.kernel.random; earlier versions wrote no kernel
LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}(\.older)?")


def _kernel() -> str:
    """Return eight digits that tell a running kernel from every other.

    A file lock is known to one kernel: containers share it, the hosts of a network folder do not.
    """
    try:
        name = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        name = socket.gethostname()
    return hashlib.sha256(name.encode()).hexdigest()[:8]


KERNEL = _kernel()


@contextmanager
def replacing_file(path):
    """Yield a binary file that takes the place of `path` once it is complete and on disk.

    Raises:
        OSError: If the folder cannot be written; an older file at `path` is then untouched.
    """
    path = Path(path)
    with _owned(path, _new_file) as (name, descriptor):
        with open(os.dup(descriptor), "wb") as file:
            yield file
            file.flush()
            os.chmod(name, 0o644)  # a temporary file starts out private
            os.fsync(file.fileno())
        os.replace(name, path)


@contextmanager
def replacing_folder(path):
    """Yield a new folder that takes the place of `path` once its files are complete and on disk.

    Raises:
        OSError: If the parent folder cannot be written; an older `path` is then untouched.
    """
    path = Path(path)
    with _owned(path, _new_folder) as (name, _):
        folder = Path(name)
        older = folder.with_name(f"{folder.name}.older")
        yield folder
        for file in folder.rglob("*"):
            if file.is_file():
                with open(file, "rb") as written:
                    os.fsync(written.fileno())
        folder.chmod(0o755)
        try:
            if path.is_dir() and not path.is_symlink():
                os.replace(path, older)
            os.replace(folder, path)
        except BaseException:
            if older.exists() and not path.exists():
                os.replace(older, path)
            raise
        shutil.rmtree(older, ignore_errors=True)


@contextmanager
def _owned(path: Path, new):
    """Yield (name, descriptor) of what `new` makes beside a path, and remove it after a failure.

    The descriptor is locked. The kernel releases the lock when the process ends, however it ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        name, descriptor = new(dir=path.parent, prefix=f".{path.name}.{KERNEL}.")
        _lock(descriptor)
        if os.path.exists(name):
            break
        os.close(descriptor)  # somebody has cleaned up between the two lines above
    try:
        yield name, descriptor
    except BaseException:
        _remove(Path(name))
        raise
    finally:
        os.close(descriptor)


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


def _new_file(**place) -> tuple[str, int]:
    descriptor, name = tempfile.mkstemp(**place)
    return name, descriptor


def _new_folder(**place) -> tuple[str, int]:
    while True:
        name = tempfile.mkdtemp(**place)
        with suppress(FileNotFoundError):  # somebody has cleaned up just now
            return name, os.open(name, os.O_RDONLY)


def _lock(descriptor: int) -> bool:
    """Lock a file or folder until its descriptor is closed; return whether nobody else holds it.

    Where the file system knows no locks, nothing is known of it: False.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, AttributeError):
        return False
    return True


def remove_leftovers(folder, seconds: float = 0.0) -> int:
    """Delete what killed writers have left in a folder.

    What this machine has left is deleted as soon as no living process owns it, whatever the clock
    says. Of other machines and earlier versions only the age is known.

    Args:
        folder: Where the functions above have written; it need not exist.
        seconds: How far from now a leftover of another machine was last changed, at least, before
            or after: clocks are set. In a folder that others write to as well, what is young may
            still become something.

    Returns:
        How many leftovers of this machine a living process owns.
    """
    owned = 0
    for path in Path(folder).glob(".*"):
        if not LEFTOVER.fullmatch(path.name):
            continue
        with suppress(OSError):  # its owner removes it just now, or nobody may
            if f".{KERNEL}." in path.name and LOCKS:
                owned += not _remove_unowned(path)
            elif abs(_now(path.parent) - _last_change(path)) >= seconds:
                _remove(path)
    return owned


def _remove_unowned(path: Path) -> bool:
    """Remove what no living process owns; return whether it is gone."""
    # What is being replaced belongs to the owner of what replaces it.
    owner = path.with_suffix("") if path.suffix == ".older" else path
    if not owner.exists():
        _remove(path)
        return True
    descriptor = os.open(owner, os.O_RDONLY if owner.is_dir() else os.O_RDWR)
    try:
        if not _lock(descriptor):
            return False
        _remove(path)
    finally:
        os.close(descriptor)
    return True


def _now(folder: Path) -> float:
    """Return the time by the clock that also stamps the files of a folder."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime


def _last_change(path: Path) -> float:
    """Return when a file, or anything in a folder, was last changed."""
    return max(file.lstat().st_mtime for file in (path, *path.rglob("*")))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_json(path, content) -> None:
    """Write plain JSON, indented and with sorted keys, whole or not at all."""
    with replacing_file(path) as file:
        file.write(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False).encode())
