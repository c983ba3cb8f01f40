"""How a command ends when a signal comes: cleaned up, with one line and the signal's exit code."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Ending(NamedTuple):
    """The exit code after a signal, as shells have it, and the word that says what has happened."""

    code: int
    word: str


ENDINGS = {
    signal.SIGINT: Ending(130, "interrupted"),
    signal.SIGTERM: Ending(143, "terminated"),
    signal.SIGHUP: Ending(129, "hung up"),
}


@contextmanager
def interruptible() -> Iterator[list[signal.Signals]]:
    """Raise KeyboardInterrupt at the first of the signals in `ENDINGS`; yield a list of those met.

    KeyboardInterrupt, because Ray's C++ lets no other exception of a signal handler through. Later
    signals do not cut the cleaning up short, except for Ctrl-C. What is ignored, as SIGHUP after
    `nohup`, stays ignored. Outside the main thread, to which signals come, nothing is changed.
    """
    received: list[signal.Signals] = []

    def interrupt(number, _):
        first = not received
        received.append(signal.Signals(number))
        if first or number == signal.SIGINT:
            raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in ENDINGS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, interrupt)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ending_of(received: list[signal.Signals]) -> Ending:
    """Return how a command ends that `interruptible` has interrupted."""
    return ENDINGS[received[0] if received else signal.SIGINT]
