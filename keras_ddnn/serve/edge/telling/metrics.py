"""What a device counts: who answered, why the cloud did not, bytes, and how long it took."""

import re
import sys
from collections import Counter as CountOf
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np
import psutil
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    start_http_server,
)

from keras_ddnn.serve.edge.answers import EdgeAnswer
from keras_ddnn.serve.edge.settings import CurrentSettings

LATEST = 10_000  # requests, of whose latencies percentiles are taken
ANSWERS = ("local", "cloud", "fallback", "deferred")
PERCENTILES = (50, 95, 99)
LAST_PORT = 65_535


def peak_memory() -> int:
    """Return the most bytes of memory that this process has had at once (resident set size).

    Linux counts those of a process since it was started; `getrusage`, which is asked elsewhere,
    may also count those of the process that has started it.
    """
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return int(found[1]) << 10
    if peak := getattr(psutil.Process().memory_info(), "peak_wset", None):  # Windows
        return peak
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


class EdgeMetrics:
    """Counters of one device, in a registry of its own; threads may share it.

    Attributes:
        registry: Registry of `prometheus_client`.
        files: Bytes of the files that the device needs; to be set.
    """

    def __init__(self):
        self.registry = CollectorRegistry()
        self._samples = Counter(
            "ddnn_edge_samples", "Samples, by who answered", ["answer"], registry=self.registry
        )
        self._fallbacks = Counter(
            "ddnn_edge_fallback_samples",
            "Samples that the cloud was to answer and did not, by cause",
            ["cause"],
            registry=self.registry,
        )
        self._behind = Counter(
            "ddnn_edge_fallback_behind_samples",
            "Samples that the service answered in place of one behind it",
            registry=self.registry,
        )
        self._tiers = Counter(
            "ddnn_edge_tier_samples",
            "Samples, by how many tiers behind this one answered",
            ["tier"],
            registry=self.registry,
        )
        self._sent = Counter(
            "ddnn_edge_sent_bytes", "Bytes of request bodies", registry=self.registry
        )
        self._seconds = Histogram(
            "ddnn_edge_request_seconds",
            "From images to answer, a call",
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
            registry=self.registry,
        )
        self._open = Gauge(
            "ddnn_edge_breaker_open", "1 while the cloud is not asked", registry=self.registry
        )
        self.files = Gauge(
            "ddnn_edge_files_bytes",
            "Bytes of the artefact's files that the device needs",
            registry=self.registry,
        )
        Gauge(
            "ddnn_edge_peak_memory_bytes",
            "Most bytes of memory that the process has had at once",
            registry=self.registry,
        ).set_function(peak_memory)
        self._threshold = Gauge(
            "ddnn_edge_score_threshold", "Of the latest call", registry=self.registry
        )
        self._by_source = Counter(
            "ddnn_edge_threshold_samples",
            "Samples, by whose threshold decided",
            ["source"],
            registry=self.registry,
        )
        self._recalibrations = Gauge(
            "ddnn_edge_recalibrations",
            "Recalibrations that were taken up, and files of them that were not",
            ["outcome"],
            registry=self.registry,
        )
        self._thresholds: dict[str, tuple[float, int]] = {}
        self._latest = deque(maxlen=LATEST)
        self._causes, self._by_tier = CountOf(), CountOf()
        self._lock = Lock()  # so that a reader sees no half of a call
        for answer in ANSWERS:
            self._samples.labels(answer)

    def watch(self, current: CurrentSettings) -> None:
        """Tell of the recalibrations that are read."""
        for outcome in ("taken_up", "refused"):
            self._recalibrations.labels(outcome).set_function(partial(getattr, current, outcome))

    def count_sent(self, size: int) -> None:
        """Count the bytes of a request that is being sent."""
        self._sent.inc(size)

    def count(self, answer: EdgeAnswer, state: str) -> None:
        """Count an answered call.

        Args:
            answer: What was said.
            state: State of the circuit breaker.
        """
        offloaded, causes, seconds = answer.offloaded, answer.causes, answer.seconds
        unanswered, deferred = causes != "", answer.deferred
        fallback = unanswered & ~deferred
        settings, guard = answer.settings, answer.settings.guard
        threshold = guard.controller.score_threshold if guard else settings.score_threshold
        by_cloud = offloaded & ~unanswered
        counts = (who.sum() for who in (~offloaded, by_cloud, fallback, deferred))
        with self._lock:
            for who, count in zip(ANSWERS, counts):
                self._samples.labels(who).inc(int(count))
            for cause, count in CountOf(causes[fallback].tolist()).items():
                self._fallbacks.labels(cause).inc(count)
                self._causes[cause] += count
            self._behind.inc(int(answer.fallback_behind.sum()))
            for tier, count in CountOf(answer.tiers.tolist()).items():
                self._tiers.labels(str(tier)).inc(count)
                self._by_tier[tier] += count
            self._threshold.set(threshold)
            self._by_source.labels(settings.source).inc(len(causes))
            _, before = self._thresholds.get(settings.source, (threshold, 0))
            self._thresholds[settings.source] = threshold, before + len(causes)
            self._seconds.observe(seconds)
            self._open.set(state == "open")
            self._latest.append(seconds)

    def causes(self) -> dict[str, int]:
        """Return the samples that fell back by cause, the most frequent first."""
        with self._lock:
            return dict(self._causes.most_common())

    def thresholds(self) -> dict[str, tuple[float, int]]:
        """Return by whose threshold samples were decided, the latest of it, and how many samples.

        See `Settings.source`; they are in the order in which they were used first.
        """
        with self._lock:
            return dict(self._thresholds)

    def by_tier(self) -> dict[int, int]:
        """Return the samples by how many tiers behind this one answered, the nearest first."""
        with self._lock:
            return dict(sorted(self._by_tier.items()))

    def numbers(self) -> dict[str, float]:
        """Return counts of samples by who answered, bytes, and latency percentiles in seconds.

        Returns:
            `local`, `cloud`, `fallback`, `deferred`, `fallback_behind`, `sent_bytes`,
            `files_bytes`, `peak_memory_bytes`, and, once there was a call, `p50`, `p95` and `p99`
            of the latest 10,000.
        """
        value, samples = self.registry.get_sample_value, "ddnn_edge_samples_total"
        with self._lock:
            numbers = {name: int(value(samples, {"answer": name})) for name in ANSWERS}
            numbers["fallback_behind"] = int(value("ddnn_edge_fallback_behind_samples_total"))
            numbers["sent_bytes"] = int(value("ddnn_edge_sent_bytes_total"))
            latest = list(self._latest)
        for name in ("files_bytes", "peak_memory_bytes"):
            numbers[name] = int(value(f"ddnn_edge_{name}"))
        if latest:
            seconds = np.percentile(latest, PERCENTILES)
            numbers |= {f"p{p}": float(s) for p, s in zip(PERCENTILES, seconds)}
        return numbers

    def text(self) -> str:
        """Return all of it in the text format of Prometheus."""
        return generate_latest(self.registry).decode()


@contextmanager
def served(registry: CollectorRegistry, host: str, port: int) -> Iterator[int]:
    """Serve a registry to Prometheus while the context lasts.

    Args:
        registry: What to serve.
        host: Address to listen at.
        port: 0 for any free one.

    Yields:
        The port.

    Raises:
        ValueError: If nobody can listen there.
    """
    if not 0 <= port <= LAST_PORT:
        raise ValueError(f"expected a metrics port in 0..{LAST_PORT}; received {port}")
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ValueError(f"metrics cannot be served at {host}:{port}: {error.strerror}") from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
