"""What the API measures, read from its own page."""

from datetime import UTC, datetime

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.factories import presence

WORKER = presence(
    "w1", loaded=["pocket"], jobs=[], device_memory_bytes=0, last_beat_at=datetime(2026, 1, 1, tzinfo=UTC)
)


async def metrics_of(client: httpx.AsyncClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(response.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(metrics: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    return metrics[name, frozenset(labels.items())]
