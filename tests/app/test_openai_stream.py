"""The stream of OpenAI's image edits, over real sockets: partial images, comments that keep it open, and its ends."""

import base64
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from PIL import Image

from app.dialects.openai.stream import FRAME_PX, framed
from app.settings import ApiSettings
from jobs import keys
from jobs.previews import Preview
from jobs.schema import JobProblem
from tests.app.processes import ApiProcess
from tests.app.serving import serve
from tests.app.settling import Settler
from tests.app.submissions import files
from tests.app.waiting import until
from tests.factories import encoded

Event = tuple[str, dict[str, Any]]


def small(width: int = 8, height: int = 6) -> str:
    data = encoded(Image.new("RGB", (width, height), (200, 0, 0)), "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def preview_of(step: int = 10, **changed: Any) -> Preview:
    fields = {"step": step, "steps": 20, "box": (0, 0, 64, 48), "size": (64, 48), "image": small()}
    return Preview.model_validate(fields | changed)


@contextmanager
def streamed(api: ApiProcess, **fields: str) -> Iterator[tuple[httpx.Response, Iterator[str]]]:
    """A stream whose headers have come, and its lines."""
    data = {"stream": "true", "num_inference_steps": "20"} | fields
    with httpx.stream("POST", f"{api.url}/v1/images/edits", data=data, files=files(), timeout=20) as answer:
        if answer.status_code != 200:
            answer.read()
        yield answer, answer.iter_lines()


def next_event(lines: Iterator[str]) -> Event:
    """The next one that is no comment."""
    name = next(line for line in lines if line.startswith("event: "))
    return name.removeprefix("event: "), json.loads(next(lines).removeprefix("data: "))


def show(settler: Settler, job_id: str, preview: Preview) -> None:
    with settler.queue.connection.pipeline() as pipeline:
        settler.queue.store.previews.write(pipeline, job_id, preview.model_dump_json())
        settler.queue.store.write_progress(pipeline, job_id, step=preview.step, preview_step=preview.step)
        pipeline.execute()


def test_partial_images_come_while_the_job_runs_and_the_completed_one_at_its_end(
    api: ApiProcess, settler: Settler
) -> None:
    with streamed(api, partial_images="2", quality="high", model="gpt-image-1") as (answer, lines):
        job_id = answer.headers["Infill-Job"]
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = {name: answer.headers.get(f"Infill-{name}") for name in ("Model", "Ignored", "Mask-Mode")}
        assert told == {"Model": "pocket", "Ignored": "quality", "Mask-Mode": "white"}
        assert "Infill-Changed-Outside-Mask" not in answer.headers
        settler.start(job_id)
        until(lambda: settler.queue.connection.exists(keys.preview_wish(job_id)))
        for index, step in enumerate((7, 14)):
            show(settler, job_id, preview_of(step))
            kind, event = next_event(lines)
            assert (kind, event["type"]) == ("image_edit.partial_image",) * 2
            assert event["partial_image_index"] == index
            described = {name: event[name] for name in ("size", "quality", "background", "output_format")}
            assert described == {"size": "8x6", "quality": "auto", "background": "opaque", "output_format": "png"}
            with Image.open(io.BytesIO(base64.b64decode(event["b64_json"]))) as image:
                assert (image.format, image.size) == ("PNG", (8, 6))
        settler.succeed(job_id, [b"one", b"two"])
        for data in (b"one", b"two"):
            kind, event = next_event(lines)
            assert (kind, base64.b64decode(event["b64_json"])) == ("image_edit.completed", data)
            assert event["usage"]["total_tokens"] == 0 and event.keys().isdisjoint({"created", "data"})
        assert list(lines) in ([""], [])


def test_a_stream_without_partial_images_asks_for_no_previews(api: ApiProcess, settler: Settler) -> None:
    with streamed(api) as (answer, lines):
        job_id = answer.headers["Infill-Job"]
        settler.start(job_id)
        show(settler, job_id, preview_of())  # somebody else has asked
        assert next(lines) == ": ping"  # so the stream has looked at the job
        assert not settler.queue.connection.exists(keys.preview_wish(job_id))
        settler.succeed(job_id, [b"one"])
        assert next_event(lines)[0] == "image_edit.completed"


def test_a_job_that_fails_ends_its_stream_with_an_error_of_the_same_shape(api: ApiProcess, settler: Settler) -> None:
    with streamed(api) as (answer, lines):
        job_id = answer.headers["Infill-Job"]
        settler.start(job_id)
        settler.fail(job_id, JobProblem(code="out_of_memory", message="It does not fit."))
        kind, event = next_event(lines)
    expected = {"message": "It does not fit.", "type": "server_error", "param": None, "code": "out_of_memory"}
    assert (kind, event) == ("error", {"error": expected})


@pytest.mark.anyio
async def test_a_stream_that_ends_before_its_job_says_so_and_the_job_goes_on(redis_url: str) -> None:
    async with serve(ApiSettings(redis_url=redis_url, max_stream_s=0.5, poll_s=0.1)) as client:
        answer = await client.post("/v1/images/edits", data={"stream": "true"}, files=files())
        events = [line for line in answer.text.splitlines() if line and line != ": ping"]
        job = (await client.get(f"/v1/jobs/{answer.headers['Infill-Job']}")).json()
    assert events[0] == "event: error"
    assert json.loads(events[1].removeprefix("data: "))["error"]["code"] == "still_running"
    assert job["status"] == "queued"


def test_the_job_of_a_caller_who_leaves_a_stream_is_canceled(api: ApiProcess, settler: Settler) -> None:
    with streamed(api, partial_images="1") as (answer, lines):
        job_id = answer.headers["Infill-Job"]
        assert next(lines) == ": ping"
    until(lambda: settler.queue.depth() == 0)
    assert httpx.get(f"{api.url}/v1/jobs/{job_id}").json()["status"] == "canceled"
    assert 'infill_jobs_cancel_requests_total{code="left"}' in httpx.get(f"{api.url}/metrics").text


def test_whatever_the_names_of_ignored_fields_are_a_header_lists_them(api: ApiProcess) -> None:
    with streamed(api, **{"日本": "1", "user[name]": "2", "x" * 200: "3"}) as (answer, _):
        names = answer.headers["Infill-Ignored"].split(", ")
    assert (answer.status_code, names) == (200, ["user[name]", "x" * 50, "%E6%97%A5%E6%9C%AC"])
    line_break = "a\r\nX-Evil: 1"
    body = {"stream": True, "images": [in_base64(0)], "mask": in_base64(1), line_break: 1, "partial_images": 3}
    with httpx.stream("POST", f"{api.url}/v1/images/edits", json=body, timeout=20) as answer:
        assert answer.status_code == 200
        assert answer.headers["Infill-Ignored"] == "a%0D%0AX-Evil%3A%201" and "X-Evil" not in answer.headers
    with streamed(api, **{f"a{number}": "1" for number in range(30)}) as (answer, _):
        assert answer.headers["Infill-Ignored"].endswith("a26 and 10 more")


def in_base64(index: int) -> str:
    return base64.b64encode(list(files().values())[index][1]).decode()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"partial_images": "4"}, "partial_images: a whole number from 0 to 3."),
        ({"partial_images": "-1"}, "partial_images: a whole number from 0 to 3."),
        ({"partial_images": "two"}, "partial_images: a whole number from 0 to 3."),
        ({"stream": "perhaps"}, "stream: true or false."),
        ({"response_format": "url"}, "response_format: a stream sends pictures"),
    ],
)
def test_what_a_stream_cannot_do_is_refused_before_it_begins(
    api: ApiProcess, settler: Settler, fields: dict[str, str], said: str
) -> None:
    with streamed(api, **fields) as (answer, _):
        error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, next(iter(fields)))
    assert error["message"].startswith(said)
    assert settler.queue.depth() == 0


def test_a_preview_of_a_part_lies_where_that_part_does_in_a_transparent_frame() -> None:
    frame = framed(preview_of(box=(32, 24, 64, 48), image=small(16, 12)))
    assert (frame.size, frame.mode) == ((32, 24), "RGBA")
    assert frame.getpixel((15, 11)) == (0, 0, 0, 0)
    red, green, blue, alpha = frame.getpixel((16, 12))  # type: ignore[misc]
    assert (red > 150, green < 50, blue < 50, alpha) == (True, True, True, 255)


@pytest.mark.parametrize("size", [(20000, 10), (9, 12000), (12000, 12000)])
def test_a_frame_is_small_however_large_the_picture(size: tuple[int, int]) -> None:
    frame = framed(preview_of(box=(0, 0, min(size[0], 64), min(size[1], 48)), size=size))
    assert max(frame.size) <= FRAME_PX and min(frame.size) >= 1
