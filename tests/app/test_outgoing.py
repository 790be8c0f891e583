"""Pictures that are fetched, and addresses that are called at the end: what is taken, refused and repeated."""

import base64
import json
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from pydantic import SecretStr
from starlette.types import Message

from app.bodies import Bodies, Body
from app.outgoing import OF_ONE_CALLER, Fetches
from app.settings import ApiSettings
from app.shares import Shares
from jobs.errors import TooManyUploads
from tests.app.pictures import box_mask, photo
from tests.app.processes import api_process
from tests.app.serving import serve
from tests.app.settling import Settler
from tests.app.submissions import files
from tests.factories import encoded
from tests.receiver import Receiver, receiver

pytestmark = pytest.mark.anyio

SECRET = "whsec_" + "c2VjcmV0" * 4


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as made:
        made.content = encoded(photo())
        yield made


@pytest.fixture
def settings(redis_url: str) -> ApiSettings:
    allowed: dict[str, Any] = {"input_hosts": "127.0.0.1", "output_hosts": "127.0.0.1", "webhook_secret": SECRET}
    return ApiSettings(redis_url=redis_url, max_image_bytes=500_000, max_wait_s=0, **allowed)


@pytest.fixture
async def client(settings: ApiSettings) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(settings) as client:
        yield client


async def no_message() -> Message:
    raise AssertionError("no body is read here")


def mask() -> dict[str, tuple[str, bytes]]:
    return {"mask": ("mask.png", encoded(box_mask()))}


async def test_a_photo_is_fetched_and_is_the_same_as_if_it_had_been_sent(
    client: httpx.AsyncClient, there: Receiver, settler: Settler
) -> None:
    answer = await client.post("/v1/inpaint", files=mask(), data={"image_url": f"{there.url}/a.jpg"})
    assert answer.status_code == 202, answer.text
    stored = settler.queue.store.inputs(answer.json()["id"])
    assert stored["image"] == there.content and there.received[0].method == "GET"


async def test_both_pictures_can_be_fetched_by_a_json_body(client: httpx.AsyncClient, there: Receiver) -> None:
    there.content = encoded(box_mask())
    urls = {"image_url": f"{there.url}/a", "mask_url": f"{there.url}/m"}
    assert (await client.post("/v1/inpaint", json=urls)).status_code == 202
    assert sorted(sent.path for sent in there.received) == ["/a", "/m"]


@pytest.mark.parametrize(
    ("fields", "change", "code", "sentence"),
    [
        ({"image_url": "https://elsewhere.example/a"}, {}, "address_refused", "image_url: this service calls no"),
        ({"image_url": "nonsense"}, {}, "address_refused", "image_url: this is no address"),
        ({"image_url": "{url}/a"}, {"statuses": [404]}, "fetch_failed", "image_url: the address answered 404"),
        ({"image_url": "{url}/a"}, {"statuses": [302], "location": "http://127.0.0.1:1/"}, "fetch_failed", "302"),
        ({"image_url": "{url}/a"}, {"content": b"x" * 600_000}, "fetch_failed", "sent more than 500000 bytes"),
        ({"image_url": "http://127.0.0.1:9/"}, {}, "fetch_failed", "could not be reached"),
        ({"image_url": "{url}/a"}, {"content": b"<html>"}, "invalid_image", "image:"),
        ({"image_url": "{url}/" + "a" * 3000}, {}, "invalid_field", "image_url"),
    ],
)
async def test_what_cannot_be_fetched_is_said(
    client: httpx.AsyncClient, there: Receiver, fields: dict[str, str], change: dict[str, Any], code: str, sentence: str
) -> None:
    for name, value in change.items():
        setattr(there, name, value)
    data = {name: value.format(url=there.url) for name, value in fields.items()}
    problem = (await client.post("/v1/inpaint", files=mask(), data=data)).json()
    assert (problem["code"], problem["status"]) == (code, 422) and sentence in problem["detail"], problem


