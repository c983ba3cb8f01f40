"""What a busy machine takes from a test of deadlines."""

import time
from threading import Event, Thread

BEAT = 0.001  # seconds
NOTABLE = 0.002


class Stalls:
    """Watches for the moments when this process was not allowed to run.

    A thread sleeps for a millisecond at a time; where it wakes up late, no thread of ours could
    have been in time.
    """

    def __enter__(self):
        self._found, self._over = [], Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _watch(self):
        while not self._over.is_set():
            begin = time.monotonic()
            time.sleep(BEAT)
            end = time.monotonic()
            if end - begin > BEAT + NOTABLE:
                self._found.append((begin + BEAT, end))

    def within(self, begin, end) -> float:
        """Return the seconds of stalls between two times of `time.monotonic`."""
        time.sleep(3 * BEAT)  # the latest one may not have been noted yet
        return sum(max(0.0, min(end, b) - max(begin, a)) for a, b in self._found[-50:])
