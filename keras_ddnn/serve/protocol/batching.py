"""Dynamic batching: requests that wait together are answered by one call of the network."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from keras_ddnn.files.checks import require_count

log = logging.getLogger(__name__)

MEMORY = 0.2  # weight of the latest batch in their mean duration


class Unavailable(RuntimeError):
    """A request that cannot be answered now, through no fault of its own, and why."""


@dataclass(frozen=True, eq=False)
class _Waiting:
    samples: np.ndarray
    answer: asyncio.Future
    since: float
    deadline: float


class Batcher:
    """A bounded queue in front of a network that runs in threads of its own.

    A batch is closed as soon as it has `max_batch` samples or its oldest has waited `max_wait`;
    while the network works, the next batch gathers. After a request that stayed alone the next is
    not kept waiting: it is most likely the same client's. Use it in `async with`, whose end answers
    what still waits.

    Attributes:
        run: Samples (n, ...), deadline → n answers, of which slices can be taken. The deadline is
            the earliest of the batch.
        max_batch: Samples of a batch; only a request that has more alone exceeds it.
        max_wait: Seconds a sample may wait for others.
        max_queue: Samples that may wait.
        max_delay: Seconds a sample may be expected to wait; a batch may always gather. Whoever asks
            gives up at some time, and a queue that is longer than that is work for nobody.
        at_once: Batches that may run at the same time: 1 for a network that fills the machine,
            more for one that waits for another machine.
        queued: Samples that wait now.
    """

    def __init__(
        self,
        run: Callable[[np.ndarray, float], Sequence],
        *,
        max_batch: int,
        max_wait: float,
        max_queue: int,
        max_delay: float = float("inf"),
        at_once: int = 1,
        observe: Callable[[int], None] = lambda size: None,
    ):
        """Store what the class says; `observe` is told the samples of each batch.

        Raises:
            ValueError: If a number is out of range.
        """
        require_count(max_batch=max_batch, max_queue=max_queue, at_once=at_once)
        if not 0.0 <= max_wait < float("inf"):
            raise ValueError(f"max_wait must be seconds, at least 0; received {max_wait!r}")
        self.run, self.observe = run, observe
        self.max_batch, self.max_wait, self.max_queue = max_batch, max_wait, max_queue
        if not max_delay > 0.0:
            raise ValueError(f"max_delay must be seconds, above 0; received {max_delay!r}")
        self.max_delay, self.at_once = max_delay, at_once
        self.queued = 0
        self.open = False
        self._batch_seconds = 0.0  # from the end of one batch to that of the next, lately
        self._end = 0.0  # of the latest batch, by the loop's clock
        self._lone = False
        self._waiting: deque[_Waiting] = deque()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> "Batcher":
        self._threads = ThreadPoolExecutor(self.at_once, "network")
        self.open = True
        self._worker = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_) -> None:
        self.open = False
        self._changed.set()
        await self._worker
        self._threads.shutdown()

    def lack(self, samples: int) -> str | None:
        """Return why a number of samples would be refused now, None if they would not."""
        if not self.open:
            return "the service is not running"
        if self.queued + samples > self.max_queue:
            return f"{self.queued} of {self.max_queue} samples wait already"
        delay = (self.queued / self.max_batch + 1) * self._batch_seconds
        if self.queued + samples > self.max_batch and delay > self.max_delay:
            return f"{self.queued} samples wait already, for {1000 * delay:.0f} ms"
        return None

    async def submit(self, samples: np.ndarray, deadline: float = float("inf")) -> Sequence:
        """Return the answers to samples (n, ...).

        Args:
            samples: What the network reads.
            deadline: When they are no longer wanted, by the clock that the network knows.

        Raises:
            Unavailable: If the queue is full or closed, or the network failed.
        """
        if reason := self.lack(len(samples)):
            raise Unavailable(reason)
        loop = asyncio.get_running_loop()
        request = _Waiting(samples, loop.create_future(), loop.time(), deadline)
        self._waiting.append(request)
        self.queued += len(samples)
        self._changed.set()
        return await request.answer

    async def _work(self) -> None:
        free = asyncio.Semaphore(self.at_once)
        async with asyncio.TaskGroup() as running:
            # While no thread is free, the next batch gathers.
            while await free.acquire() and (batch := await self._next_batch()):
                running.create_task(self._answer(batch)).add_done_callback(lambda _: free.release())

    async def _next_batch(self) -> list[_Waiting]:
        """Wait for a batch and take it; none is left once the queue is closed and empty."""
        while self.open and not self._waiting:
            await self._change()
        if self._waiting and not self._lone:
            try:
                async with asyncio.timeout_at(self._waiting[0].since + self.max_wait):
                    while self.open and self.queued < self.max_batch:
                        await self._change()
            except TimeoutError:
                pass
        batch, size = [], 0
        while self._waiting and (
            not batch or size + len(self._waiting[0].samples) <= self.max_batch
        ):
            batch.append(self._waiting.popleft())
            size += len(batch[-1].samples)
        self.queued -= size
        self._lone = len(batch) == 1 and not self._waiting
        return batch

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _answer(self, batch) -> None:
        loop = asyncio.get_running_loop()
        sizes = [len(request.samples) for request in batch]
        try:
            samples = np.concatenate([request.samples for request in batch])
            deadline = min(request.deadline for request in batch)
            answers = await loop.run_in_executor(self._threads, self.run, samples, deadline)
            if len(answers) != len(samples):
                raise ValueError(f"expected {len(samples)} answers; received {len(answers)}")
        # Whatever the network raises, the requests must hear of it and the next batch be tried.
        except Exception:
            log.exception("the network failed on a batch of %d samples", sum(sizes))
            for request in batch:
                if not request.answer.done():
                    request.answer.set_exception(Unavailable("the network failed"))
            return
        # Not the network's time alone: requests cost time before and after it.
        now = loop.time()
        seconds = now - max(self._end, batch[0].since)
        self._batch_seconds += MEMORY * (seconds - self._batch_seconds)
        self._end = now
        self.observe(len(samples))
        for request, end in zip(batch, accumulate(sizes)):
            if not request.answer.done():  # a client may have gone
                request.answer.set_result(answers[end - len(request.samples) : end])
