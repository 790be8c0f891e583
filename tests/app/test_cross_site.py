"""Pages of other websites, in the browser of somebody who reaches a service without keys."""

from typing import Any

import httpx
import pytest
from redis import Redis

from app.settings import ApiSettings
from jobs.api_keys import ApiKeys
from tests.app.every_route import address, routes
from tests.app.serving import serve
from tests.app.settling import Settler
from tests.app.submissions import files

pytestmark = pytest.mark.anyio

EVIL, FRIEND = "https://evil.example", "https://photos.example"
OWN = "http://api"
"""Where the tests' client finds the service."""


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": OWN}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Origin": FRIEND}, True),
        ({"Origin": FRIEND}, True),
        ({"Origin": OWN}, True),
        ({"Sec-Fetch-Site": "cross-site", "Origin": EVIL}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://api:3000"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "null"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": OWN}, False),
        ({"Sec-Fetch-Site": "whatever"}, False),
        ({"Origin": EVIL}, False),
        ({"Origin": "null"}, False),
        ({"Origin": f"{OWN}.evil.example"}, False),
        ({"Origin": f"{OWN}:8001"}, False),
    ],
)
async def test_a_page_of_another_origin_submits_and_cancels_nothing(
    redis_url: str, settler: Settler, headers: dict[str, str], passes: bool
) -> None:
    async with serve(ApiSettings(redis_url=redis_url, cors_origins=FRIEND)) as client:
        mine = (await client.post("/v1/inpaint", files=files())).json()["id"]
        answer = await client.post("/v1/inpaint", files=files(), headers=headers)
        assert answer.status_code == (202 if passes else 403), answer.text
        assert answer.json().get("code") == (None if passes else "forbidden")
        await client.request("DELETE", f"/v1/jobs/{mine}", headers=headers)
        assert settler.queue.job(mine).get_status() == ("canceled" if passes else "queued")
        assert (await client.get(f"/v1/jobs/{mine}", headers=headers)).status_code == 200


async def test_every_route_that_changes_something_asks_in_its_own_shape(client: httpx.AsyncClient) -> None:
    page: dict[str, Any] = {"headers": {"Sec-Fetch-Site": "cross-site", "Origin": EVIL}}
    changing = [route for route in routes() if not route.startswith("GET")]
    assert len(changing) > 10
    for route in changing:
        answer = await client.request(route.split()[0], address(route, "0"), **page)
        assert answer.status_code == 403, route
        body = answer.json()
        assert body.get("code") == "forbidden" or body["error"]["code"] == "forbidden", route


async def test_where_keys_are_asked_for_the_key_decides(redis_url: str, connection: Redis) -> None:
    page = {"Sec-Fetch-Site": "cross-site", "Origin": EVIL}
    async with serve(ApiSettings(redis_url=redis_url, auth="on")) as client:
        assert (await client.post("/v1/inpaint", files=files(), headers=page)).status_code == 401
        key = {"X-API-Key": ApiKeys(connection).create("acme")[0]}
        assert (await client.post("/v1/inpaint", files=files(), headers=page | key)).status_code == 202
