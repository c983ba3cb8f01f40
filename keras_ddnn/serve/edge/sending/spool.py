"""Requests on disk, the oldest first, within a bound of bytes: what a device has yet to send."""

import hashlib
import os
import re
import secrets
from collections.abc import Callable, Collection
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from keras_ddnn.files.atomic import remove_leftovers, replacing_file
from keras_ddnn.files.checks import require_count

try:
    import fcntl
except ImportError:  # Windows: nothing holds a second process off
    fcntl = None

BLOCK = 4096  # bytes in which file systems count
NAME = re.compile(r"(\d{12})-([0-9a-f]{16})-([0-9a-f]+)-(\d+)")
HASH = hashlib.sha256().digest_size
# Why samples are dropped.
FULL, DAMAGED, DISK = "full", "damaged", "disk"


class Entry(NamedTuple):
    """A request that waits; its fields are the name of its file.

    Attributes:
        number: Its place in the order.
        session: Of the `Spool` that has added it, 16 random hex digits.
        model: Id of the artefact that the request is for.
        samples: How many it holds.
    """

    number: int
    session: str
    model: str
    samples: int

    @property
    def name(self) -> str:
        """Name of the file."""
        return f"{self.number:012d}-{self.session}-{self.model}-{self.samples}"

    @property
    def id(self) -> str:
        """What no other request of any device has; see `KEEP_ID` of the protocol."""
        return f"{self.session}-{self.number}"


class Spool:
    """A folder of requests that wait, for the threads of one process.

    An entry is a file that is there whole or not at all, so it survives the end of the process,
    however that comes. What is added when the bound is reached takes the place of the oldest
    entries: the latest samples tell most of what a device meets now.

    Args:
        folder: Made where it is missing. It belongs to one process at a time.
        max_bytes: Of all entries, in whole blocks of 4096 bytes.
        dropped: Told the reason, "full", "damaged" or what `remove` was told, and the number of
            samples of each entry that is lost.

    Raises:
        ValueError: If another process uses the folder.
        OSError: If it cannot be written.
    """

    def __init__(
        self,
        folder: str | Path,
        max_bytes: int,
        dropped: Callable[[str, int], None] = lambda *_: None,
    ):
        require_count(max_bytes=max_bytes)
        self.folder, self.max_bytes = Path(folder), max_bytes
        self.folder.mkdir(parents=True, exist_ok=True)
        self._owned = open(self.folder / ".lock", "a")  # noqa: SIM115
        try:
            if fcntl:
                fcntl.flock(self._owned, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._owned.close()
            raise ValueError(
                f"{folder}: expected a spool that no other process uses; received one in use: "
                "give each device process a folder of its own"
            ) from None
        remove_leftovers(self.folder)
        self._dropped = dropped
        self._changing = Lock()
        self._held: Entry | None = None
        found = (NAME.fullmatch(name) for name in sorted(os.listdir(self.folder)))
        entries = [
            Entry(int(n), session, m, int(s))
            for n, session, m, s in (f.groups() for f in found if f)
        ]
        self._sizes = {e: _on_disk((self.folder / e.name).stat().st_size) for e in entries}
        self._number = max((entry.number for entry in entries), default=0)
        # A session of its own for each start: two devices may begin with copies of one folder, and
        # ids that the cloud has seen already would be lost without a word.
        self._session = secrets.token_hex(8)
        self._make_room(0)

    @property
    def size(self) -> int:
        """Bytes of all entries, in whole blocks."""
        return sum(self._sizes.copy().values())

    @property
    def samples(self) -> int:
        """Samples of all entries."""
        return sum(entry.samples for entry in self._sizes.copy())

    def add(self, model: str, samples: int, content: Callable[[str], bytes]) -> None:
        """Write an entry, and return once it is on disk.

        Args:
            model: Id of the artefact that the request is for.
            samples: How many it holds.
            content: `Entry.id` → the request.

        Raises:
            OSError: If it cannot be written, or is larger than the bound lets it be.
        """
        # Numbers reach the disk in their order, for the cloud takes a lower one for a repetition.
        with self._changing:
            entry = Entry(self._number + 1, self._session, model, samples)
            written = content(entry.id)
            size = _on_disk(HASH + len(written))
            if not self._make_room(size):
                raise OSError(f"an entry of {size} bytes does not fit into {self.max_bytes}")
            with replacing_file(self.folder / entry.name) as file:
                file.write(hashlib.sha256(written).digest())
                file.write(written)
            self._number, self._sizes[entry] = entry.number, size

    def hold(self, without: Collection[str] = ()) -> tuple[Entry, bytes] | None:
        """Return the oldest entry and its request; it is not dropped until `release` or `remove`.

        Args:
            without: Models whose entries are passed over.

        Returns:
            None if no entry is left. What is damaged on disk is dropped.
        """
        with self._changing:
            for entry in [*self._sizes]:
                if entry.model in without:
                    continue
                written = self._read(entry)
                if written is not None:
                    self._held = entry
                    return entry, written
                self._drop(entry, DAMAGED)
        return None

    def release(self) -> None:
        """Let the entry that is held wait on."""
        self._held = None

    def remove(self, entry: Entry, reason: str | None = None) -> None:
        """Delete an entry: it has been sent, or is dropped for a reason."""
        with self._changing:
            self._held = None
            self._drop(entry, reason)

    def close(self) -> None:
        """Let another process use the folder."""
        self._owned.close()

    def _make_room(self, size: int) -> bool:
        while sum(self._sizes.values()) + size > self.max_bytes:
            oldest = next((entry for entry in self._sizes if entry != self._held), None)
            if oldest is None:
                return False
            self._drop(oldest, FULL)
        return True

    def _drop(self, entry: Entry, reason: str | None) -> None:
        (self.folder / entry.name).unlink(missing_ok=True)
        del self._sizes[entry]
        if reason is not None:
            self._dropped(reason, entry.samples)

    def _read(self, entry: Entry) -> bytes | None:
        try:
            content = (self.folder / entry.name).read_bytes()
        except OSError:
            return None
        digest, written = content[:HASH], content[HASH:]
        return written if hashlib.sha256(written).digest() == digest else None


def _on_disk(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
