"""Room in Redis is reserved for results at submission, exactly, and given back at a job's end, however it ends."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from redis import Redis
from rq.job import JobStatus as RqStatus

from jobs import keys
from jobs.errors import NotStored, StoreFull, TooLarge
from jobs.outputs import METADATA_BYTES, SIGNATURE_BYTES
from jobs.previews import MAX_BYTES
from jobs.queue import Idempotency, JobQueue
from jobs.room import AROUND_BYTES, record_forgotten_ends, results_at_most
from jobs.schema import OutputColor, OutputFormat
from tests import png_files
from tests.factories import encoded
from tests.icc_profiles import grey_profile, rgb_profile
from tests.jobs.submissions import MASK, PARAMETERS, queue_with
from tests.png_files import png_of
from worker.pixels.encoding import writer_of
from worker.pixels.pictures import decode
from worker.pixels.png import PngWriter

MB = 1_000_000


def with_room_for(connection: Redis, size_bytes: int, filler_bytes: int = 100 * MB) -> None:
    """Of a Redis that is large enough for anything here, leave this much, whatever connections take."""
    connection.set("filler", bytes(filler_bytes))
    while connection.info("memory")["used_memory"] > 1.1 * filler_bytes + 10 * MB:
        time.sleep(0.02)  # what it was received in is given back a moment later
    connection.config_set("maxmemory", int((connection.info("memory")["used_memory"] + size_bytes) / 0.8))


def submit(queue: JobQueue, result_bytes: int, key: Idempotency | None = None) -> str:
    return queue.submit(PARAMETERS, MASK, {"image": b"image", "mask": b"mask"}, key, result_bytes=result_bytes).job_id


def reserved(queue: JobQueue) -> int:
    return queue.room.memory().reserved


def test_reservations_are_exact_under_32_threads_of_several_processes(connection: Redis) -> None:
    queues = [queue_with(connection) for _ in range(4)]
    with_room_for(connection, 75 * MB)
    together = threading.Barrier(32)

    def attempt(number: int) -> bool:
        together.wait()
        try:
            submit(queues[number % 4], 10 * MB)
        except StoreFull as error:
            assert 1 <= error.retry_after_s <= 60
            return False
        return True

    with ThreadPoolExecutor(32) as pool:
        accepted = sum(pool.map(attempt, range(32)))
    assert (accepted, queues[0].depth(), reserved(queues[0])) == (7, 7, 70 * MB)


def test_a_canceled_job_gives_its_room_back(connection: Redis) -> None:
    queue = queue_with(connection)
    with_room_for(connection, 15 * MB)
    job_id = submit(queue, 10 * MB)
    with pytest.raises(StoreFull):
        submit(queue, 10 * MB)
    queue.cancel(job_id)
    assert reserved(queue) == 0
    assert submit(queue, 10 * MB)


@pytest.mark.parametrize("end", ["noted", "while nobody noted it", "with its record"])
def test_an_ended_job_gives_its_room_back_however_it_ended(connection: Redis, end: str) -> None:
    queue = queue_with(connection)
    with_room_for(connection, 15 * MB)
    job = queue.job(submit(queue, 10 * MB))
    connection.delete(queue.rq.key)
    if end == "noted":
        queue.store.record_end(job.id)
        assert reserved(queue) == 0
    elif end == "while nobody noted it":
        job.set_status(RqStatus.FINISHED)
    else:
        connection.delete(job.key)
    assert submit(queue, 10 * MB)
    assert reserved(queue) == 10 * MB


def test_what_nobody_noted_is_noted_once_and_living_jobs_keep_their_room(connection: Redis) -> None:
    queue = queue_with(connection)
    ended, waiting, running = (queue.job(submit(queue, MB)) for _ in range(3))
    ended.set_status(RqStatus.FAILED)
    running.set_status(RqStatus.STARTED)
    for _ in range(2):
        record_forgotten_ends(queue.store)
    assert connection.hgetall(keys.RESERVED).keys() == {waiting.id.encode(), running.id.encode()}
    assert connection.llen(keys.ENDED) == 1 and not connection.exists(keys.picture(ended.id, "image"))
    assert connection.exists(keys.picture(waiting.id, "image"), keys.picture(running.id, "image")) == 2


def test_a_repeated_key_reserves_once_and_a_refused_job_reserves_nothing(connection: Redis) -> None:
    queue = queue_with(connection)
    key = Idempotency("digest", "fingerprint")
    assert submit(queue, MB, key) == submit(queue, MB, key)
    with_room_for(connection, MB)
    with pytest.raises(StoreFull):
        submit(queue, 10 * MB)
    assert reserved(queue) == MB and len(connection.keys("infill:*:image")) == 1


def test_what_an_empty_redis_has_no_room_for_is_too_large(connection: Redis) -> None:
    queue = queue_with(connection)
    connection.config_set("maxmemory", 1000 * MB)
    with pytest.raises(TooLarge, match="Lower n or send a smaller picture"):
        submit(queue, 800 * MB)
    assert connection.dbsize() == 0
    assert submit(queue, 700 * MB)


def test_a_redis_without_limit_has_room_for_anything(connection: Redis) -> None:
    assert submit(queue_with(connection), 2**50)


def test_a_full_stores_retry_after_is_the_next_expiry_of_results(connection: Redis) -> None:
    queue = queue_with(connection, result_ttl_s=3600, record_ttl_s=86_400)
    now = connection.time()[0]
    ends = {"expired already": now + 80_000, "next": now + 86_400 - 3600 + 500, "later": now + 86_400 - 3600 + 900}
    connection.zadd(queue.rq.finished_job_registry.key, ends)
    assert 498 <= queue.room.retry_after_s() <= 500
    submit(queue, MB)
    assert queue.room.retry_after_s() == 60  # it may end at any time, and its result be smaller
    connection.zadd(queue.rq.finished_job_registry.key, {"next": now + 86_400 - 3600})
    assert queue.room.retry_after_s() == 1


def test_a_result_of_several_images_is_stored_whole_or_not_at_all(connection: Redis) -> None:
    """Redis' own overhead decides whether the last image fits."""
    store, images = queue_with(connection).store, [bytes(MB)] * 8
    for room in (20 * MB, 8 * MB + 2000, 8 * MB - 2000, 4 * MB):
        connection.config_set("maxmemory", connection.info("memory")["used_memory"] + room)
        try:
            store.put_results("j", images)
            assert len(connection.keys("infill:j:result:*")) == 8
        except NotStored:
            assert room < 20 * MB and connection.keys("infill:j:result:*") == []
        connection.config_set("maxmemory", 0)
        connection.delete(*(keys.result("j", index) for index in range(8)))


