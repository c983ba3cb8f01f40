"""What the cloud knows of its own work: Prometheus metrics, and the images it was last sent."""

import base64
import time
from collections import deque

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from keras_ddnn.data.splits import pictures

RECENT = 12  # images kept for the page
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class CloudMetrics:
    """Counters of one application, in a registry of its own.

    Attributes:
        registry: For `prometheus_client.generate_latest`.
        refused: Requests that were refused, by status.
        seconds: Seconds of answered requests, from the first byte to the answer.
        batch: Samples of each batch.
        queued: Samples that wait; set its function to what knows.
        kept: Samples kept for their labels to be corrected.
    """

    def __init__(self):
        self.registry = CollectorRegistry()
        self._started = time.monotonic()
        self._recent: deque[dict] = deque(maxlen=RECENT)

        def new(kind, name, words, **options):
            return kind(f"ddnn_cloud_{name}", words, registry=self.registry, **options)

        self._answered = new(Counter, "answered", "Requests answered")
        self._samples = new(Counter, "samples", "Samples by who answered", labelnames=["by"])
        self._by_model = new(Counter, "model_requests", "Requests answered", labelnames=["model"])
        self.kept = new(Counter, "kept_samples", "Samples kept to be labelled")
        self._bytes = new(Counter, "received_bytes", "Bytes of the answered requests' bodies")
        self.refused = new(Counter, "refused", "Requests refused", labelnames=["status"])
        self.seconds = new(Histogram, "request_seconds", "Time to an answer", buckets=SECONDS)
        self.batch = new(Histogram, "batch_samples", "Samples of a batch", buckets=SIZES)
        self.queued = new(Gauge, "queued_samples", "Samples that wait")

    def answered(self, samples: int, answered_locally: int, body_bytes: int, model: str) -> None:
        """Count a request that was answered, and what its device says of itself."""
        self._answered.inc()
        self._by_model.labels(model).inc()
        self._samples.labels("cloud").inc(samples)
        self._samples.labels("device").inc(answered_locally)
        self._bytes.inc(body_bytes)

    def count_refused(self, status: int) -> None:
        """Count a request that was refused with a status of HTTP."""
        self.refused.labels(str(status)).inc()

    def show(self, images: np.ndarray, names: list[str]) -> None:
        """Keep the last of the images (n, h, w, c) of a request, with their answers in words.

        Frames of cameras (n, D, h, w, c) are kept side by side.

        They are copied: a view would keep all of the request.
        """
        for image, name in zip(pictures(images[-RECENT:]), names[-RECENT:]):
            raw = base64.b64encode(image.tobytes()).decode()
            self._recent.append({"shape": image.shape, "class": name, "pixels": raw})

    def as_json(self) -> dict:
        """Return what the page shows, as plain JSON types."""
        local, offloaded = (
            int(self._value("samples_total", by=by) or 0) for by in ("device", "cloud")
        )
        refused = {
            sample.labels["status"]: int(sample.value)
            for metric in self.refused.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        }
        return {
            "seconds": round(time.monotonic() - self._started, 1),
            "requests": {"answered": int(self._value("answered_total")), "refused": refused},
            "samples": {"local": local, "offloaded": offloaded},
            "received_bytes": int(self._value("received_bytes_total")),
            "images": list(self._recent),
        }

    def _value(self, name, **labels):
        return self.registry.get_sample_value(f"ddnn_cloud_{name}", labels)
