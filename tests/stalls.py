"""What a busy machine takes from a test of deadlines."""

from contextlib import suppress
from pathlib import Path

TASKS = Path("/proc/self/task")


class WaitForCores:
    """Adds up for how long threads of this process could run but were not let.

    What passes of it during a call is not the fault of what was called. Zero where the system does
    not tell.
    """

    def __init__(self):
        self._before = _waits()

    def seconds(self) -> float:
        """Return the seconds of all threads, together, since this was made."""
        return sum(wait - self._before.get(task, 0) for task, wait in _waits().items()) / 1e9


def _waits() -> dict[str, int]:
    waits = {}
    for task in TASKS.glob("*/schedstat"):
        with suppress(OSError):  # a thread that has just ended
            waits[task.parent.name] = int(task.read_text().split()[1])
    return waits
