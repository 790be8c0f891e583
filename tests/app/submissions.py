"""A valid submission, and its way to the API."""

from typing import Any

import httpx

from tests.app.pictures import box_mask, photo
from tests.factories import encoded, multipart


def files(image: bytes | None = None, mask: bytes | None = None) -> dict[str, tuple[str, bytes]]:
    """A valid pair, or the given bytes."""
    return multipart(
        encoded(photo()) if image is None else image,
        encoded(box_mask()) if mask is None else mask,
    )


async def submit(client: httpx.AsyncClient, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    return await client.post("/v1/inpaint", files=files(), data=fields, headers=headers)
