"""What a service says on stderr, where a failure that repeats is one line with a count."""

import logging
import time

REPEAT_SECONDS = 60.0
MAX_KINDS = 1000  # of messages remembered


class RepeatFilter(logging.Filter):
    """Lets a message through once in `seconds`, with the number of its like since the last.

    Records with `EACH_TIME` always pass: whoever asks twice is answered twice.
    """

    def __init__(self, seconds: float = REPEAT_SECONDS):
        super().__init__()
        self.seconds = seconds
        self._seen: dict[tuple, list] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to show a record, to which the number may be added."""
        if getattr(record, "each_time", False):  # see `EACH_TIME`
            return True
        now = time.monotonic()
        key = record.name, record.levelno, str(record.msg)[:80]
        seen = self._seen.get(key)
        if seen and now - seen[0] < self.seconds:
            seen[1] += 1
            return False
        if seen and seen[1]:
            record.msg, record.args = f"{record.getMessage()} (and {seen[1]} times before)", None
        if len(self._seen) >= MAX_KINDS:
            self._seen.clear()
        self._seen[key] = [now, 0]
        return True


def log_to_stderr() -> None:
    """Show what this package and its server say, and warnings of all others."""
    handler = logging.StreamHandler()
    handler.addFilter(RepeatFilter())
    logging.basicConfig(format="%(levelname)s: %(message)s", handlers=[handler], force=True)
    for name in ("keras_ddnn", "uvicorn"):
        logging.getLogger(name).setLevel(logging.INFO)
