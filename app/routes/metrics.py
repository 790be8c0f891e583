"""``/metrics``: for Prometheus."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.service import ServiceDep

router = APIRouter(tags=["operation"])


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
def metrics(service: ServiceDep) -> Response:
    """Counters and histograms of this process; the queue's gauges as Redis has them now."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
