"""A mask without painting, over HTTP: ``POST /v1/masks``, the same fields in a submission, and the mask of a job."""

import base64
import io
import json
from functools import partial
from typing import Any

import anyio
import httpx
import numpy as np
import pytest
from PIL import Image
from redis import Redis

from app.selections import AT_ONCE, OF_ONE_CALLER, SelectionPlaces
from jobs import keys
from jobs.errors import DecodersBusy
from jobs.queue import parameters_of
from tests.app.json_body import base64_of
from tests.app.next_jobs import end_next, next_job
from tests.app.problems import assert_problem
from tests.app.settling import Settler, our_keys
from tests.app.subjects import BESIDE, BOX, ON, SIZE, Bytes, iou, photo_of_subject, truth
from tests.app.submissions import files, submit
from tests.factories import noise, png

pytestmark = pytest.mark.anyio

SENT = {"image": ("a.png", photo_of_subject())}
NOTHING = {"image": ("a.png", png(noise((96, 120, 3))))}


async def post(client: httpx.AsyncClient, path: str, sent: Any = SENT, accept: str = "", **fields: Any) -> Any:
    data = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    return await client.post(path, files=sent, data=data, headers={"Accept": accept} if accept else {})


def decoded(data: bytes) -> Bytes:
    with Image.open(io.BytesIO(data)) as mask:
        return np.asarray(mask.convert("L"))


async def test_a_mask_is_a_png_whose_headers_say_what_it_is(client: httpx.AsyncClient, connection: Redis) -> None:
    for fields in ({"mask_box": BOX}, {"mask_points": [ON, BESIDE]}, {"mask_subject": "foreground"}):
        answer = await post(client, "/v1/masks", **fields)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png"), answer.text
        mask = decoded(answer.content)
        assert iou(mask, truth()) > 0.97
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert answer.headers["Infill-Mask-Box"] == ",".join(map(str, box))
        assert 0.7 < float(answer.headers["Infill-Mask-Score"]) <= 1
        assert float(answer.headers["Infill-Coverage"]) == pytest.approx((mask > 0).mean(), abs=1e-6)
    assert not our_keys(connection), "it makes no job"


async def test_as_json_it_can_be_sent_on(client: httpx.AsyncClient, settler: Settler) -> None:
    answer = await post(client, "/v1/masks", accept="application/json", mask_box=BOX)
    found = answer.json()
    assert found.keys() == {"mask", "score", "subject", "bbox", "coverage"} and found["subject"] == "foreground"
    whole = {"image": base64_of(photo_of_subject()), "mask": found["mask"]}
    job = (await client.post("/v1/inpaint", json=whole)).json()
    assert job["mask"]["bbox"] == found["bbox"] and "score" not in job["mask"]
    kept = settler.queue.store.inputs(job["id"])["mask"]
    assert kept is not None
    assert np.array_equal(decoded(kept), decoded(base64.b64decode(found["mask"].partition(",")[2])))
    body = {"image": base64_of(photo_of_subject()), "mask_box": BOX}
    assert (await client.post("/v1/masks", json=body)).content == base64.b64decode(found["mask"].partition(",")[2])


FIELDS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "points": ({"mask_points": [ON, BESIDE]}, ["points"]),
    "a box with a subject": ({"mask_box": BOX, "mask_subject": "foreground"}, ["subject"]),
    "the subject": ({"mask_subject": "foreground"}, ["subject"]),
    "the background": ({"mask_subject": "background", "mask_points": [ON]}, ["points"]),
    "another background": ({"task": "replace_background", "prompt": "a beach", "mask_box": BOX}, ["subject"]),
}


