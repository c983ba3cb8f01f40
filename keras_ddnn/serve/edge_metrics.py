"""What a device counts: who answered, bytes, and how long it took."""

from collections import deque

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

LATEST = 10_000  # requests, of whose latencies percentiles are taken
ANSWERS = ("local", "cloud", "fallback")
PERCENTILES = (50, 95, 99)


class EdgeMetrics:
    """Counters of one device, in a registry of its own.

    Attributes:
        registry: Of `prometheus_client`.
    """

    def __init__(self):
        self.registry = CollectorRegistry()
        self._samples = Counter(
            "ddnn_edge_samples", "Samples, by who answered", ["answer"], registry=self.registry
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
        self._latest = deque(maxlen=LATEST)
        for answer in ANSWERS:
            self._samples.labels(answer)

    def count_sent(self, size: int) -> None:
        """Count the bytes of a request that is being sent."""
        self._sent.inc(size)

    def count(self, offloaded: np.ndarray, fallback: np.ndarray, seconds: float, state: str):
        """Count an answered call; `state` is that of the circuit breaker."""
        counts = (~offloaded).sum(), (offloaded & ~fallback).sum(), fallback.sum()
        for answer, count in zip(ANSWERS, counts):
            self._samples.labels(answer).inc(int(count))
        self._seconds.observe(seconds)
        self._open.set(state == "open")
        self._latest.append(seconds)

    def numbers(self) -> dict:
        """Return counts of samples by who answered, bytes, and latency percentiles in seconds.

        Returns:
            `local`, `cloud`, `fallback`, `sent_bytes`, and, once there was a call, `p50`, `p95` and
            `p99` of the latest 10,000.
        """
        value, samples = self.registry.get_sample_value, "ddnn_edge_samples_total"
        numbers = {name: int(value(samples, {"answer": name})) for name in ANSWERS}
        numbers["sent_bytes"] = int(value("ddnn_edge_sent_bytes_total"))
        if self._latest:
            seconds = np.percentile(list(self._latest), PERCENTILES)
            numbers |= {f"p{p}": float(s) for p, s in zip(PERCENTILES, seconds)}
        return numbers

    def text(self) -> str:
        """Return all of it in the text format of Prometheus."""
        return generate_latest(self.registry).decode()
