"""``/metrics``: for Prometheus."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.authentication import needs
from app.backend import BackendDep
from app.examples import KEY_PROBLEMS, problems

router = APIRouter(
    tags=["operation"], responses=problems(*KEY_PROBLEMS, "store_unavailable"), dependencies=[needs("admin")]
)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {"description": "In Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    },
)
def metrics(backend: BackendDep) -> Response:
    """Counters and histograms of this process; the queue's gauges as Redis has them now."""
    return Response(backend.metrics.text(), media_type=CONTENT_TYPE_LATEST)
