"""How much a device may send in a minute, in samples and in bytes."""

import time
from collections.abc import Callable
from threading import Lock

from keras_ddnn.files.checks import require_count


class TokenBucket:
    """A bucket of tokens that fills evenly, up to those of a minute; it begins full.

    So in any t seconds at most `per_minute` · (1 + t / 60) tokens are taken.

    Args:
        per_minute: Tokens, above 0.
        clock: Seconds that never run back.

    Attributes:
        most: The most that there are at once, those of a minute.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic):
        self.most, self._clock = float(per_minute), clock
        self._tokens, self._since = self.most, clock()

    @property
    def tokens(self) -> float:
        """How many there are now."""
        now = self._clock()
        self._tokens += (now - self._since) * self.most / 60.0
        self._tokens, self._since = min(self._tokens, self.most), now
        return self._tokens

    def take(self, tokens: float) -> None:
        """Take tokens, or give some back, where they are negative."""
        self._tokens = min(self.tokens - tokens, self.most)


class SendingBudget:
    """What may be sent in a minute; threads may share it.

    Args:
        samples_per_minute: None for as many as there are.
        bytes_per_minute: Of request bodies; None likewise.
        clock: See `TokenBucket`.

    Attributes:
        samples_per_minute, bytes_per_minute: As given.

    Raises:
        ValueError: If a number is no count.
    """

    def __init__(
        self,
        samples_per_minute: int | None = None,
        bytes_per_minute: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        given = {"samples_per_minute": samples_per_minute, "bytes_per_minute": bytes_per_minute}
        self.samples_per_minute, self.bytes_per_minute = samples_per_minute, bytes_per_minute
        require_count(**{name: most for name, most in given.items() if most is not None})
        self._buckets = [most and TokenBucket(most, clock) for most in given.values()]
        self._lock = Lock()

    def most(self, samples: int, header_bytes: int, sample_bytes: int) -> int:
        """Return how many of some samples one request may ever hold; see `take`.

        Raises:
            ValueError: If no sample could ever be sent.
        """
        size, least = self.bytes_per_minute, header_bytes + sample_bytes
        if size is not None and size < least:
            raise ValueError(
                f"expected a budget of at least {least} bytes a minute, for a request of one "
                f"sample of this artefact; received {size}"
            )
        by_bytes = samples if size is None else (size - header_bytes) // sample_bytes
        return min(samples, self.samples_per_minute or samples, by_bytes)

    def take(self, samples: int, header_bytes: int, sample_bytes: int) -> int:
        """Return how many of some samples may be sent now in one request, and count them as sent.

        Args:
            samples: In the request, at most.
            header_bytes, sample_bytes: Of the body, whatever it holds, and of each sample.
        """
        by_samples, by_bytes = self._buckets
        with self._lock:
            if by_samples:
                samples = min(samples, int(by_samples.tokens))
            if by_bytes:
                samples = min(samples, int((by_bytes.tokens - header_bytes) // sample_bytes))
            samples = max(samples, 0)
            if samples:
                self._count(samples, header_bytes + samples * sample_bytes)
        return samples

    def take_whole(self, samples: int, size: int) -> bool:
        """Return whether a request that is written may be sent now, and count it then as sent.

        One that is more than a minute's, which a process with a larger budget has left on disk, is
        sent once the budget is full; what it has too much is missing in the minutes after it.

        Args:
            samples: In the request.
            size: Bytes of its body.
        """
        with self._lock:
            fits = all(
                bucket is None or bucket.tokens >= min(needed, bucket.most)
                for bucket, needed in zip(self._buckets, (samples, size))
            )
            if fits:
                self._count(samples, size)
        return fits

    def give_back(self, samples: int, size: int) -> None:
        """Count a request as not sent after all; see `take_whole`."""
        with self._lock:
            self._count(-samples, -size)

    def _count(self, samples: int, size: int) -> None:
        for bucket, tokens in zip(self._buckets, (samples, size)):
            if bucket:
                bucket.take(tokens)
