"""Frames of several cameras, gathered by the id of their sample until it can be answered."""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from numbers import Integral
from reprlib import repr as brief
from threading import Event, Lock, Thread
from typing import Any, Protocol

import numpy as np

from keras_ddnn.data.splits import InputType
from keras_ddnn.files.checks import expect, require_count, require_positive
from keras_ddnn.serve.edge.answers import EdgeAnswer
from keras_ddnn.serve.gateway.camera import require_sample
from keras_ddnn.serve.protocol.batching import Unavailable
from keras_ddnn.serve.protocol.link import CONNECTIONS

log = logging.getLogger(__name__)

GATHER = 0.1  # seconds
MAX_OPEN = 256  # samples
KEPT_SECONDS, MAX_KEPT = 10.0, 4096


class SecondFrame(ValueError):
    """A frame of a camera whose frame for the same sample was another one."""


class Runtime(Protocol):
    """What answers samples of frames; an `EdgeRuntime` does.

    Attributes:
        manifest: It says what is read, `input_shape` and `input_dtype`.
        deadline_s: Seconds that an answer may take.
    """

    manifest: Mapping[str, Any]
    deadline_s: float

    def predict(self, images: np.ndarray, *, deadline: float) -> EdgeAnswer:
        """Return what is said of samples (n, D, h, w, c), by a time of `time.monotonic`."""


@dataclass(frozen=True, eq=False)
class Gathered:
    """What all callers of one sample are told.

    Attributes:
        answer: Of the runtime, about this one sample: n is 1.
        absent: The cameras whose frames were zeros for the network, from 0, in rising order: those
            whose frame had not come, and those that have sent zeros.
        seconds: From the first frame until the sample was closed.
    """

    answer: EdgeAnswer
    absent: tuple[int, ...]
    seconds: float


@dataclass(eq=False)
class _Sample:
    since: float
    frames: dict[int, np.ndarray] = field(default_factory=dict)
    digests: dict[int, bytes] = field(default_factory=dict)
    until: float = float("inf")  # its answer is kept
    answer: "Future[Gathered]" = field(default_factory=Future)

    def __post_init__(self):
        # Several callers wait for it: none may cancel it for the others.
        self.answer.set_running_or_notify_cancel()