async def test_a_photo_is_sent_or_fetched_but_not_both(client: httpx.AsyncClient, there: Receiver) -> None:
    both = await client.post("/v1/inpaint", files=files(), data={"image_url": f"{there.url}/a"})
    assert both.json()["detail"] == "image, image_url: send one of them." and not there.received
    neither = await client.post("/v1/inpaint", files=mask())
    assert neither.json()["detail"] == "image: This field is missing."


async def test_a_service_that_allows_no_hosts_fetches_and_calls_nothing(redis_url: str, there: Receiver) -> None:
    async with serve(ApiSettings(redis_url=redis_url)) as client:
        for name in ("image_url", "output_url", "webhook_url"):
            sent = mask() if name == "image_url" else files()
            answer = await client.post("/v1/inpaint", files=sent, data={name: f"{there.url}/a"})
            assert answer.json()["code"] == "address_refused", name
    assert not there.received


async def test_one_caller_has_few_fetches_at_a_time(settings: ApiSettings, there: Receiver) -> None:
    there.content, there.drip_s = b"x" * 20, 0.05
    fetches, body, refused = Fetches(settings), Body(Bodies(settings), no_message, "me", 0), []

    async def one() -> None:
        try:
            (await fetches.fetch(there.url, "image_url", 1000, "me", body)).close()
        except TooManyUploads:
            refused.append(1)

    async with anyio.create_task_group() as group:
        for _ in range(OF_ONE_CALLER + 3):
            group.start_soon(one)
    assert len(refused) == 3
    (await fetches.fetch(there.url, "image_url", 1000, "me", body)).close()


async def test_fetched_bytes_count_with_bodies_until_the_request_lets_go_of_them(
    settings: ApiSettings, there: Receiver
) -> None:
    fetches, bodies = Fetches(settings), Bodies(settings)
    body = Body(bodies, no_message, "me", 0)
    there.content = b"x" * 200_000
    with await fetches.fetch(there.url, "image_url", 500_000, "me", body):
        assert bodies.shares.taken == 200_000
    body.release()
    others = bodies.shares.limit - 100_000
    bodies.shares = Shares(bodies.shares.limit, 1)
    bodies.shares.take("other", others)
    with pytest.raises(TooManyUploads):
        await fetches.fetch(there.url, "image_url", 500_000, "me", body)
    body.release()
    assert bodies.shares.taken == others


def test_a_full_disk_while_a_picture_is_fetched_is_the_services_fault(
    redis_url: str, tmp_path: Path, there: Receiver
) -> None:
    there.content = encoded(photo()) + b"x" * 3_000_000
    with api_process(tmp_path, redis_url, input_hosts="127.0.0.1") as api:
        resource.prlimit(api.process.pid, resource.RLIMIT_FSIZE, (1_100_000, 1_100_000))
        answer = httpx.post(f"{api.url}/v1/inpaint", files=mask(), data={"image_url": there.url})
    assert (answer.status_code, answer.json()["code"]) == (503, "spool_full") and answer.headers["Retry-After"]


# ---- OpenAI's dialect


def by_address(url: str, **more: Any) -> dict[str, Any]:
    data = base64.b64encode(encoded(box_mask())).decode()
    return {"images": [{"image_url": url}], "mask": {"image_url": f"data:image/png;base64,{data}"}} | more


async def test_openais_image_urls_are_fetched_too(client: httpx.AsyncClient, there: Receiver, settler: Settler) -> None:
    for picture, name, value in ((photo(), "images", ["{}/a"]), (box_mask(), "mask", {"image_url": "{}/m"})):
        there.content = encoded(picture)
        body = by_address("data:;base64," + base64.b64encode(encoded(photo())).decode()) | {name: value}
        text = json.dumps(body).replace("{}", there.url)
        answer = await client.post("/v1/images/edits", content=text, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "still_running"), answer.text
        assert settler.queue.store.inputs(settler.take().id)["image"] == encoded(photo())
    assert [sent.path for sent in there.received] == ["/a", "/m"]


