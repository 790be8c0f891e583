"""The worker's Prometheus metrics: where each job's time went, and how the jobs ended."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from jobs.schema import JobReport
from worker.engine.stopwatch import PHASES

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class WorkerMetrics:
    """One registry for each worker, served on ``INFILL_METRICS_PORT``."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.phase_seconds = Histogram(
            "infill_phase_seconds",
            "Time of a job in each phase",
            ["model", "phase"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.job_seconds = Histogram(
            "infill_job_seconds",
            "Time of a job from submission to result",
            ["model"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batch_rows = Histogram(
            "infill_batch_rows",
            "Mean number of images in a job's forward passes",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self.registry,
        )
        self.jobs_ended = Counter(
            "infill_jobs_ended", "Jobs this worker ended, by outcome or error code", ["outcome"], registry=self.registry
        )
        self.deliveries = Counter(
            "infill_deliveries",
            "Tries to send something out after a job's end, by kind and outcome",
            ["kind", "outcome"],
            registry=self.registry,
        )
        self.adapter_bytes = Gauge("infill_adapter_bytes", "Bytes of the loaded LoRA adapters", registry=self.registry)
        self.slowdown = Gauge(
            "infill_slowness", "Time that the work has taken lately, over the time predicted", registry=self.registry
        )
        self.clock_ahead = Gauge(
            "infill_clock_ahead_seconds", "This machine's clock compared with Redis'", registry=self.registry
        )
        self.seats_taken = Gauge("infill_seats_taken", "Jobs in the running batch", registry=self.registry)

    def succeeded(self, report: JobReport, model: str) -> None:
        timings = report.timings.model_dump()
        for phase in PHASES:
            self.phase_seconds.labels(model, phase).observe(timings[phase] / 1000)
        self.job_seconds.labels(model).observe(report.timings.total / 1000)
        self.batch_rows.observe(report.timings.batch_mean)
        self.jobs_ended.labels("succeeded").inc()

    def set_adapter_bytes(self, size_bytes: int) -> None:
        self.adapter_bytes.set(size_bytes)

    def beaten(self, slowdown: float, clock_ahead_s: float, seats_taken: int) -> None:
        """At every heartbeat."""
        self.slowdown.set(slowdown)
        self.clock_ahead.set(clock_ahead_s)
        self.seats_taken.set(seats_taken)

    def failed(self, code: str) -> None:
        self.jobs_ended.labels(code).inc()
