"""The folder of what is made once and can be made again: decoded images, fingerprints."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl

    LOCKS = True
except ImportError:  # Windows: two processes may make the same at once
    LOCKS = False

VARIABLE = "KERAS_DDNN_CACHE"


def cache_folder() -> Path:
    """Return the cache folder: `$KERAS_DDNN_CACHE`, or `keras_ddnn` in that of the user.

    Raises:
        OSError: The user has no home folder.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser().absolute()
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return Path(caches).absolute() / "keras_ddnn"
    try:
        return Path.home() / ".cache" / "keras_ddnn"
    except RuntimeError as error:
        raise OSError(f"no home folder is known: {error}") from error


@contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """Wait until no other process of this machine holds the lock file `path`, and hold it.

    Where the file system knows no locks, nobody is waited for.

    Raises:
        OSError: The lock file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if LOCKS:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