@pytest.mark.parametrize("name", FIELDS)
async def test_a_job_carries_the_mask_that_was_found(
    client: httpx.AsyncClient, settler: Settler, connection: Redis, name: str
) -> None:
    fields, sources = FIELDS[name]
    job = (await post(client, "/v1/inpaint", **fields)).json()
    subject = "background" if "background" in name else "foreground"
    expected = truth() if subject == "foreground" else 255 - truth()
    said = job["mask"]
    assert (said["sources"], said["subject"], said["soft"]) == (sources, subject, False) and said["score"] > 0.7
    kept = settler.queue.store.inputs(job["id"])["mask"]
    answer = await client.get(f"{job['url']}/mask")
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "image/png", kept)
    assert iou(decoded(answer.content), expected) > 0.97
    assert parameters_of(settler.queue.job(job["id"])).task == "fill", "older workers know no other"
    settler.start(job["id"])
    settler.succeed(job["id"], [b"image"])
    after = (await client.get(job["url"])).json()["mask"]
    assert (after["score"], after["subject"]) == (said["score"], said["subject"])
    answer = await client.get(f"{job['url']}/mask", headers={"If-None-Match": "x"})
    assert answer.content == kept
    again = await client.get(f"{job['url']}/mask", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
    connection.delete(keys.picture(job["id"], keys.USED_MASK))
    assert_problem(await client.get(f"{job['url']}/mask"), 410, "result_expired")


async def test_a_mask_that_was_drawn_is_kept_and_a_file_is_not(client: httpx.AsyncClient) -> None:
    drawn = (await post(client, "/v1/inpaint", mask_box=BOX)).json()
    mask = decoded((await client.get(f"{drawn['url']}/mask")).content)
    assert (mask > 0).sum() == (BOX[2] - BOX[0]) * (BOX[3] - BOX[1]), "a box by itself is filled"
    assert "subject" not in drawn["mask"]
    sent = (await submit(client)).json()
    assert_problem(await client.get(f"{sent['url']}/mask"), 404, "mask_not_kept")
    assert_problem(await client.get("/v1/jobs/0/mask"), 404, "job_not_found")


@pytest.mark.parametrize("path", ["/v1/masks", "/v1/inpaint"])
async def test_a_doubtful_answer_is_a_problem_with_its_score(
    client: httpx.AsyncClient, connection: Redis, path: str
) -> None:
    problem = assert_problem(await post(client, path, NOTHING, mask_subject="foreground"), 422, "doubtful_subject")
    assert 0 <= problem["score"] < 0.15 and f"a score of {problem['score']:g}" in problem["detail"]
    assert not our_keys(connection)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no side": ({"mask_points": [[1, 2]]}, "mask_points.0.2: This field is missing. Send mask_points as [[x, y, 1]"),
    "another side": ({"mask_points": [[1, 2, 2]]}, "mask_points.0.2: This field must be less than or equal to 1."),
    "a side of true": ({"mask_points": [[1, 2, True]]}, "mask_points.0.2: This field must be a whole number."),
    "one point": ({"mask_points": [1, 2, 1]}, "mask_points.0: This field must be a list."),
    "many": ({"mask_points": [ON] * 101}, "mask_points: This list may have at most 100 items."),
    "only beside": ({"mask_points": [BESIDE]}, "mask_points: none is on the subject."),
    "outside": ({"mask_points": [[120, 2, 1]]}, "mask_points: point 1 is at 120, 2, outside the picture of 120 x 96"),
    "both sides": ({"mask_points": [[9, 9, 1], [9, 9, 0]]}, "mask_points: point 1 is sent as on the subject and as"),
    "not in the box": ({"mask_points": [ON, [2, 2, 1]], "mask_box": BOX}, "mask_points: point 2 is on the subject and"),
    "two boxes": ({"mask_points": [ON], "mask_box": [BOX, BOX]}, "mask_box: 2 boxes were sent; with mask_points"),
    "a box outside": ({"mask_subject": "foreground", "mask_box": [0, 0, 9, 97]}, "mask_box: it reaches to 9, 97"),
    "another subject": ({"mask_subject": "dog"}, "mask_subject: This field must be 'foreground' or 'background'."),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_cannot_be_meant_is_refused_by_both_routes(client: httpx.AsyncClient, name: str) -> None:
    fields, sentence = BAD[name]
    for path in ("/v1/masks", "/v1/inpaint"):
        problem = assert_problem(await post(client, path, **fields), 422, "invalid_field")
        assert problem["detail"].startswith(sentence)
    body = {"image": base64_of(photo_of_subject())} | fields
    assert_problem(await client.post("/v1/masks", json=body), 422, "invalid_field")


OF_ONE_ROUTE: dict[str, tuple[str, Any, dict[str, Any], str, str]] = {
    "nothing": ("/v1/masks", SENT, {}, "invalid_field", "mask_points, mask_box, mask_subject: send one"),
    "no photo": ("/v1/masks", {}, {"mask_box": BOX}, "invalid_field", "image: This field is missing."),
    "a prompt": ("/v1/masks", SENT, {"prompt": "x"}, "unknown_field", "There is no field 'prompt'. The fields are"),
    "no picture": ("/v1/masks", {"image": ("a", b"x")}, {"mask_box": BOX}, "invalid_image", "image: this is not a"),
    "a mask too": ("/v1/inpaint", files(), {"mask_points": [[9, 9, 1]]}, "invalid_field", "mask, mask_polygon: with"),
    "a polygon too": (
        *("/v1/inpaint", SENT, {"mask_points": [ON], "mask_polygon": [[1, 1], [9, 1], [5, 9]]}),
        *("invalid_field", "mask, mask_polygon: with"),
    ),
    "a mode": ("/v1/inpaint", SENT, {"mask_points": [ON], "mask_mode": "black"}, "invalid_field", "mask_mode: it says"),
    "no prompt": ("/v1/inpaint", SENT, {"task": "replace_background"}, "invalid_field", "prompt: task=replace"),
    "the wrong side": (
        *("/v1/inpaint", SENT, {"task": "replace_background", "prompt": "x", "mask_subject": "foreground"}),
        *("invalid_field", "mask_subject: task=replace_background repaints the background."),
    ),
}


@pytest.mark.parametrize("name", OF_ONE_ROUTE)
async def test_what_one_route_alone_refuses(client: httpx.AsyncClient, name: str) -> None:
    path, sent, fields, code, sentence = OF_ONE_ROUTE[name]
    if not sent:
        fields = {name: json.dumps(value) for name, value in fields.items()}
        answer = await client.post(path, files={"mask_box": (None, fields["mask_box"])})
    else:
        answer = await post(client, path, sent, **fields)
    assert assert_problem(answer, 422, code)["detail"].startswith(sentence)


async def test_what_it_cannot_answer_with_is_said_before_any_work(client: httpx.AsyncClient) -> None:
    answer = await post(client, "/v1/masks", accept="text/html", mask_box=BOX)
    assert_problem(answer, 406, "not_acceptable")


async def test_openais_route_finds_subjects_too(client: httpx.AsyncClient, settler: Settler) -> None:
    fields = {"mask_points": json.dumps([ON]), "prompt": "x"}
    async with anyio.create_task_group() as group:
        group.start_soon(partial(client.post, "/v1/images/edits", files=SENT, data=fields))
        kept = settler.queue.store.inputs(await next_job(settler))["mask"]
        await end_next(settler)
    assert kept is not None and iou(decoded(kept), truth()) > 0.97


async def test_one_caller_takes_few_of_the_places() -> None:
    places = SelectionPlaces(decoders=3, wait_s=0.05)
    outcomes = list[str]()
    leave = anyio.Event()

    async def take(caller: str) -> None:
        try:
            async with places.place(caller):
                outcomes.append("in")
                await leave.wait()
        except DecodersBusy as busy:
            outcomes.append("late" if "free within" in str(busy) else "refused")

    async with anyio.create_task_group() as group:
        for _ in range(OF_ONE_CALLER + 1):
            group.start_soon(take, "one")
        for number in range(AT_ONCE - OF_ONE_CALLER + 1):
            group.start_soon(take, f"other {number}")
        await anyio.sleep(0.2)
        leave.set()
    assert sorted(outcomes) == ["in"] * 2 + ["late"] * (AT_ONCE - 2) + ["refused"] * 2
    async with places.place("one"):
        pass


def test_the_photo_has_the_size_that_the_tests_name() -> None:
    assert decoded(photo_of_subject()).shape == SIZE[::-1]
