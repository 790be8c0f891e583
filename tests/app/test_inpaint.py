"""``POST /v1/inpaint``: from a form to a job in RQ."""

import io
from typing import Any

import httpx
import pytest
from PIL import Image, ImageOps
from redis import Redis

from jobs import keys
from jobs.catalog import last_seed
from jobs.queue import parameters_of
from jobs.schema import MAX_SEED
from tests.app.pictures import BOX, SIZE, box_mask, photo
from tests.app.problems import assert_problem
from tests.app.settling import Settler, inputs_of, our_keys
from tests.app.submissions import files, submit
from tests.factories import encoded

pytestmark = pytest.mark.anyio


async def test_a_submission_is_answered_202_with_the_job_and_its_address(client: httpx.AsyncClient) -> None:
    response = await submit(client, prompt="a red ball", seed="7")
    job = response.json()
    assert response.status_code == 202
    assert response.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert (job["status"], job["queue_position"], job["attempt"], job["seeds"]) == ("queued", 0, 0, [7])
    assert job["mask"]["bbox"] == list(BOX)
    assert job["mask"]["coverage"] == 24 * 24 / (SIZE[0] * SIZE[1])
    assert (await client.get(response.headers["Location"])).json() == job


async def test_the_job_carries_parameters_and_no_pixels(
    client: httpx.AsyncClient, connection: Redis, settler: Settler
) -> None:
    response = await submit(client, prompt="a red ball")
    job_id = response.json()["id"]
    job = settler.queue.job(job_id)
    assert parameters_of(job).prompt == "a red ball"
    assert job.description == "inpaint"
    assert {"prompt", "seed", "scheduler"} <= set(job.kwargs)
    rq_keys = {f"rq:job:{job_id}", "rq:queue:inpaint"}
    stored = {*inputs_of(job_id), keys.caller(job_id), keys.workload(job_id), keys.RESERVED, *rq_keys}
    assert our_keys(connection) == stored


async def test_the_image_is_stored_as_it_was_uploaded(client: httpx.AsyncClient, settler: Settler) -> None:
    image = encoded(photo(), "JPEG", quality=90)
    response = await client.post("/v1/inpaint", files=files(image))
    assert settler.queue.store.inputs(response.json()["id"])["image"] == image


async def test_the_colour_of_the_result_is_the_jobs(client: httpx.AsyncClient, settler: Settler) -> None:
    asked: list[dict[str, Any]] = [{}, {"output_color": "rgb"}]
    jobs = [settler.queue.job((await submit(client, **fields)).json()["id"]) for fields in asked]
    assert [parameters_of(job).output_color for job in jobs] == ["auto", "rgb"]
    assert "output_color" not in jobs[0].kwargs
    refused = await submit(client, output_color="cmyk")
    assert refused.status_code == 422 and "output_color" in refused.text


async def test_the_mask_is_stored_as_it_was_read(client: httpx.AsyncClient, settler: Settler) -> None:
    """White is repainted there, whatever the upload meant by it."""
    uploaded = box_mask()
    job = (await client.post("/v1/inpaint", files=files(mask=encoded(uploaded)), data={"mask_mode": "black"})).json()
    assert job["mask"]["mode"] == "black"
    stored = settler.queue.store.inputs(job["id"])["mask"]
    assert stored is not None
    with Image.open(io.BytesIO(stored)) as mask:
        assert (mask.mode, mask.tobytes()) == ("L", ImageOps.invert(uploaded).tobytes())


async def test_what_a_request_gives_up_for_speed_goes_along(client: httpx.AsyncClient, settler: Settler) -> None:
    asked: list[dict[str, Any]] = [{"cache_interval": 2}, {}]
    approximate, exact = [
        settler.queue.job((await submit(client, **fields)).json()["id"]).meta["approximate"] for fields in asked
    ]
    assert approximate and not exact


async def test_absent_fields_take_the_models_defaults_and_a_random_seed(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    jobs = [settler.queue.job((await submit(client)).json()["id"]) for _ in range(2)]
    first, second = (parameters_of(job) for job in jobs)
    assert (first.model, first.num_inference_steps, first.scheduler) == ("pocket", 8, "ddim")
    assert first.seed != second.seed
    assert first.model_copy(update={"seed": 0}) == second.model_copy(update={"seed": 0})


async def test_image_k_of_n_is_announced_with_seed_plus_k(client: httpx.AsyncClient) -> None:
    assert (await submit(client, n="3", seed="5")).json()["seeds"] == [5, 6, 7]


async def test_an_empty_value_counts_as_absent(client: httpx.AsyncClient) -> None:
    response = await submit(client, seed="", guidance_scale="", mask_mode="")
    assert response.status_code == 202


@pytest.mark.parametrize(("seed", "n"), [(MAX_SEED, 1), (MAX_SEED - 1, 2), (MAX_SEED - 7, 8)])
async def test_every_seed_that_is_reported_can_be_sent_again(client: httpx.AsyncClient, seed: int, n: int) -> None:
    seeds = (await submit(client, seed=str(seed), n=str(n))).json()["seeds"]
    assert seeds == list(range(seed, MAX_SEED + 1))
    for again in seeds:
        assert (await submit(client, seed=str(again))).json()["seeds"] == [again]


@pytest.mark.parametrize(("seed", "n"), [(MAX_SEED, 2), (MAX_SEED - 6, 8)])
async def test_a_seed_whose_last_image_would_have_none_is_refused(
    client: httpx.AsyncClient, connection: Redis, seed: int, n: int
) -> None:
    problem = assert_problem(await submit(client, seed=str(seed), n=str(n)), 422, "invalid_field")
    assert problem["detail"].startswith("seed, n: ")
    assert f"send a seed up to {MAX_SEED - n + 1}" in problem["detail"]
    assert not our_keys(connection)


def test_a_seed_that_is_drawn_leaves_room_for_all_images() -> None:
    assert [last_seed(n) + n - 1 for n in range(1, 9)] == [MAX_SEED] * 8
