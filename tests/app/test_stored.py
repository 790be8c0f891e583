"""What an accepted request leaves in Redis for the worker."""

import io

import httpx
import pytest
from PIL import Image, ImageOps

from tests.app.conftest import files, submit
from tests.app.pictures import box_mask, encoded
from tests.app.settling import Settler

pytestmark = pytest.mark.anyio


async def test_the_mask_is_stored_as_it_was_read(client: httpx.AsyncClient, settler: Settler) -> None:
    """White is repainted there, whatever the upload meant by it."""
    uploaded = box_mask()
    job = (await client.post("/v1/inpaint", files=files(mask=encoded(uploaded)), data={"mask_mode": "black"})).json()
    assert job["mask"]["mode"] == "black"
    _, stored = settler.queue.store.inputs(job["id"])
    assert stored is not None
    with Image.open(io.BytesIO(stored)) as mask:
        assert (mask.mode, mask.tobytes()) == ("L", ImageOps.invert(uploaded).tobytes())


async def test_what_a_request_gives_up_for_speed_goes_along(client: httpx.AsyncClient, settler: Settler) -> None:
    approximate, exact = [
        settler.queue.job((await submit(client, **fields)).json()["id"]).meta["approximate"]
        for fields in ({"cache_interval": 2}, {})
    ]
    assert approximate and not exact
