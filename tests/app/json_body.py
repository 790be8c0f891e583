"""Bodies of application/json for ``POST /v1/inpaint``."""

import base64
import json
from typing import Any

import httpx

from tests.app.multipart import IMAGE, MASK

KIND = {"Content-Type": "application/json"}


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def document(**changed: Any) -> dict[str, Any]:
    """A valid body; a field that is ``...`` is left out."""
    fields = {"image": base64_of(IMAGE), "mask": base64_of(MASK)} | changed
    return {name: value for name, value in fields.items() if value is not ...}


async def post_json(client: httpx.AsyncClient, content: dict[str, Any] | bytes, **headers: str) -> httpx.Response:
    data = json.dumps(content).encode() if isinstance(content, dict) else content
    return await client.post("/v1/inpaint", content=data, headers=KIND | headers)
