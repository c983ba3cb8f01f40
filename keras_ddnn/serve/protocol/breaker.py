"""When to leave a cloud alone, and when to try it again."""

import random
import time
from collections.abc import Callable
from threading import Lock
from typing import Literal, TypeVar

from keras_ddnn.files.checks import require_count, require_positive
from keras_ddnn.serve.protocol.causes import Cause, Unanswered

Answer = TypeVar("Answer")
State = Literal["closed", "open", "half-open"]

LONGEST_REST = 30.0  # seconds, whatever a cloud asks for
JITTER = 0.25  # of the rest that a cloud asks for, at most, so that devices do not return together


class Breaker:
    """Fails requests at once while a cloud is likely not to answer; threads may share it.

    It opens after `failures` requests in a row without a usable answer, for `rest` seconds. It
    opens after a single one if the cloud is busy, for as long as the cloud asks, at most
    `LONGEST_REST`; if the cloud does not say, for `rest` seconds and each time twice as long, less
    up to half of it by chance. Then one request is let through: the breaker closes if it is
    answered, and stays open if not.

    Args:
        failures: In a row, at least 1.
        rest: Seconds, above 0.
        clock: Seconds that never run back.
        draw: Returns a random number in [0, 1).

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        failures: int,
        rest: float,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ):
        require_count(failures=failures)
        require_positive(rest=rest)
        self._failures, self._rest = failures, rest
        self._clock, self._draw = clock, draw
        self._lock = Lock()
        self._state: State = "closed"
        self._failed = self._busy = 0  # in a row
        self._until = 0.0
        self._latest: tuple[str, Cause] = "", "circuit-open"  # why it is open
        # Counts the changes of state: the end of a request that began before the latest one says
        # nothing of the cloud as it is now.
        self._epoch = 0

    @property
    def state(self) -> State:
        """Return "closed" while all is well, "half-open" while one request tries the cloud."""
        return self._state

    def call(self, request: Callable[[], Answer]) -> Answer:
        """Return the answer to a request.

        Raises:
            Unanswered: As `request` does, or at once while the breaker is open: with the cause
                "busy" if the cloud has asked for a rest, and "circuit-open" otherwise.
        """
        epoch = self._admit()
        try:
            answer = request()
        except Unanswered as error:
            self._note(epoch, error)
            raise
        except BaseException:
            self._note(epoch, None)
            raise
        with self._lock:
            if epoch == self._epoch:
                self._close()
        return answer

    def _admit(self) -> int:
        with self._lock:
            if self._state != "closed":
                if self._state == "half-open" or self._clock() < self._until:
                    raise self._refusal()
                self._turn("half-open")
            return self._epoch

    def _refusal(self) -> Unanswered:
        reason, cause = self._latest
        if cause == "busy":
            return Unanswered(f"the cloud has asked for a rest: {reason}", "busy")
        return Unanswered(f"the circuit breaker is open after: {reason}", "circuit-open")

    def _note(self, epoch: int, error: Unanswered | None) -> None:
        """Learn from a request that was not answered; `error` is None if it was broken off."""
        with self._lock:
            if epoch != self._epoch:
                return
            if error is None or error.cause == "no-time":  # the cloud has had no say
                if self._state == "half-open":
                    self._turn("open")  # the next request tries it instead
                return
            if error.cause == "refused-422":  # the fault of this request alone
                self._close()
                return
            self._latest = str(error), error.cause
            self._failed += 1
            if error.cause == "busy":
                self._open(self._rest_of(error))
            elif self._state == "half-open" or self._failed >= self._failures:
                self._open(self._rest)

    def _rest_of(self, error: Unanswered) -> float:
        self._busy += 1
        if error.rest:
            return min(error.rest, LONGEST_REST) * (1 + JITTER * self._draw())
        grown = self._rest * 2.0 ** min(self._busy - 1, 60)
        return min(grown, LONGEST_REST) * (1 - 0.5 * self._draw())

    def _open(self, seconds: float) -> None:
        self._until = self._clock() + seconds
        self._turn("open")

    def _close(self) -> None:
        self._failed = self._busy = 0
        if self._state != "closed":
            self._turn("closed")

    def _turn(self, state: State) -> None:
        self._state = state
        self._epoch += 1
