"""The API's Prometheus metrics; a registry of its own for each app."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from jobs import keys
from jobs.catalog import Catalog, workers_by_model
from jobs.queue import JobQueue

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters and histograms of the routes, and the queue's gauges."""

    def __init__(self, queue: JobQueue, catalog: Catalog) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "infill_http_requests", "Requests answered", ["route", "method", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "infill_http_request_seconds",
            "Time to answer a request, waiting included",
            ["route", "method"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.submitted = Counter("infill_jobs_submitted", "Jobs accepted", ["model"], registry=self.registry)
        self.replayed = Counter(
            "infill_jobs_replayed", "Submissions answered with the job of the same key", registry=self.registry
        )
        self.refused = Counter(
            "infill_jobs_refused", "Submissions that made no job, by problem code", ["code"], registry=self.registry
        )
        self.canceled = Counter(
            "infill_jobs_cancel_requests", "Calls to cancel a job, by their outcome", ["code"], registry=self.registry
        )
        self.upload_bytes = Gauge("infill_upload_bytes", "Bytes of bodies held now", registry=self.registry)
        self.connections_refused = Counter(
            "infill_connections_refused",
            "Connections closed for what came before, or instead of, a request",
            ["code"],
            registry=self.registry,
        )
        self.registry.register(QueueGauges(queue, catalog))

    def text(self) -> bytes:
        """The exposition format. Asks Redis, so not for the event loop."""
        return generate_latest(self.registry)


class QueueGauges(Collector):
    """The queue as Redis has it at the moment of the scrape."""

    def __init__(self, queue: JobQueue, catalog: Catalog) -> None:
        self.queue = queue
        self.catalog = catalog

    def collect(self) -> Iterator[Metric]:
        try:
            depth, low_depth = self.queue.depth(), self.queue.low_priority_depth()
            workers, batches = self.queue.store.workers(), self.queue.connection.zcard(keys.BATCHES)
            share, rate = self.queue.store.memory_share(), self.queue.store.drain_rate()
            cost_s, reserved = self.queue.eta.cost_s(), self.queue.room.memory().reserved
        except RedisError:
            yield GaugeMetricFamily("infill_store_up", "Whether Redis answers", 0)
            return
        yield GaugeMetricFamily("infill_store_up", "Whether Redis answers", 1)
        yield GaugeMetricFamily("infill_store_memory_ratio", "Share of Redis' maxmemory in use", share)
        yield GaugeMetricFamily("infill_store_reserved_bytes", "What accepted jobs' results may take yet", reserved)
        yield GaugeMetricFamily("infill_queue_depth", "Jobs that wait", depth)
        yield GaugeMetricFamily("infill_queue_low_priority_depth", "Those of them of low priority", low_depth)
        yield GaugeMetricFamily("infill_queue_drain_rate", "Jobs that end a second", rate)
        cost = GaugeMetricFamily("infill_queue_cost_seconds", "What all waiting jobs are predicted to cost", labels=[])
        if cost_s is not None:
            cost.add_metric([], cost_s)
        yield cost
        yield GaugeMetricFamily("infill_batches", "Batches that have not ended", batches)
        yield GaugeMetricFamily("infill_workers", "Workers that are alive", len(workers))
        loaded = GaugeMetricFamily("infill_model_workers", "Workers whose catalog has the model", labels=["model"])
        for model, names in workers_by_model(self.catalog, workers).items():
            loaded.add_metric([model], len(names))
        yield loaded
        yield GaugeMetricFamily("infill_seats", "Seats of the living workers", sum(w.seats for w in workers))

    def describe(self) -> list[Metric]:
        """Empty, so that registering asks Redis nothing."""
        return []
