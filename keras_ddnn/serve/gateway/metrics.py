"""What a gateway counts: samples by their absent cameras, and how long they took to gather."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from keras_ddnn.serve.gateway.gathering import Gathered

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class GatewayMetrics:
    """Counters of one gateway; threads may share it.

    Args:
        registry: Registry of `prometheus_client` that they are put into: that of the runtime, so
            that one page tells of both.
        cameras: How many there are.

    Attributes:
        open: Samples that are not answered; set its function to what knows.
    """

    def __init__(self, registry: CollectorRegistry, cameras: int):
        def new(kind, name, words, **options):
            return kind(f"ddnn_gateway_{name}", words, registry=registry, **options)

        self._samples = new(
            Counter, "samples", "Samples answered, by absent cameras", labelnames=["absent"]
        )
        self._absent = new(
            Counter, "absent", "Samples without a camera, by its number", labelnames=["camera"]
        )
        self._seconds = new(
            Histogram, "gather_seconds", "From the first frame to all that came", buckets=SECONDS
        )
        self._refused = new(Counter, "refused", "Requests refused", labelnames=["status"])
        self.open = new(Gauge, "open_samples", "Samples that are not answered")
        for number in range(cameras):
            self._samples.labels(str(number))
            self._absent.labels(str(number))
        self._samples.labels(str(cameras))

    def answered(self, gathered: Gathered) -> None:
        """Count a sample that is answered."""
        self._samples.labels(str(len(gathered.absent))).inc()
        for camera in gathered.absent:
            self._absent.labels(str(camera)).inc()
        self._seconds.observe(gathered.seconds)

    def count_refused(self, status: int) -> None:
        """Count a request that was refused with a status of HTTP."""
        self._refused.labels(str(status)).inc()
