"""Jobs as the service sends them."""

from typing import Any

JOB: dict[str, Any] = {
    "id": "a",
    "status": "queued",
    "model": "pocket",
    "attempt": 0,
    "queue_position": 0,
    "progress": {"step": 0, "steps": 8, "eta_ms": None},
    "seeds": [1],
    "approximate": [],
    "mask": {"mode": "white", "coverage": 0.1, "bbox": [0, 0, 1, 1], "soft": False, "changed_outside_mask": None},
    "images": [],
    "timings": None,
    "error": None,
    "created_at": "2026-01-01T00:00:00Z",
    "started_at": None,
    "ended_at": None,
}
IMAGE = {"url": "/v1/jobs/a/images/0", "width": 1, "height": 1, "content_type": "image/png", "bytes": 3}
SUCCEEDED = JOB | {"status": "succeeded", "images": [IMAGE]}
