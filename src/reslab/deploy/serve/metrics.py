"""Figures for Prometheus, of one server."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """What is counted. Routes are labels, what strangers send is none: the number of series is bounded."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "reslab_requests", "Requests answered.", ("method", "route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "reslab_request_seconds", "From a request's first byte to its answer.", ("route",), buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.batch = Histogram("reslab_batch_images", "Images of a batch.", buckets=SIZES, registry=registry)
        self.compute = Histogram(
            "reslab_batch_seconds", "Seconds that the network took for a batch.", buckets=SECONDS, registry=registry
        )
        self.decode = Histogram(
            "reslab_decode_seconds", "From an image's bytes to its pixels, waiting for a decoder included.",
            buckets=SECONDS, registry=registry,
        )  # fmt: skip

    def watch(self, name: str, what: str, value: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        Gauge(name, what, registry=self._registry).set_function(value)

    def computed(self, count: int, seconds: float) -> None:
        """Notes a batch."""
        self.batch.observe(count)
        self.compute.observe(seconds)

    def text(self) -> bytes:
        """All of them, in the text format of Prometheus."""
        found: bytes = generate_latest(self._registry)
        return found
