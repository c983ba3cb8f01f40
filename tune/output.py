"""The output folder of a search: whose it is, who writes to it, and what others left in it."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from keras_ddnn.files.atomic import remove_leftovers, write_json
from keras_ddnn.files.checksums import sha256_of_json
from keras_ddnn.files.notices import notice
from keras_ddnn.files.records import as_json, differences
from tune import cluster
from tune.backbones import STATE
from tune.space import SearchConfig
from tune.workspace import TRIALS

CONFIG = "search.json"
A_DAY = 24 * 3600.0  # backbones may just be written by a search on another machine
STATE_DAYS = 30  # after which nobody goes on with an unfinished training
DYING_SECONDS = 5.0  # of workers, after Ray has ended


def check_output(search: SearchConfig, output: Path, resume: bool, overwrite: bool) -> None:
    """Raise ValueError if a search must not write to a folder."""
    holds_search = (output / CONFIG).is_file()
    if output.exists() and (not output.is_dir() or any(output.glob("[!.]*"))):
        if not holds_search:
            raise ValueError(f"{output} exists and holds no search: choose another --output")
        if not (resume or overwrite):
            raise ValueError(f"{output} holds a search: pass --resume or --overwrite")
        asked = differences(SearchConfig, as_json(search))
        if resume and not overwrite and _read_config(output) not in (asked, None):
            raise ValueError(
                f"{output} holds another search than the one asked for; to resume it repeat "
                f"its options (see {output / CONFIG}), or pass --overwrite"
            )


def _read_config(output):
    """Return what of a search differed from the defaults, or None if the file is damaged.

    The records of the trials, which are found by their content, tell as well what fits.
    """
    try:
        config = json.loads((output / CONFIG).read_text())
        expected = config.pop("sha256")
        damaged = sha256_of_json(config) != expected
        if not isinstance(network := config.get("network"), list):  # of an older version
            config["network"] = [network]
    except (ValueError, TypeError, AttributeError, KeyError):
        return None
    return None if damaged else differences(SearchConfig, config)


@contextmanager
def alone_in(output: Path, what: str = "search") -> Iterator[None]:
    """Keep every other search out of an output folder, or every other writer of such a name."""
    lock = FileLock(output.with_name(f".{output.name}.lock"))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"another {what} is running in {output}: wait for it, or choose another --output"
        ) from error
    except OSError as error:
        raise ValueError(f"cannot write to the output folder {output}: {error}") from error
    try:
        yield
    finally:
        lock.release()


def prepare_output(search: SearchConfig, output: Path, overwrite: bool) -> None:
    """Write what is searched; raise ValueError if the folder cannot be written."""
    try:
        if overwrite and output.exists():
            shutil.rmtree(output)
        config = as_json(search)
        write_json(output / CONFIG, config | {"sha256": sha256_of_json(config)})
    except OSError as error:
        raise ValueError(f"cannot write to the output folder {output}: {error}") from error


@contextmanager
def tidied(output: Path | None, backbones: Path):
    """Remove what killed searches have left, and leave nothing behind when this one is interrupted.

    Args:
        output: Folder of the search, in which it is alone; None if there is none.
        backbones: Folder of trained backbones, which other searches may write to.
    """
    folders = {backbones: A_DAY}
    if output:
        folders |= {output: 0.0, output / TRIALS: 0.0}

    def remove() -> int:
        return sum([remove_leftovers(folder, seconds) for folder, seconds in folders.items()])

    remove()
    _remove_states(backbones)
    try:
        yield
    except BaseException:
        cluster.stop()
        deadline = time.monotonic() + DYING_SECONDS
        while remove() and time.monotonic() < deadline:
            time.sleep(0.1)
        raise


def _remove_states(backbones: Path) -> None:
    """Remove states of trainings, and those set aside, that are finished or long left alone.

    Which search will go on with a training nobody knows: a backbone is found by its content, so
    that another search, or one that starts anew, goes on with it as well.
    """
    for path in backbones.glob(f"*{STATE}*"):
        with suppress(OSError):  # removed by another search just now, or nobody may
            finished = path.with_name(path.name.partition(STATE)[0]).is_dir()
            old = time.time() - path.stat().st_mtime > STATE_DAYS * A_DAY
            if not (finished or old):
                continue
            path.unlink()
            if not finished:
                notice(f"{path} was not gone on with for {STATE_DAYS} days: removed")
