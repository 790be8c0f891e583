"""The whole path through real processes: HTTP, Redis, RQ, the pocket model, PNG."""

import io
import json
import time
from datetime import datetime
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.e2e.stack import MASK, PHOTO, submit, wait_for

FAST = {"num_inference_steps": 3, "strength": 1, "seed": 1}


def png(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def pixels_of(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def result_of(client: httpx.Client, job: dict[str, Any], index: int = 0) -> bytes:
    response = client.get(job["images"][index]["url"])
    assert response.status_code == 200, response.text
    return response.content


def test_a_job_goes_from_upload_to_png(client: httpx.Client) -> None:
    response = submit(client, **FAST)
    assert response.status_code == 202, response.text
    job = wait_for(client, response.json()["id"])
    assert job["status"] == "succeeded", job
    assert job["attempt"] == 1 and job["seeds"] == [1]
    assert job["progress"] == {"step": 3, "steps": 3, "eta_ms": 0.0}
    photo, mask = pixels_of(PHOTO.read_bytes()), pixels_of(MASK.read_bytes())
    result = pixels_of(result_of(client, job))
    assert (result[mask == 0] == photo[mask == 0]).all()
    assert (result[mask > 0] != photo[mask > 0]).any()
    assert job["mask"]["changed_outside_mask"] == 0
    assert job["mask"]["coverage"] == pytest.approx((mask > 0).mean(), abs=1e-5)


def test_the_account_covers_the_time_from_submission_to_end_by_the_jobs_own_stamps(client: httpx.Client) -> None:
    """The stamps are the API's and RQ's; what is beside the account is the record's own writing."""
    began = time.perf_counter()
    job = submit(client, {"Prefer": "wait=60"}, num_inference_steps=60).json()
    wall_ms = (time.perf_counter() - began) * 1000
    timings, stamps = job["timings"], [datetime.fromisoformat(job[name]) for name in ("created_at", "ended_at")]
    lasted_ms = (stamps[1] - stamps[0]).total_seconds() * 1000
    assert lasted_ms / 2 < timings["total"] <= wall_ms
    assert timings["denoise"] >= (timings["steps"] - 1) * timings["step_p50"] / 2 > 0
    assert timings["steps"] == job["progress"]["steps"]


def test_a_waiting_call_can_be_answered_with_the_image_itself(client: httpx.Client) -> None:
    response = submit(client, {"Prefer": "wait=60", "Accept": "image/png"}, **FAST)
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    assert "denoise;dur=" in response.headers["server-timing"]
    with Image.open(io.BytesIO(response.content)) as image:
        image.load()
        told = json.loads(image.info["infill"])
    assert told["seed"] == 1 and told["mask"]["changed_outside_mask"] == 0
    assert told["timings"]["denoise"] > 0


def test_the_same_seed_gives_the_same_image_alone_and_among_others(client: httpx.Client) -> None:
    alone = submit(client, {"Prefer": "wait=60"}, **FAST).json()
    others = [submit(client, num_inference_steps=7, seed=seed).json()["id"] for seed in range(3)]
    again = submit(client, {"Prefer": "wait=60"}, **FAST).json()
    for other in others:
        assert wait_for(client, other)["status"] == "succeeded"
    first, second = (pixels_of(result_of(client, job)).astype(int) for job in (alone, again))
    assert np.abs(first - second).max() <= 1
    assert again["timings"]["batch_mean"] > 1


def test_n_images_have_n_seeds_and_differ(client: httpx.Client) -> None:
    job = submit(client, {"Prefer": "wait=60"}, n=2, **FAST).json()
    assert job["seeds"] == [1, 2]
    first, second = (pixels_of(result_of(client, job, index)).astype(int) for index in (0, 1))
    assert (first != second).any()
    alone = submit(client, {"Prefer": "wait=60"}, num_inference_steps=3, strength=1, seed=2).json()
    difference = second - pixels_of(result_of(client, alone)).astype(int)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(
    "fields",
    [
        {"mask_feather": 8},
        {"mask_grow": 10},
        {"mask_mode": "black"},
        {"crop": "off"},
        {"strength": 0.5, "masked_content": "fill"},
        {"strength": 0.5, "masked_content": "noise"},
        {"prompt": "red", "guidance_scale": 3, "scheduler": "euler"},
        {"scheduler": "dpmpp_2m_karras"},
        {"scheduler": "unipc"},
        {"scheduler": "euler_a"},
        {"scheduler": "ddpm"},
        {"cache_interval": 2},
    ],
    ids=str,
)
def test_nothing_changes_outside_the_mask_whatever_is_asked(client: httpx.Client, fields: dict[str, Any]) -> None:
    asked = {"num_inference_steps": 4, "seed": 1, **fields}
    job = submit(client, {"Prefer": "wait=60"}, **asked).json()
    assert job["status"] == "succeeded", job
    assert job["mask"]["changed_outside_mask"] == 0
    left, top, right, bottom = job["mask"]["bbox"]
    photo, result = pixels_of(PHOTO.read_bytes()).astype(int), pixels_of(result_of(client, job)).astype(int)
    changed = (photo != result).any(axis=2)
    changed[top:bottom, left:right] = False
    assert not changed.any()


def test_size_and_alpha_are_kept_for_odd_sizes(client: httpx.Client) -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (61, 203, 4), np.uint8)
    mask = np.zeros((61, 203), np.uint8)
    mask[20:50, 90:140] = 255
    response = client.post(
        "/v1/inpaint",
        files={"image": png(photo), "mask": png(mask)},
        data={"num_inference_steps": "2"},
        headers={"Prefer": "wait=60"},
    )
    result = pixels_of(result_of(client, response.json()))
    assert result.shape == photo.shape
    assert (result[..., 3] == photo[..., 3]).all()
    assert (result[mask == 0] == photo[mask == 0]).all()


def test_an_exif_rotated_photo_comes_back_upright(client: httpx.Client) -> None:
    upright = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    stored = png(np.rot90(upright, 1).copy(), exif=exif)
    mask = np.zeros((80, 120), np.uint8)
    mask[30:50, 30:60] = 255
    response = client.post(
        "/v1/inpaint",
        files={"image": stored, "mask": png(mask)},
        data={"num_inference_steps": "2"},
        headers={"Prefer": "wait=60"},
    )
    result = pixels_of(result_of(client, response.json()))
    assert result.shape == upright.shape
    assert (result[mask == 0] == upright[mask == 0]).all()


def test_a_running_job_can_be_canceled_within_a_step(client: httpx.Client) -> None:
    job_id = submit(client, num_inference_steps=200, crop="off").json()["id"]
    wait_for(client, job_id, "running")
    assert client.delete(f"/v1/jobs/{job_id}").status_code in (200, 202)
    assert wait_for(client, job_id, timeout_s=15)["status"] == "canceled"


def test_a_finished_job_cannot_be_canceled(client: httpx.Client) -> None:
    job = submit(client, {"Prefer": "wait=60"}, **FAST).json()
    response = client.delete(f"/v1/jobs/{job['id']}")
    assert response.status_code == 409
    assert response.json()["code"] == "job_already_finished"


def test_events_tell_the_progress_to_the_end(client: httpx.Client) -> None:
    job_id = submit(client, num_inference_steps=6).json()["id"]
    with client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        seen = [json.loads(line[5:]) for line in response.iter_lines() if line.startswith("data:")]
    assert seen[-1]["status"] == "succeeded"
    steps = [job["progress"]["step"] for job in seen]
    assert steps == sorted(steps)
