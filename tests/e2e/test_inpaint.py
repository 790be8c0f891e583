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

from tests.e2e.pictures import pixels_of
from tests.e2e.stack import MASK, PHOTO, Stack, result_of, submit, wait_for
from tests.factories import mask_with, multipart, noise, png
from tests.icc_profiles import grey_profile
from tests.png_files import chunks_of, png_of

FAST: dict[str, Any] = {"num_inference_steps": 3, "strength": 1, "seed": 1}


def described(data: bytes) -> dict[str, Any]:
    """What a PNG says of itself."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        found: dict[str, Any] = json.loads(image.info["infill"])
    return found


def repaint(client: httpx.Client, photo: bytes, mask: np.ndarray, **fields: str) -> tuple[dict[str, Any], bytes]:
    """The job, and its image."""
    response = client.post(
        "/v1/inpaint",
        files=multipart(photo, png(mask)),
        data={"num_inference_steps": "2", **fields},
        headers={"Prefer": "wait=60"},
    )
    assert response.status_code == 200, response.text
    job = response.json()
    return job, result_of(client, job)


def test_a_job_goes_from_upload_to_png(client: httpx.Client) -> None:
    response = submit(client, **FAST)
    assert response.status_code == 202, response.text
    job = wait_for(client, response.json()["id"])
    assert job["status"] == "succeeded", job
    assert job["attempt"] == 1 and job["seeds"] == [1]
    assert job["progress"] == {"step": 3, "steps": 3, "eta_ms": 0.0, "preview_step": None}
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
    told = described(response.content)
    assert told["seed"] == 1 and told["mask"]["changed_outside_mask"] == 0
    assert told["timings"]["denoise"] > 0


@pytest.mark.parametrize(("words", "cut"), [(590, False), (610, True)])
def test_a_prompt_beyond_what_the_text_encoder_reads_is_named_with_the_image(
    client: httpx.Client, words: int, cut: bool
) -> None:
    response = submit(client, {"Accept": "image/png"}, prompt="a " * words, num_inference_steps=8, seed=1)
    expected = ["prompt_cut"] if cut else []
    assert response.headers.get("Infill-Approximate", "").split() == expected
    assert client.get(response.headers["Location"]).json()["approximate"] == expected
    assert described(response.content)["approximate"] == expected


def test_weights_act_where_the_syntax_asks_for_them_and_the_tokens_are_told(client: httpx.Client) -> None:
    asked: dict[str, Any] = {"num_inference_steps": 1, "seed": 1, "guidance_scale": 3}
    plain, weighted, none, long = (
        submit(client, {"Prefer": "wait=60"}, **asked, **fields).json()
        for fields in (
            {"prompt": "red"},
            {"prompt": "(red:1.9)", "prompt_syntax": "a1111"},
            {"prompt": "(red:1)", "prompt_syntax": "a1111", "negative_prompt": ""},
            {"prompt": "red " * 100},
        )
    )
    images = [client.get(job["images"][0]["url"]) for job in (plain, weighted, none)]
    assert plain["prompt_tokens"] == weighted["prompt_tokens"] == {"used": 1, "limit": 600, "cut": 0}
    assert long["prompt_tokens"] == {"used": 100, "limit": 600, "cut": 0} and "prompt_cut" not in long["approximate"]
    assert plain["negative_prompt_tokens"] == {"used": 0, "limit": 600, "cut": 0}
    red, redder, same = (np.asarray(Image.open(io.BytesIO(image.content))) for image in images)
    assert (red == same).all() and (red != redder).any()
    refused = submit(client, prompt="(red:11)", prompt_syntax="a1111")
    assert refused.status_code == 422 and refused.json()["detail"].startswith("prompt: 'red' has the weight 11")


def test_the_logs_are_lines_of_json_without_a_word_of_a_prompt(client: httpx.Client, stack: Stack) -> None:
    long = {"prompt": "crimson " + "a " * 620, "negative_prompt": "turquoise " * 80, "guidance_scale": 2}
    job = submit(client, {"Prefer": "wait=60"}, num_inference_steps=1, **long).json()
    assert "prompt_cut" in job["approximate"]
    for process in (*stack.apis, *stack.workers):
        log = process.log.read_text()
        assert "crimson" not in log and "turquoise" not in log
        lines = [json.loads(line) for line in log.splitlines()]
        assert not any(line["logger"].startswith("rq") and line["level"] == "info" for line in lines)


def test_the_workers_line_of_a_jobs_end_has_the_id_of_the_request_that_submitted_it(
    client: httpx.Client, stack: Stack
) -> None:
    job = submit(client, {"Prefer": "wait=60", "X-Request-ID": "from-the-proxy-7"}, num_inference_steps=1).json()
    while job["id"] not in (log := stack.workers[0].log.read_text()):
        time.sleep(0.05)
    (line,) = [line for line in map(json.loads, log.splitlines()) if line.get("job_id") == job["id"]]
    assert (line["event"], line["request_id"], line["outcome"]) == ("job_ended", "from-the-proxy-7", "succeeded")
    assert line["timings"]["total"] == job["timings"]["total"]


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
    images = [result_of(client, job, index) for index in (0, 1)]
    assert [described(image)["seed"] for image in images] == [1, 2]
    first, second = (pixels_of(image).astype(int) for image in images)
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
        {"scheduler": "dpmpp_2m"},
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
    mask = mask_with(np.s_[20:50, 90:140], (61, 203))
    result = pixels_of(repaint(client, png(photo), mask)[1])
    assert result.shape == photo.shape
    assert (result[mask == 255, 3] == 255).all()
    assert (result[mask == 0] == photo[mask == 0]).all()


def ask_for_image(client: httpx.Client, photo: np.ndarray, mask: np.ndarray, **fields: Any) -> httpx.Response:
    return client.post(
        "/v1/inpaint",
        files=multipart(png(photo), png(mask)),
        data={"num_inference_steps": "2", **{name: str(value) for name, value in fields.items()}},
        headers={"Prefer": "wait=60", "Accept": "image/png"},
    )


def dark_square(size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """A dark square on a light ground, and a mask of it."""
    photo, mask = np.full((size, size, 3), 200, np.uint8), np.zeros((size, size), np.uint8)
    photo[size // 3 : size // 2, size // 3 : size // 2] = 20
    mask[size // 3 - 8 : size // 2 + 8, size // 3 - 8 : size // 2 + 8] = 255
    return photo, mask


@pytest.mark.parametrize(("black", "white"), [(1, 255), (0, 254), (6, 248)])
def test_a_mask_that_is_not_quite_black_and_white_is_obeyed(client: httpx.Client, black: int, white: int) -> None:
    photo, mask = dark_square()
    response = ask_for_image(client, photo, np.where(mask, np.uint8(white), np.uint8(black)))
    assert response.status_code == 200, response.text
    assert np.abs(pixels_of(response.content).astype(int) - 200).max() < 12
    job = client.get(response.headers["Location"]).json()
    noisy = (mask == 0).sum() * (black > 0) + (mask > 0).sum() * (white < 255)
    assert job["mask"]["snapped"] == noisy and not job["mask"]["soft"]
    told = described(response.content)["mask"]
    assert told == {name: job["mask"][name] for name in told}
    assert job["mask"]["coverage"] == pytest.approx((mask > 0).mean(), abs=1e-5)


def test_a_mask_of_0_and_1_is_refused_until_its_scale_is_given(client: httpx.Client) -> None:
    photo, mask = dark_square()
    refused = ask_for_image(client, photo, mask // 255)
    assert (refused.status_code, refused.json()["code"]) == (422, "doubtful_mask")
    assert "largest grey value is 1 of 255" in refused.json()["detail"]
    taken = ask_for_image(client, photo, mask // 255, mask_scale="binary")
    assert taken.status_code == 200, taken.text
    read, told = client.get(taken.headers["Location"]).json()["mask"], described(taken.content)["mask"]
    assert read["scale"] == "binary" and told == {name: read[name] for name in told}
    assert np.abs(pixels_of(taken.content).astype(int) - 200).max() < 12


def test_a_mask_of_the_whole_picture_is_refused_by_a_model_that_paints_from_surroundings(client: httpx.Client) -> None:
    photo, mask = dark_square()
    refused = ask_for_image(client, photo, np.full_like(mask, 255))
    assert (refused.status_code, refused.json()["code"]) == (422, "no_surroundings")
    grown = ask_for_image(
        client, photo, np.where(mask < 1, np.uint8(0), mask), mask_grow=250
    )  # found out by the worker
    assert (grown.status_code, grown.json()["code"]) == (422, "no_surroundings")


def test_one_file_can_be_photo_and_mask_and_what_is_painted_is_seen(client: httpx.Client) -> None:
    photo, mask = dark_square()
    both = np.dstack([photo, 255 - mask])
    response = ask_for_image(client, both, both, mask_mode="alpha")
    assert response.status_code == 200, response.text
    result = pixels_of(response.content)
    assert (result[..., 3] == 255).all() and np.abs(result[..., :3].astype(int) - 200).max() < 12


def test_a_shrunk_hole_is_named_with_its_scale(client: httpx.Client) -> None:
    photo, mask = dark_square(1500)
    mask[100:1400, 100:1300] = 255
    response = ask_for_image(client, photo, mask)
    assert response.status_code == 200, response.text
    job = client.get(response.headers["Location"]).json()
    region = job["region"]
    assert "shrunk" in job["approximate"] and "shrunk" in response.headers["Infill-Approximate"]
    assert max(region["run_px"]) <= 512 and region["scale"] < 0.4
    left, top, right, bottom = region["box"]
    assert left < 100 and top < 100 and right > 1300 and bottom > 1400
    assert region["scale"] == pytest.approx(max(region["run_px"]) / max(right - left, bottom - top), abs=1e-5)
    box = ",".join(str(side) for side in region["box"])
    assert response.headers["Infill-Region"].startswith(f"box={box}; run_px=")
    told = described(response.content)
    assert told["region"] == region and told["approximate"] == job["approximate"]


def test_a_long_thin_strip_is_painted(client: httpx.Client) -> None:
    photo, mask = np.full((1, 100_000, 3), 200, np.uint8), np.zeros((1, 100_000), np.uint8)
    mask[:, 20_000:80_000] = 255
    response = ask_for_image(client, photo, mask)
    assert response.status_code == 200, response.text
    assert pixels_of(response.content).shape == photo.shape
    assert client.get(response.headers["Location"]).json()["attempt"] == 1


def test_an_exif_rotated_photo_comes_back_upright(client: httpx.Client) -> None:
    upright = noise((80, 120, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    stored = png(np.rot90(upright, 1).copy(), exif=exif)
    mask = mask_with(np.s_[30:50, 30:60], (80, 120))
    result = pixels_of(repaint(client, stored, mask)[1])
    assert result.shape == upright.shape
    assert (result[mask == 0] == upright[mask == 0]).all()


def test_a_grey_photo_keeps_its_grey_and_its_profile_and_its_result_is_taken_again(client: httpx.Client) -> None:
    photo = noise((80, 120))
    mask = mask_with(np.s_[30:50, 30:60], (80, 120))
    profile = grey_profile(1.0)
    job, result = repaint(client, png(photo, icc_profile=profile), mask)
    picture = job["picture"]
    assert (picture["mode"], picture["color"], picture["color_action"]) == ("grey", "icc", "carried")
    assert picture["input_bytes"] == len(png(photo, icc_profile=profile))
    assert "depth_reduced" not in job["approximate"]
    assert (pixels_of(result)[mask == 0] == photo[mask == 0]).all()
    job, coloured = repaint(client, result, mask, output_color="rgb")
    assert job["picture"]["color_action"] == "converted"
    assert pixels_of(result).shape == (80, 120) and pixels_of(coloured).shape == (80, 120, 3)
    with Image.open(io.BytesIO(result)) as first, Image.open(io.BytesIO(coloured)) as second:
        assert (first.info["icc_profile"], second.info["srgb"]) == (profile, 0)


def test_16_bits_and_a_cicp_chunk_are_named_and_the_chunk_is_carried(client: httpx.Client) -> None:
    photo = np.random.default_rng(0).integers(0, 65_536, (80, 120, 3), np.uint16)
    mask = mask_with(np.s_[30:50, 30:60], (80, 120))
    job, result = repaint(client, png_of(photo, 16, 2, (b"cICP", b"\x0c\x0d\0\1")), mask)
    assert "depth_reduced" in job["approximate"] and job["approximate"] == described(result)["approximate"]
    assert (job["picture"]["bits"], job["picture"]["color"]) == (16, "cicp")
    assert (b"cICP", b"\x0c\x0d\0\1") in chunks_of(result)
    assert (pixels_of(result)[mask == 0] == np.rint(photo / 257)[mask == 0]).all()


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
