"""Previews of a real job, from its worker's latents to the caller's event stream."""

import base64
import io
import json

import httpx
import numpy as np
from PIL import Image

from tests.e2e.stack import MASK, PHOTO
from tests.factories import multipart


def test_a_job_that_is_followed_with_previews_shows_what_it_will_look_like(client: httpx.Client) -> None:
    fields = {"num_inference_steps": "24", "seed": "3"}
    files = multipart(PHOTO.read_bytes(), MASK.read_bytes())
    job_id = client.post("/v1/inpaint", files=files, data=fields).json()["id"]
    previews, last = [], None
    with client.stream("GET", f"/v1/jobs/{job_id}/events?preview=1") as stream:
        for line in stream.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                last = json.loads(line.removeprefix("data: "))
                if kind == "preview":
                    previews.append(last)
    assert last and last["status"] == "succeeded"
    assert 0 < len(previews) <= 11
    assert {tuple(preview["box"]) for preview in previews} == {tuple(last["region"]["box"])}
    with Image.open(io.BytesIO(base64.b64decode(previews[-1]["image"].partition(",")[2]))) as shown:
        result = Image.open(io.BytesIO(client.get(f"/v1/jobs/{job_id}/images/0").content))
        small = result.convert("RGB").crop(last["region"]["box"]).resize(shown.size, Image.Resampling.BOX)
        assert np.abs(np.asarray(small, float) - np.asarray(shown, float)).mean() < 10

    without = client.post("/v1/inpaint", files=files, data=fields, headers={"Prefer": "wait=60"}).json()
    assert without["progress"]["preview_step"] is None
    first, second = [io.BytesIO(client.get(f"/v1/jobs/{one}/images/0").content) for one in (job_id, without["id"])]
    assert np.array_equal(np.asarray(Image.open(first)), np.asarray(Image.open(second)))
