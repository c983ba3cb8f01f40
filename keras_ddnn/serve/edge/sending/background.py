"""Questions that nobody waits for: kept on disk, and sent to the cloud in the background."""

import json
import logging
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from threading import Event, Lock, Thread

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge

from keras_ddnn.data.splits import InputType
from keras_ddnn.files.checks import expect
from keras_ddnn.serve.edge.sending.budget import SendingBudget
from keras_ddnn.serve.edge.sending.questions import Questions
from keras_ddnn.serve.edge.sending.requests import RequestWriter
from keras_ddnn.serve.edge.sending.spool import DISK, HASH, Spool
from keras_ddnn.serve.protocol.answers import Answers
from keras_ddnn.serve.protocol.causes import DEFERRED, NOT_ASKED, Unanswered
from keras_ddnn.serve.protocol.link import CloudLink
from keras_ddnn.serve.protocol.wire import decode

MAX_BYTES = 64 << 20  # of a spool
PATIENCE = 5.0  # seconds for the answer to a request that no user waits for
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds after an attempt that has failed
# The fault of one request, which no later attempt mends; others must not wait behind it.
HOPELESS = ("refused-422", "too-long")
log = logging.getLogger(__name__)


class Background(Questions):
    """Keeps samples on disk and sends them later, in their order, each until it has arrived.

    The cloud keeps them, once each, for their labels to be corrected. Samples of a model that the
    cloud does not serve wait, and those of other models pass them by.

    Args:
        requests: Writes them, with their images.
        link: To the cloud.
        folder, max_bytes: See `Spool`.
        registry: Gets the metrics of the spool.
        budget: How much may be sent in a minute, by whatever attempt; None for no limit. What would
            be more waits on disk.

    Raises:
        ValueError: As `Spool` does; or if two of the longest requests do not fit into `max_bytes`.
    """

    def __init__(
        self,
        requests: RequestWriter,
        link: CloudLink,
        folder: str | Path,
        max_bytes: int,
        registry: CollectorRegistry,
        budget: SendingBudget | None = None,
    ):
        super().__init__(requests, link, budget)
        least = 2 * (HASH + 4096 + requests.longest)
        enough = f"at least {least}, two requests (--spool-bytes)"
        expect(max_bytes >= least, "spool_bytes", enough, max_bytes)
        new = partial(Counter, registry=registry)
        self._dropped = new(
            "ddnn_edge_dropped_samples",
            "Samples that were kept and are lost, by reason",
            ["reason"],
        )
        self._delivered = new(
            "ddnn_edge_delivered_samples", "Samples that the cloud has taken in the background"
        )
        self.spool = Spool(folder, max_bytes, self._count_dropped)
        for name, words, value in (
            ("samples", "Samples that wait to be sent", lambda: self.spool.samples),
            ("bytes", "Bytes of the samples that wait", lambda: self.spool.size),
        ):
            Gauge(f"ddnn_edge_spool_{name}", words, registry=registry).set_function(value)
        self._wake, self._closing, self._delivering = Event(), Event(), Lock()
        self._worker = Thread(target=self._work, name="delivery", daemon=True)
        self._wake.set()  # for what an earlier process has left

    def start(self) -> None:
        """Send in a thread from now on."""
        self._worker.start()

    def allowed(self, count: int) -> int:
        """Return `count`: on disk there is room for all, and nothing is sent yet."""
        return count

    def about(self, features: np.ndarray, images: np.ndarray, deadline: float) -> Answers:
        """Keep samples to be sent.

        Raises:
            Unanswered: Always: "deferred" once they are on disk, "not-kept" if they cannot be.
        """
        with self._counting:
            told, self._untold = self._untold, 0

        def written(sample_id: str) -> bytes:
            headers, body = self.requests.write(features, images, told, keep=sample_id)
            return json.dumps(headers).encode() + b"\n" + body

        try:
            self.spool.add(self.requests.identity, len(features), written)
        except OSError as error:
            self.answered_here(told)
            self._count_dropped(DISK, len(features))
            failure = Unanswered(f"samples cannot be kept: {error}", "not-kept")
            self._log_once(failure)
            raise failure from error
        self._wake.set()
        raise Unanswered("the sample is sent in the background", DEFERRED)

    @property
    def waiting(self) -> int:
        """Samples that are on disk, to be sent."""
        return self.spool.samples

    def deliver(self) -> bool:
        """Send what waits, the oldest first, until all has arrived, an attempt fails, or as much
        was sent as may be sent in a minute.

        Returns:
            Whether nothing is left.
        """
        unknown: set[str] = set()  # models that the cloud does not serve
        with self._delivering:
            while held := self.spool.hold(unknown):
                entry, written = held
                text, _, body = written.partition(b"\n")
                size = entry.samples, len(body)
                if not self._budget.take_whole(*size):
                    self.spool.release()
                    return False
                try:
                    # The answer may be of a model with other classes; that one came is enough.
                    self._link.ask(
                        json.loads(text), body, time.monotonic() + PATIENCE, _acknowledgement
                    )
                except Unanswered as error:
                    self._log_once(error)
                    if error.cause in NOT_ASKED:
                        self._budget.give_back(*size)
                    if error.cause in HOPELESS:
                        self.spool.remove(entry, error.cause)
                        continue
                    self.spool.release()
                    if error.cause != "wrong-model":
                        return False
                    unknown.add(entry.model)
                else:
                    self.spool.remove(entry)
                    self._delivered.inc(entry.samples)
        return not unknown

    def close(self, causes: dict[str, int]) -> None:
        """Stop sending, once the request on its way has ended; what waits stays on disk."""
        self._closing.set()
        self._wake.set()
        if self._worker.is_alive():
            self._worker.join()
        super().close(causes)
        self.spool.close()

    def _work(self) -> None:
        pause = FIRST_PAUSE
        while self._wake.wait() and not self._closing.is_set():
            self._wake.clear()
            try:
                done = self.deliver()
            except OSError as error:  # of the disk: what is wrong with it may pass
                log.warning("the samples that wait cannot be read: %s", error)
                done = False
            if done:
                pause = FIRST_PAUSE
                continue
            self._closing.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            self._wake.set()

    def _count_dropped(self, reason: str, samples: int) -> None:
        self._dropped.labels(reason).inc(samples)


def questions_of(
    requests: RequestWriter,
    link: CloudLink | None,
    budget: SendingBudget | None,
    spool: str | Path | None,
    spool_bytes: int,
    registry: CollectorRegistry,
) -> Questions:
    """Return what asks at once, or, given a spool, what sends in the background from now on."""
    if spool is None:
        return Questions(requests, link, budget)
    questions = Background(requests, link, spool, spool_bytes, registry, budget)
    questions.start()
    return questions


def require_background(manifest: Mapping, cloud_url: str | None, guarded: bool) -> None:
    """Raise ValueError, in one line, unless a device may send its samples in the background.

    What the cloud keeps is labelled by people: one image a sample. A guard learns from answers.
    """
    reads = InputType(tuple(manifest["input_shape"]), manifest["input_dtype"])
    expect(cloud_url, "spool", "cloud_url, where samples are sent to", cloud_url)
    expect(reads.is_image, "spool", "an artefact that reads one image a sample", reads)
    expect(not guarded, "spool", "guarded=False, for no answer comes back", guarded)


def _acknowledgement(headers: Mapping[str, str], body: bytes) -> None:
    decode(headers, body, "outputs")
