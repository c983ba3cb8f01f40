"""One-line notices of what was chosen for the user: how data were read, what was passed over."""

import logging
import sys

log = logging.getLogger("keras_ddnn.data")


class _StandardError(logging.Handler):
    """Prints notices where the program has set up no logging of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            # Looked up only now, so that a redirected stream gets its lines.
            print(f"note: {record.getMessage()}", file=sys.stderr)


log.addHandler(_StandardError())
if log.level == logging.NOTSET:
    log.setLevel(logging.INFO)


def notice(text: str) -> None:
    """Tell the user, in one line, of a choice that nobody made explicitly.

    It is a record of level INFO of the logger "keras_ddnn.data". A program that sets up logging
    gets it there; any other prints "note: TEXT" to standard error.
    """
    log.info("%s", " ".join(text.splitlines()))
