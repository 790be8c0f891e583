"""A hole that is larger than its model, through the whole stack: shrunk, then in tiles at native pixels."""

import io
import json
import time
from typing import Any

import httpx
import numpy as np
from PIL import Image

from tests.e2e.pictures import pixels_of
from tests.e2e.stack import result_of, wait_for
from tests.factories import noise, png

PHOTO = noise((440, 640, 3), seed=3)
HOLE = np.s_[30:410, 40:600]
BOX = "[40,30,600,410]"


def send(client: httpx.Client, **fields: Any) -> httpx.Response:
    data = {"mask_box": BOX, "seed": "1", "num_inference_steps": "4", **fields}
    return client.post("/v1/inpaint", files={"image": ("p.png", png(PHOTO))}, data=data)


def ended(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    answer = send(client, **fields)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = wait_for(client, answer.json()["id"])
    assert job["status"] == "succeeded", job
    return job


def test_a_large_hole_is_run_in_tiles_and_everything_says_so(client: httpx.Client) -> None:
    job = ended(client)
    assert job["region"]["tiles"] == 2 and job["region"]["scale"] < 1
    assert "shrunk" not in job["approximate"]
    assert job["progress"]["step"] == job["progress"]["steps"] == job["timings"]["steps"] == 4 + 2 * 1
    assert job["mask"]["changed_outside_mask"] == 0
    image = client.get(job["images"][0]["url"])
    assert image.headers["Infill-Region"].endswith("; tiles=2") and "shrunk" not in str(image.headers)
    with Image.open(io.BytesIO(image.content)) as picture:
        picture.load()
        assert json.loads(picture.info["infill"])["region"] == job["region"]
    result, outside = pixels_of(image.content), np.ones(PHOTO.shape[:2], bool)
    outside[HOLE] = False
    np.testing.assert_array_equal(result[outside], PHOTO[outside])
    again = pixels_of(result_of(client, ended(client, hires="tile")))
    np.testing.assert_array_equal(again, result)


def test_off_is_one_pass_and_another_picture(client: httpx.Client) -> None:
    job = ended(client, hires="off")
    assert "shrunk" in job["approximate"] and "tiles" not in job["region"] and job["timings"]["steps"] == 4


def test_a_wide_extension_is_run_in_tiles_and_the_photo_stays(client: httpx.Client) -> None:
    data = {"task": "extend", "extend": "0,0,560,0", "num_inference_steps": "4", "hires": "tile"}
    answer = client.post("/v1/inpaint", files={"image": ("p.png", png(PHOTO[:300]))}, data=data)
    job = wait_for(client, answer.json()["id"])
    assert job["status"] == "succeeded" and job["region"]["tiles"] == 2, job
    np.testing.assert_array_equal(pixels_of(result_of(client, job))[:, :640], PHOTO[:300])


def test_a_job_can_be_canceled_between_its_tiles(client: httpx.Client) -> None:
    job_id = send(client, num_inference_steps="24").json()["id"]
    deadline = time.monotonic() + 120
    while (progress := client.get(f"/v1/jobs/{job_id}").json()["progress"])["step"] <= 24:
        assert time.monotonic() < deadline, progress
        time.sleep(0.02)
    assert progress["steps"] == 24 + 2 * 6
    assert client.delete(f"/v1/jobs/{job_id}").status_code in (200, 202)
    assert wait_for(client, job_id)["status"] == "canceled"
    assert ended(client, hires="off")["status"] == "succeeded"