@pytest.mark.parametrize(
    ("body", "change", "code", "sentence", "param"),
    [
        (by_address("https://elsewhere.example/a"), {}, "address_refused", "images: this service calls no", "images"),
        (by_address("HTTP://"), {}, "address_refused", "images: this is no address", "images"),
        (by_address("{url}", mask="ftp://x/y"), {}, "invalid_field", "mask: this is not base64", "mask"),
        (by_address("{url}"), {"statuses": [404]}, "fetch_failed", "images: the address answered 404", "images"),
        (by_address("{url}"), {"content": b"x" * 600_000}, "fetch_failed", "more than 500000 bytes", "images"),
        (by_address("{url}"), {"content": b"<html>"}, "invalid_image", "image:", "image"),
        (by_address("{url}", images=["{url}", "{url}"]), {}, "invalid_field", "image: 2 files were sent", "image"),
        (by_address("{url}", n=99), {}, "invalid_field", "n: ", "n"),
    ],
)
async def test_what_openais_dialect_cannot_fetch_is_said_in_its_shape(
    client: httpx.AsyncClient, there: Receiver, body: Any, change: dict[str, Any], code: str, sentence: str, param: str
) -> None:
    for name, value in change.items():
        setattr(there, name, value)
    sent = json.loads(json.dumps(body).replace("{url}", there.url))
    answer = await client.post("/v1/images/edits", json=sent)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert (error["code"], error["param"]) == (code, param) and sentence in error["message"], error
    assert code in ("fetch_failed", "invalid_image") or not there.received


async def test_deliveries_are_shown_without_what_is_secret_in_their_addresses(
    client: httpx.AsyncClient, there: Receiver
) -> None:
    data = {
        "n": "2",
        "output_url": json.dumps([f"{there.url}/{k}?signature=secret" for k in range(2)]),
        "webhook_url": f"{there.url}/hook?token=secret",
    }
    answer = await client.post("/v1/inpaint", files=files(), data=data)
    assert answer.status_code == 202 and "secret" not in answer.text
    shown = [(one["kind"], one["index"], one["host"], one["state"]) for one in answer.json()["deliveries"]]
    assert shown == [(kind, index, "127.0.0.1", "pending") for kind, index in
                     (("output", 0), ("output", 1), ("webhook", 0))]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"output_url": "{url}/a", "n": "2"}, "output_url: 1 addresses for 2 images"),
        ({"output_url": '["{url}/a", "{url}/b"]'}, "output_url: 2 addresses for 1 images"),
        ({"output_url": "https://elsewhere.example/"}, "output_url: this service calls no address"),
        ({"webhook_url": "ftp://127.0.0.1/"}, "webhook_url: the address must begin with https://"),
        ({"output_url": "[1]"}, "output_url"),
        ({"output_url": "["}, ""),
    ],
)
async def test_a_wrong_address_is_refused_before_a_job_is_made(
    client: httpx.AsyncClient, settler: Settler, there: Receiver, data: dict[str, str], sentence: str
) -> None:
    asked = {name: value.replace("{url}", there.url) for name, value in data.items()}
    answer = await client.post("/v1/inpaint", files=files(), data=asked)
    assert answer.status_code in (400, 422) and sentence in answer.json()["detail"], answer.text
    assert settler.queue.depth() == 0


async def test_another_address_is_another_request_under_the_same_key(
    client: httpx.AsyncClient, there: Receiver
) -> None:
    key = {"Idempotency-Key": "k"}
    for path, code in (("a", None), ("a", None), ("b", "idempotency_conflict")):
        data = {"webhook_url": f"{there.url}/{path}", "seed": "1"}
        answer = await client.post("/v1/inpaint", files=files(), data=data, headers=key)
        assert answer.json().get("code") == code


@pytest.mark.parametrize("secret", ["short", "whsec_!!!", "whsec_" + "YQ==", "whsec_" + "c2VjcmV0" * 20])
def test_a_secret_that_is_none_is_refused_at_the_start(secret: str) -> None:
    with pytest.raises(ValueError, match="24 to 64 random bytes"):
        ApiSettings(webhook_secret=SecretStr(secret))
