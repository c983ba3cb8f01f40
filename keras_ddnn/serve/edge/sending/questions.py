"""A device's questions to its cloud: what is told with each, and why one is not answered."""

import logging
import time
from collections.abc import Iterator
from threading import Lock

import numpy as np

from keras_ddnn.serve.edge.sending.budget import SendingBudget
from keras_ddnn.serve.edge.sending.requests import RequestWriter
from keras_ddnn.serve.protocol.answers import Answers
from keras_ddnn.serve.protocol.causes import NOT_ASKED, Unanswered
from keras_ddnn.serve.protocol.link import CloudLink

log = logging.getLogger(__name__)


class Questions:
    """Asks a cloud about samples; threads may share it.

    Args:
        requests: Writes them.
        link: To the cloud; None if there is none, and nothing is answered.
        budget: How much may be sent in a minute; None for no limit.

    Attributes:
        refusal: See `EdgeRuntime`.
    """

    def __init__(
        self,
        requests: RequestWriter,
        link: CloudLink | None,
        budget: SendingBudget | None = None,
    ):
        self.requests = requests
        self._budget = budget or SendingBudget()
        self.refusal: Unanswered | None = None
        self._link = link
        self._counting = Lock()  # held while one of these, or `refusal`, is read and changed
        self._untold = 0  # samples answered here of which the cloud has not been told
        self._has_answered = False
        # An older service refuses what it does not know. Newer ones are told by their answers, so
        # that no question is needed for it, and none fails: the first one says no timeout.
        self._tell_timeout = False
        self._known_causes: set[str] = set()
        self._closed = False

    @property
    def breaker(self) -> str:
        """State of the circuit breaker; "closed" if there is no cloud."""
        return self._link.state if self._link else "closed"

    def answered_here(self, count: int) -> None:
        """Note samples that the device has answered, for the cloud to be told of."""
        with self._counting:
            self._untold += count

    def in_parts(
        self, features: np.ndarray, images: np.ndarray, deadline: float
    ) -> Iterator[tuple[slice, Answers | Unanswered]]:
        """Ask about n samples, in as many requests as they need; yield what came of each part.

        Args: see `about`; n may be 0.
        """
        for part in self.requests.parts(len(features)):
            end = part.start + self.allowed(len(features[part]))
            if part.start < end:
                asked = slice(part.start, end)
                try:
                    yield asked, self.about(features[asked], images[asked], deadline)
                except Unanswered as error:
                    yield asked, error
            over = slice(end, min(part.stop, len(features)))
            if over.start < over.stop:
                yield over, Unanswered("as much was sent as may be in a minute", "over-budget")

    def allowed(self, count: int) -> int:
        """Return how many of `count` samples may be asked about now, in one request.

        They are counted as sent, and `about` is to be called with them.
        """
        return self._budget.take(count, self.requests.header_bytes, self.requests.sample_bytes)

    def about(self, features: np.ndarray, images: np.ndarray, deadline: float) -> Answers:
        """Return what the cloud says of samples, as many as are `allowed`.

        Args: see `RequestWriter.write`; the deadline is by `time.monotonic`.

        Raises:
            Unanswered: For whatever reason there are none; each cause is logged once.
        """
        with self._counting:
            told, self._untold = self._untold, 0
        try:
            left = deadline - time.monotonic() if self._tell_timeout else None
            headers, body = self.requests.write(features, images, told, left)
            return self.ask(headers, body, len(features), deadline)
        except BaseException as error:
            with self._counting:
                self._untold += told
            if isinstance(error, Unanswered):
                self._log_once(error)
                if error.cause in NOT_ASKED:
                    n, requests = len(features), self.requests
                    size = requests.header_bytes + n * requests.sample_bytes
                    self._budget.give_back(n, size)
            raise

    def ask(self, headers, body: bytes, count: int, deadline: float) -> Answers:
        """Return the answer to a request of `count` samples that is written already.

        Raises:
            Unanswered: For whatever reason there is none.
        """
        if not self._link:
            raise Unanswered("there is no cloud", "no-cloud")
        try:
            answers = self._link.ask(headers, body, deadline, self.requests.reader(count))
        except Unanswered as error:
            with self._counting:
                # Perhaps an older service has taken the place of the one that was told.
                self._tell_timeout &= error.cause != "refused-400"
                if error.lasting and not self._has_answered:
                    self.refusal = error
            raise
        with self._counting:
            self._has_answered, self.refusal = True, None
            self._tell_timeout = answers.takes_timeout
        return answers

    @property
    def waiting(self) -> int:
        """Samples that are to be sent later; none here, for every question is asked at once."""
        return 0

    def deliver(self) -> bool:
        """Send what waits; return whether nothing is left."""
        return True

    def close(self, causes: dict[str, int]) -> None:
        """Close the connections, and log once how many samples fell back by cause."""
        if self._link:
            self._link.close()
        with self._counting:
            first, self._closed = not self._closed, True
        if first and self._link and causes:
            counts = ", ".join(f"{cause} {count:,}" for cause, count in causes.items())
            log.warning(
                "samples answered here because the cloud did not answer, by cause: %s", counts
            )

    def _log_once(self, error: Unanswered) -> None:
        with self._counting:
            known = error.cause in self._known_causes
            self._known_causes.add(error.cause)
        if not known and self._link:
            log.warning("the cloud does not answer (%s): %s; this device does", error.cause, error)
