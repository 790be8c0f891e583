"""The service says no in time, exactly, and without a trace."""

import asyncio

import anyio
import anyio.to_thread
import httpx
import pytest
from redis import Redis

from app.settings import ApiSettings
from jobs import keys
from jobs.speed import Speed
from tests.app.pictures import photo
from tests.app.problems import assert_problem
from tests.app.serving import serve
from tests.app.settling import Settler, inputs_of, our_keys
from tests.app.submissions import files, submit
from tests.factories import encoded, presence, worker_speed

pytestmark = pytest.mark.anyio


async def test_the_queue_limit_is_exact_under_32_concurrent_submitters(redis_url: str, connection: Redis) -> None:
    settings = ApiSettings(redis_url=redis_url, queue_limit=10)
    async with serve(settings) as one, serve(settings) as two:  # as two replicas
        responses = await asyncio.gather(*(submit(client) for client in [one, two] * 16))
    accepted = {response.json()["id"] for response in responses if response.status_code == 202}
    refused = [response for response in responses if response.status_code != 202]
    assert (len(accepted), len(refused)) == (10, 22)
    for response in refused:
        assert_problem(response, 429, "queue_full")
    pixels = {name for name in our_keys(connection) if name.endswith((":image", ":mask"))}
    assert pixels == set().union(*map(inputs_of, accepted))


async def test_a_callers_limit_of_jobs_is_exact_under_30_submitters_while_workers_take_its_jobs(
    redis_url: str, settler: Settler
) -> None:
    settings = ApiSettings(redis_url=redis_url, caller_jobs=4)
    taken, submitted = [], anyio.Event()

    def take() -> None:
        if settler.queue.depth():
            taken.append(settler.take().id)

    async def take_all() -> None:
        while not submitted.is_set():
            await anyio.to_thread.run_sync(take)
            await anyio.sleep(0.001)

    async with serve(settings) as one, serve(settings) as two, anyio.create_task_group() as tasks:
        tasks.start_soon(take_all)
        responses = await asyncio.gather(*(submit(client) for client in [one, two] * 15))
        submitted.set()
    accepted = {response.json()["id"] for response in responses if response.status_code == 202}
    assert len(accepted) == 4 and taken
    for response in responses:
        if response.status_code != 202:
            assert_problem(response, 429, "quota_exceeded")
    for job_id in taken[:3]:
        settler.succeed(job_id, [b"png"])
    async with serve(settings) as client:
        responses = await asyncio.gather(*(submit(client) for _ in range(10)))
    assert [response.status_code for response in responses].count(202) == len(taken[:3])


async def test_retry_after_is_computed_from_the_measured_drain_rate(redis_url: str, settler: Settler) -> None:
    now = float(settler.queue.connection.time()[0])
    async with serve(ApiSettings(redis_url=redis_url, queue_limit=4)) as client:
        for _ in range(4):
            await submit(client)
        assert (await submit(client)).headers["Retry-After"] == "5"  # nothing measured yet
        settler.queue.connection.lpush(keys.ENDED, *(now - age for age in range(20, 0, -2)))
        retry_after_s = int((await submit(client)).headers["Retry-After"])
    assert 7 <= retry_after_s <= 10  # 4 jobs at 10 in 20 s


async def test_retry_after_and_etas_are_foretold_from_what_the_waiting_jobs_cost(
    redis_url: str, settler: Settler
) -> None:
    speed = Speed(area_px=256 * 256, pass_s=0.5, row_s=0.5, codec_s=0.0)
    told = worker_speed(models={"pocket": [speed]})
    settler.queue.store.announce(presence("w"), 60, told)
    etas_s = []
    async with serve(ApiSettings(redis_url=redis_url, queue_limit=3)) as client:
        for steps in (10, 20, 4):
            job = (await submit(client, num_inference_steps=steps, strength=1.0)).json()
            etas_s.append(job["progress"]["eta_ms"] / 1000)
        response = await submit(client)
    assert etas_s == pytest.approx([5, 15, 17], abs=0.3)
    assert_problem(response, 429, "queue_full")
    assert response.headers["Retry-After"] == "5"  # the second of three is then taken up


async def test_a_store_above_its_share_is_full(redis_url: str, connection: Redis) -> None:
    async with serve(ApiSettings(redis_url=redis_url, memory_share=0.5)) as client:
        connection.config_set("maxmemory", int(connection.info("memory")["used_memory"] * 1.5))
        response = await submit(client)
        ready = await client.get("/readyz")
    assert_problem(response, 503, "store_full")
    assert int(response.headers["Retry-After"]) >= 1
    assert ready.status_code == 503
    assert not our_keys(connection)


async def test_uploads_and_results_that_do_not_fit_now_are_refused_before_they_are_written(
    redis_url: str, connection: Redis
) -> None:
    async with serve(ApiSettings(redis_url=redis_url, memory_share=1.0)) as client:
        await client.get("/v1/workers")
        for _ in range(2000):  # in small pieces: of a large one Redis keeps a buffer for a while, which counts as used
            connection.append("other", b"x" * 20_000)
        image = encoded(photo((1600, 1200)), "TIFF")  # 5.8 MB
        connection.config_set("maxmemory", connection.info("memory")["used_memory"] + 2_000_000)
        response = await client.post("/v1/inpaint", files=files(image, encoded(photo((1600, 1200), "L"), "TIFF")))
        connection.delete("other")
    assert_problem(response, 503, "store_full")
    assert not our_keys(connection)


async def test_a_request_whose_results_can_never_fit_is_too_large_and_says_what_helps(
    redis_url: str, connection: Redis
) -> None:
    async with serve(ApiSettings(redis_url=redis_url)) as client:
        connection.config_set("maxmemory", 50_000_000)
        pair = files(encoded(photo((2000, 1500)), "JPEG"), encoded(photo((2000, 1500), "L"), "PNG"))
        response = await client.post("/v1/inpaint", files=pair, data={"n": "8"})
        assert "Lower n" in assert_problem(response, 413, "too_large")["detail"]
        assert not our_keys(connection)
        assert (await client.post("/v1/inpaint", files=pair, data={"n": "1"})).status_code == 202


async def test_a_queue_with_room_again_takes_jobs_again(redis_url: str, settler: Settler) -> None:
    async with serve(ApiSettings(redis_url=redis_url, queue_limit=1)) as client:
        job_id = (await submit(client)).json()["id"]
        assert_problem(await submit(client), 429, "queue_full")
        settler.start(job_id)
        assert (await submit(client)).status_code == 202


async def test_a_full_queue_refuses_before_anything_is_decoded(redis_url: str) -> None:
    async with serve(ApiSettings(redis_url=redis_url, queue_limit=1)) as client:
        await submit(client)
        response = await client.post("/v1/inpaint", files=files(b"not even a picture"))
    assert_problem(response, 429, "queue_full")


async def test_decoding_a_large_upload_does_not_hold_up_other_requests(client: httpx.AsyncClient) -> None:
    image = encoded(photo((2400, 1600)), compress_level=1)
    mask = encoded(photo((2400, 1600), "L"), compress_level=1)
    submitting = asyncio.create_task(client.post("/v1/inpaint", files=files(image, mask)))
    slowest = 0.0
    while not submitting.done():
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(0.005)
        assert (await client.get("/healthz")).status_code == 200
        slowest = max(slowest, asyncio.get_running_loop().time() - began)
    assert (await submitting).status_code == 202
    assert slowest < 0.5
