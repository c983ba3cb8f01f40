"""A request that is refused, and when its client is to ask again."""

import random
from collections.abc import Mapping

RETRY_SECONDS = (1, 3)


class Refused(Exception):
    """A request that is not let in.

    Attributes:
        status: HTTP status.
        reason: One line.
        headers: Further ones of the answer.
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None):
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, dict(headers or {})


def come_again(delay: float = 0.0) -> dict[str, str]:
    """Return the header that says when to ask again, which differs from client to client.

    Clients that were refused together would otherwise come back together.

    Args:
        delay: Seconds that refusals have to wait for their turn, which tells how many there are.
    """
    return {"Retry-After": str(random.randint(*RETRY_SECONDS) + int(delay))}
