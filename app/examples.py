"""Examples and problem responses for the OpenAPI page."""

from typing import Any

from app.problems import MEDIA_TYPE, ProblemKind, kind_of
from jobs.outputs import MEDIA_TYPES

SCHEMAS, EXAMPLES = "#/components/schemas", "#/components/examples"

JOB: dict[str, Any] = {
    "id": "6f1c2a9e4b7d4c1f8a3e5d7b9c0f1e2d",
    "url": "/v1/jobs/6f1c2a9e4b7d4c1f8a3e5d7b9c0f1e2d",
    "status": "succeeded",
    "model": "pocket",
    "instead_of": None,
    "priority": "normal",
    "attempt": 1,
    "queue_position": None,
    "progress": {"step": 20, "steps": 20, "eta_ms": 0.0, "preview_step": None},
    "seeds": [42],
    "uses_seeds": True,
    "output_format": "png",
    "approximate": [],
    "prompt_tokens": {"used": 4, "limit": 600, "cut": 0},
    "negative_prompt_tokens": None,
    "mask": {
        "mode": "white",
        "scale": "full",
        "threshold": None,
        "sources": ["file"],
        "coverage": 0.12,
        "bbox": [96, 64, 320, 288],
        "soft": False,
        "snapped": 0,
        "changed_outside_mask": 0,
    },
    "extend": None,
    "region": {"box": [64, 32, 448, 416], "run_px": [384, 384], "scale": 1.0},
    "picture": {
        "format": "jpeg",
        "input_bytes": 98765,
        "mode": "rgb",
        "alpha": False,
        "bits": 8,
        "bit_depth": 8,
        "color": "icc",
        "color_action": "carried",
        "metadata": {"exif": "kept", "xmp": "none", "gps": "dropped", "c2pa": "none"},
    },
    "images": [
        {
            "url": "/v1/jobs/6f1c2a9e4b7d4c1f8a3e5d7b9c0f1e2d/images/0",
            "width": 640,
            "height": 427,
            "content_type": "image/png",
            "bytes": 412345,
        }
    ],
    "timings": {
        "queue": 3.1,
        "fetch": 1.0,
        "decode": 6.2,
        "crop": 0.8,
        "load": 0.0,
        "text_encode": 2.0,
        "vae_encode": 40.1,
        "denoise": 900.4,
        "vae_decode": 52.7,
        "paste": 1.9,
        "png": 8.8,
        "store": 1.1,
        "wait": 0.4,
        "total": 1018.5,
        "steps": 20,
        "step_p50": 44.8,
        "batch_mean": 3.2,
    },
    "error": None,
    "deliveries": [],
    "created_at": "2026-01-31T12:00:00.000000Z",
    "started_at": "2026-01-31T12:00:00.003100Z",
    "ended_at": "2026-01-31T12:00:01.018500Z",
}

PICTURE = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQMAAACQp+OdAAAABlBMVEXIyMhaWlqYgea3AAAAFklEQVR42mNgGAX0AIz/oQwmhmHF"
    "AADsqQEvBT4IWQAAAABJRU5ErkJggg=="
)
"""A photo of 64 x 64 pixels, so that the example can be sent as it is."""

MASK = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQAAAACCEkxzAAAAHUlEQVR42mNgGJ6AkYHhPwMDAyMDE0xkeDAGGwAAlfsBMEgf5GgA"
    "AAAASUVORK5CYII="
)

JSON_BODY: dict[str, Any] = {"image": PICTURE, "mask": MASK, "prompt": "a wooden bench", "seed": 42}

FORM: dict[str, Any] = {
    "image": "(the file photo.jpg)",
    "mask": "(the file mask.png)",
    "prompt": "a wooden bench",
    "seed": 42,
    "mask_mode": "white",
    "mask_feather": 4,
}

FIELDS: dict[str, Any] = {
    "model": "",
    "preset": "",
    "scheduler": "",
    "seed": 42,
    "num_inference_steps": 4,
    "guidance_scale": 1.0,
    "strength": 1.0,
    "cache_interval": 1,
    "mask_threshold": 0.5,
    "output_quality": "",
}
"""Of the form's fields without a default: what the page /docs fills in, and sends if nobody changes it."""

QUEUED: dict[str, Any] = JOB | {
    "status": "queued",
    "attempt": 0,
    "queue_position": 3,
    "progress": {"step": 0, "steps": 20, "eta_ms": 3260.5, "preview_step": None},
    "mask": JOB["mask"] | {"changed_outside_mask": None},
    "region": None,
    "picture": None,
    "images": [],
    "timings": None,
    "started_at": None,
    "ended_at": None,
}

CANCELED: dict[str, Any] = QUEUED | {
    "status": "canceled",
    "queue_position": None,
    "progress": {"step": 0, "steps": 20, "eta_ms": None, "preview_step": None},
    "ended_at": "2026-01-31T12:00:01.018500Z",
}

JOBS = {"succeeded": JOB, "queued": QUEUED, "canceled": CANCELED}
"""In the description they are referred to: FastAPI drops every null that it finds itself."""

DETAILS = {
    "unknown_field": "colour: This API has no such field.",
    "mask_size_mismatch": "mask: it is 320 x 240 pixels and the image is 640 x 427, both turned upright by their EXIF "
    "orientation. Send a mask of the image's size.",
    "queue_full": "256 jobs wait already; at most 256 may.",
}


IMAGES: dict[str, Any] = {
    media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in MEDIA_TYPES.values()
}
"""The ``content`` of a response with a result."""


def job_example(name: str) -> dict[str, Any]:
    """The ``content`` of a response with one of ``JOBS``."""
    return {"application/json": {"examples": {name: {"$ref": f"{EXAMPLES}/{name}"}}}}


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """FastAPI's ``responses`` for these problem codes, grouped by their status."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        kind = kind_of(code)
        response = found.setdefault(kind.status, {"description": "", "content": {MEDIA_TYPE: _content()}})
        response["description"] = "; ".join(filter(None, [response["description"], f"`{code}`: {kind.title}"]))
        response["content"][MEDIA_TYPE]["examples"][code] = {"value": _example(kind)}
    return found


def _content() -> dict[str, Any]:
    return {"schema": {"$ref": f"{SCHEMAS}/Problem"}, "examples": {}}


def _example(kind: ProblemKind) -> dict[str, Any]:
    return {
        "type": f"/problems/{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": DETAILS.get(kind.code, kind.description),
        "code": kind.code,
        "instance": "/v1/inpaint",
        "request_id": "0b8f6a52c1d94e7b",
    }


KEY_PROBLEMS = ("unauthorized", "forbidden", "rate_limited", "store_unavailable")
"""Of what asks for an API key."""

ANYWHERE = problems(
    "malformed_request", "request_timeout", "headers_too_large", "internal_error", "too_many_connections"
)
"""What any address can answer with: what is refused before the address counts, and errors that were not expected."""