RNG = np.random.default_rng(5)
NOISE = {
    "L": RNG.integers(0, 256, (301, 203), np.uint8),
    "LA": RNG.integers(0, 256, (301, 203, 2), np.uint8),
    "RGB": RNG.integers(0, 256, (301, 203, 3), np.uint8),
    "RGBA": RNG.integers(0, 256, (301, 203, 4), np.uint8),
}
PROFILES = {"L": grey_profile(2.2, 300_000), "LA": grey_profile(2.2, 300_000)}


@pytest.mark.parametrize("color", ["auto", "rgb"])
@pytest.mark.parametrize(
    ("mode", "kind"),
    [("L", "PNG"), ("LA", "PNG"), ("RGB", "PNG"), ("RGBA", "PNG"), ("RGB", "JPEG"), ("L", "JPEG"), ("RGBA", "TIFF")],
)
def test_the_bound_holds_for_pixels_that_cannot_be_compressed_and_is_not_far_above(
    mode: str, kind: str, color: OutputColor
) -> None:
    parameters = PARAMETERS.model_copy(update={"output_color": color, "n": 2})
    image = encoded_noise(mode, kind)
    picture = decode(image, color)
    height, width = NOISE[mode].shape[:2]
    channels = picture.channels_of(picture.pixels)
    noise = RNG.integers(0, 256, channels.shape, np.uint8)
    carried = RNG.bytes(METADATA_BYTES)
    png = PngWriter(noise, (*picture.chunks, (b"eXIf", carried))).finish({"infill": "x" * 4000}, carried)
    bound = results_at_most(parameters, image, (width, height))
    assert 2 * (len(png) + SIGNATURE_BYTES) + MAX_BYTES <= bound
    if kind == "PNG" and (color == "auto" or mode.startswith("RGB")):
        assert bound < 2 * (1.1 * len(png) + SIGNATURE_BYTES) + 3 * 20_000


@pytest.mark.parametrize("mode", NOISE)
def test_the_bound_holds_for_16_bits_that_cannot_be_compressed_and_is_not_far_above(mode: str) -> None:
    parameters = PARAMETERS.model_copy(update={"bit_depth": "keep"})
    deep = RNG.integers(0, 65_536, NOISE[mode].shape, np.uint16)
    height, width = deep.shape[:2]
    kind = {"L": png_files.GREY, "LA": png_files.GREY_ALPHA, "RGB": png_files.RGB, "RGBA": png_files.RGB_ALPHA}[mode]
    image = png_of(deep, 16, kind)
    written = len(PngWriter(deep).finish({"infill": "x" * 4000}))
    bound, bound_of_8 = (results_at_most(each, image, (width, height)) for each in (parameters, PARAMETERS))
    assert written + MAX_BYTES <= bound
    assert deep.nbytes / 2 <= bound - bound_of_8 <= 1.02 * deep.nbytes / 2
    of_8_bits = encoded_noise(mode, "PNG")
    assert results_at_most(parameters, of_8_bits, (width, height)) == results_at_most(
        PARAMETERS, of_8_bits, (width, height)
    )


HARSH = {mode: np.where(noise < 128, np.uint8(0), np.uint8(255)) for mode, noise in NOISE.items()}


@pytest.mark.parametrize("pixels", [NOISE, HARSH], ids=["noise", "noise of 0 and 255"])
@pytest.mark.parametrize("quality", [1, 50, 90, 91, 100])
@pytest.mark.parametrize(
    ("output_format", "mode"),
    [(kind, mode) for kind in ("jpeg", "webp", "avif") for mode in NOISE if kind != "jpeg" or "A" not in mode],
)
def test_the_bound_holds_for_every_format_and_quality(
    output_format: OutputFormat, mode: str, quality: int, pixels: dict[str, np.ndarray]
) -> None:
    parameters = PARAMETERS.model_copy(update={"output_format": output_format, "output_quality": quality})
    image, (height, width) = encoded(Image.fromarray(pixels[mode])), pixels[mode].shape[:2]
    data = writer_of(parameters, pixels[mode], ()).finish({"infill": ""})
    around = 2 * AROUND_BYTES + MAX_BYTES
    assert len(data) <= results_at_most(parameters, image, (width, height)) - around


def encoded_noise(mode: str, kind: str) -> bytes:
    """With a profile that does not compress either."""
    profile = PROFILES.get(mode) or rgb_profile(2.2, 300_000)
    return encoded(Image.fromarray(NOISE[mode], mode), kind, icc_profile=profile)
