"""How a command ends when something fails: one line that says why, and an exit code."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable

from keras_ddnn.files.extras import remedy
from keras_ddnn.files.signals import ending_of, interruptible

SHOWN = 5  # different reasons; a search has thousands of trials at most, and one cause as a rule


def reason_of(error: BaseException) -> str:
    """Return in one line what went wrong, in a Ray worker or here, without its stack."""
    cause = _cause(error)
    return f"{type(cause).__name__}: {_first_line(cause)}"


def grouped(reasons: Iterable[str]) -> str:
    """Return each different reason once, the most frequent first, with how often it was met."""
    counts = Counter(reasons).most_common()
    lines = [f"{reason} ({count}×)" if count > 1 else reason for reason, count in counts]
    more = [f"and {len(lines) - SHOWN} other reasons"] if len(lines) > SHOWN else []
    return "; ".join(lines[:SHOWN] + more)


def run_command(run: Callable[[], object], go_on: str, traceback: bool = False) -> int:
    """Run what a command does; return its exit code, after one line on standard error if it fails.

    Args:
        run: What it does. SIGTERM and SIGHUP interrupt it as Ctrl-C does, so that it can clean up.
        go_on: How to go on after an interruption, or once there is room again.
        traceback: Let errors through, for those who want to see where they come from.

    Returns:
        2 for bad input (ValueError), 1 for any other failure, 130 after Ctrl-C, 143 after SIGTERM,
        129 after SIGHUP.
    """
    with interruptible() as received:
        try:
            run()
        except KeyboardInterrupt:
            code, word = ending_of(received)
            return _end(code, f"{word}: {go_on}")
        except Exception as error:
            if traceback:
                raise
            error = _cause(error)
            if isinstance(error, ModuleNotFoundError) and (line := remedy(error)):
                return _end(2, f"error: {line}")
            if isinstance(error, ValueError | RuntimeError):
                line = _first_line(error)
            else:
                line = reason_of(error)
            if isinstance(error, MemoryError | OSError):
                line += f"; what is finished is kept: {go_on}"
            return _end(2 if isinstance(error, ValueError) else 1, f"error: {line}")
    return 0


def _cause(error: BaseException) -> BaseException:
    """Return the error that a worker met, of one that Ray has raised in its place."""
    return getattr(error, "cause", None) or error


def _first_line(error: BaseException) -> str:
    """Return the first line of a message, or the kind of error that has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _end(code: int, message: str) -> int:
    print(message, file=sys.stderr)
    return code
