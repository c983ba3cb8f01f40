"""How often something may happen, and who comes first where more want to."""

import asyncio
from contextlib import suppress

BURST_SECONDS = 2.0  # of turns that may be taken at once
LONGEST_SECONDS = 5.0  # that anybody waits for a turn


class Turns:
    """Lets a number a second pass: the newest first, where more come.

    In the order of their coming all would wait as long, and whoever gives up after a time would
    hear nothing at all: those that obey a refusal must be told of it to do so. The newest first,
    some are told at once, whatever the number of the others.

    Args:
        per_second: Above 0.
    """

    def __init__(self, per_second: float):
        self._interval = 1.0 / per_second
        self._next = float("-inf")  # when there will be a turn, by the loop's clock
        self._waiting: list[asyncio.Future] = []
        self._timer: asyncio.TimerHandle | None = None

    async def take(self) -> None:
        """Wait for a turn, or for `LONGEST_SECONDS`."""
        loop = asyncio.get_running_loop()
        self._next = max(self._next, loop.time() - BURST_SECONDS)
        if not self._waiting and self._next <= loop.time():
            self._next += self._interval
            return
        waiter = loop.create_future()
        self._waiting.append(waiter)
        if self._timer is None:
            self._timer = loop.call_at(self._next, self._pass_on)
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_SECONDS):
                await waiter

    def _pass_on(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting and self._next <= loop.time():
            waiter = self._waiting.pop()
            if not waiter.done():
                waiter.set_result(None)
                self._next += self._interval
        self._timer = loop.call_at(self._next, self._pass_on) if self._waiting else None