class Gathering:
    """Gathers the frames of each sample and hands it to the runtime once; threads may share it.

    A sample is closed when each of its D cameras has sent a frame, or `gather_s` after the first
    one. It then goes to the runtime, with zeros for the cameras that are absent, and the runtime's
    own deadline begins. So an answer comes at the latest `gather_s` and the runtime's `deadline_s`
    after the first frame, and the time that the local network takes.

    The first frame of a camera counts. The same frame again waits for the same answer, so that a
    request may be repeated. A frame that comes after the sample was closed gets its answer too, and
    changes nothing; `absent` tells its camera. Answers are kept for `kept_s` and the latest
    `max_kept` samples; until then an id must not be used for another sample, and a frame that
    comes later still is the first of a new one.

    Memory is bounded by `max_open` samples that are not answered. When there are as many, a frame
    of a new sample is refused. To answer the oldest early instead would lose frames that are on
    their way, and would only move the crowd to the runtime, whose queue must be bounded too.

    A camera is known by its number alone. Who sends under another's number is found only where both
    send: the second of two different frames is refused.

    Args:
        runtime: Answers the samples. It is not closed with the gathering.
        gather_s: Seconds from the first frame of a sample that the others are waited for.
        max_open: Samples that may wait for frames or for their answer.
        kept_s: Seconds that an answer is kept.
        max_kept: Answers that are kept at most.
        clock: Of all of these seconds; it never runs back.
        observe: Told each sample that is answered.

    Attributes:
        shape: Of a frame, (h, w, c).
        cameras: How many there are, D.
        gather_s: As above.

    Raises:
        ValueError: If the artefact of the runtime does not read several cameras, or a number is out
            of range.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        gather_s: float = GATHER,
        max_open: int = MAX_OPEN,
        kept_s: float = KEPT_SECONDS,
        max_kept: int = MAX_KEPT,
        clock: Callable[[], float] = time.monotonic,
        observe: Callable[[Gathered], None] = lambda gathered: None,
    ):
        require_positive(gather_s=gather_s, kept_s=kept_s)
        require_count(max_open=max_open, max_kept=max_kept)
        reads = InputType(tuple(runtime.manifest["input_shape"]), runtime.manifest["input_dtype"])
        wanted = "one that reads uint8 (camera, height, width, channels)"
        expect(reads.cameras, "the artefact", wanted, f"{reads.dtype} of shape {reads.shape}")
        self.cameras, self.shape = reads.shape[0], reads.shape[1:]
        self.gather_s = gather_s
        self._runtime, self._clock, self._observe = runtime, clock, observe
        self._max_open, self._kept_s, self._max_kept = max_open, kept_s, max_kept
        self._lock, self._wake = Lock(), Event()
        # All that are known; of these, those that gather, the oldest first, and those that are
        # answered, the oldest answer first.
        self._known: dict[str, _Sample] = {}
        self._gathering: dict[str, _Sample] = {}
        self._kept: dict[str, _Sample] = {}
        self._closed = False
        # As many as the runtime may ask its cloud at a time.
        self._threads = ThreadPoolExecutor(CONNECTIONS, "samples")
        self._watch = Thread(target=self._sweep_in_time, name="gathering", daemon=True)
        self._watch.start()

    @property
    def open(self) -> int:
        """How many samples are not answered yet."""
        with self._lock:
            return len(self._known) - len(self._kept)

    def add(self, sample: str, camera: int, frame: np.ndarray) -> "Future[Gathered]":
        """Take a frame, and return what its sample will be answered.

        Args:
            sample: The id of the sample, of 1 to 128 characters.
            camera: Number of the camera, in 0..D-1.
            frame: uint8 (h, w, c); zeros for a camera that has none, which need not be waited for.
                It is copied.

        Returns:
            A future that nobody can cancel. It raises `Unavailable` if the runtime fails.

        Raises:
            ValueError: If the frame is of another shape or type, or there is no such camera, or no
                such id. The sample stays as it is.
            SecondFrame: A ValueError, if the camera has sent another frame for this sample.
            Unavailable: If too many samples wait, or the gathering is closed.
        """
        self._require(sample, camera, frame)
        frame = np.array(frame, order="C")
        digest = blake2b(frame, digest_size=16).digest()
        with self._lock:
            known = self._sample(sample)
            if known.digests.get(camera, digest) != digest:
                raise SecondFrame(
                    f"camera {camera} has sent another frame of sample {brief(sample)} before, "
                    f"which counts: give each sample an id of its own"
                )
            if sample in self._gathering and camera not in known.frames:
                known.frames[camera], known.digests[camera] = frame, digest
                if len(known.frames) == self.cameras:
                    self._close_sample(sample)
            return known.answer

    def sweep(self) -> float | None:
        """Close the samples whose time is over, and forget the answers whose time is.

        A thread calls it in time; no one else needs to.

        Returns:
            Seconds until the next sample is to be closed; None if none gathers.
        """
        with self._lock:
            now = self._clock()
            self._forget(now)
            for sample, known in list(self._gathering.items()):
                if (left := known.since + self.gather_s - now) > 0:
                    return left
                self._close_sample(sample)
        return None

    def close(self) -> None:
        """Answer what gathers with the frames that are there, and take no more."""
        with self._lock:
            self._closed = True
            for sample in list(self._gathering):
                self._close_sample(sample)
        self._wake.set()
        self._watch.join()
        self._threads.shutdown()

    def __enter__(self) -> "Gathering":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _require(self, sample, camera, frame) -> None:
        require_sample(sample)
        is_camera = isinstance(camera, Integral) and 0 <= camera < self.cameras
        expect(is_camera, "camera", f"a number in 0..{self.cameras - 1}", brief(camera))
        is_frame = isinstance(frame, np.ndarray)
        received = f"{frame.dtype} of shape {frame.shape}" if is_frame else type(frame).__name__
        fits = is_frame and (frame.dtype, frame.shape) == (np.uint8, self.shape)
        expect(fits, f"the frame of camera {camera}", f"uint8 of shape {self.shape}", received)

    def _sample(self, sample: str) -> _Sample:
        """Return a sample, which is opened if it is not known."""
        if self._closed:
            raise Unavailable("the gateway is not running")
        now = self._clock()
        self._forget(now)
        if sample not in self._known:
            if len(self._known) - len(self._kept) >= self._max_open:
                raise Unavailable(f"{self._max_open} samples wait already")
            self._known[sample] = self._gathering[sample] = _Sample(now)
            if len(self._gathering) == 1:  # the watch sleeps
                self._wake.set()
        return self._known[sample]

    def _close_sample(self, sample: str) -> None:
        known = self._gathering.pop(sample)
        # The runtime's deadlines are by this clock, whatever the one above is.
        deadline = time.monotonic() + self._runtime.deadline_s
        seconds = self._clock() - known.since
        self._threads.submit(self._answer, sample, known, seconds, deadline)

    def _answer(self, sample: str, known: _Sample, seconds: float, deadline: float) -> None:
        frames = np.zeros((1, self.cameras, *self.shape), np.uint8)
        for camera, frame in known.frames.items():
            frames[0, camera] = frame
        known.frames = {}
        absent = tuple(np.flatnonzero(~frames[0].any(axis=(1, 2, 3))).tolist())
        try:
            gathered = Gathered(self._runtime.predict(frames, deadline=deadline), absent, seconds)
            self._observe(gathered)
        # Whatever is raised, those who wait must hear of it; they may try the sample again.
        except Exception:
            log.exception("the network failed on a sample")
            with self._lock:
                del self._known[sample]
            known.answer.set_exception(Unavailable("the network failed"))
            return
        with self._lock:
            known.until = self._clock() + self._kept_s
            self._kept[sample] = known
            while len(self._kept) > self._max_kept:
                self._forget_first()
        known.answer.set_result(gathered)

    def _forget(self, now: float) -> None:
        while self._kept and next(iter(self._kept.values())).until <= now:
            self._forget_first()

    def _forget_first(self) -> None:
        sample = next(iter(self._kept))
        del self._kept[sample], self._known[sample]

    def _sweep_in_time(self) -> None:
        while True:
            self._wake.clear()
            if self._closed:  # looked at after clearing, so that the end is not slept through
                return
            self._wake.wait(self.sweep())
