"""Callers take turns and leave room for others, told apart by their addresses."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from pydantic import ValidationError

from app.callers import normal_address
from app.main import create_app
from app.settings import ApiSettings
from tests.app.problems import assert_problem
from tests.app.submissions import files

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def caller_at(address: str, settings: ApiSettings) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose connections come from ``address``."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://api", timeout=20) as client:
            yield client


async def post(client: httpx.AsyncClient, **headers: str) -> httpx.Response:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post("/v1/inpaint", files=files(), headers=given)


async def test_a_single_job_waits_behind_one_of_a_caller_with_many(settings: ApiSettings) -> None:
    async with caller_at("192.0.2.1", settings) as many, caller_at("192.0.2.2", settings) as single:
        for _ in range(5):
            await post(many)
        assert (await post(single)).json()["queue_position"] == 1


async def test_a_fresh_api_key_each_time_jumps_no_queue(settings: ApiSettings) -> None:
    async with caller_at("192.0.2.1", settings) as client:
        positions = [(await post(client, X_API_Key=str(k))).json()["queue_position"] for k in range(4)]
    assert positions == [0, 1, 2, 3]


async def test_a_forwarded_address_counts_only_from_a_trusted_proxy(settings: ApiSettings) -> None:
    async with caller_at("192.0.2.1", settings) as client:
        positions = [(await post(client, X_Forwarded_For=f"198.51.100.{k}")).json()["queue_position"] for k in range(3)]
    assert positions == [0, 1, 2]


async def test_a_trusted_proxy_names_its_callers(settings: ApiSettings) -> None:
    trusting = settings.model_copy(update={"trusted_proxies": "203.0.113.7, 192.0.2.0/24"})
    async with caller_at("192.0.2.1", trusting) as proxy:
        for _ in range(3):
            await post(proxy, X_Forwarded_For="198.51.100.1")
        assert (await post(proxy, X_Forwarded_For="198.51.100.2")).json()["queue_position"] == 1
        # a caller writes what it likes in front of what the proxies add
        assert (await post(proxy, X_Forwarded_For="1.1.1.1, 198.51.100.1, 203.0.113.7")).json()["queue_position"] == 4


async def test_forwarded_values_that_are_no_addresses_are_one_caller(settings: ApiSettings) -> None:
    trusting = settings.model_copy(update={"trusted_proxies": "192.0.2.1"})
    async with caller_at("192.0.2.1", trusting) as proxy:
        positions = [(await post(proxy, X_Forwarded_For=f"odd-{k}")).json()["queue_position"] for k in range(3)]
    assert positions == [0, 1, 2]


@pytest.mark.parametrize(
    ("address", "normal"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ("2001:db8:0:1::9", "2001:db8:0:1::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "none"),
        ("unix:", "none"),
    ],
)
async def test_a_callers_ipv6_network_is_one_caller(address: str, normal: str) -> None:
    assert normal_address(address) == normal


@pytest.mark.parametrize("value", ["*", "proxy.example", "10.0.0.1/8", "10.0.0.0/33"])
async def test_proxies_that_are_no_addresses_stop_the_start(value: str) -> None:
    with pytest.raises(ValidationError, match="trusted_proxies"):
        ApiSettings(trusted_proxies=value)


async def test_one_caller_alone_leaves_places_in_the_queue_to_others(settings: ApiSettings) -> None:
    shared = settings.model_copy(update={"queue_limit": 10, "caller_share": 0.5})
    async with caller_at("192.0.2.1", shared) as many, caller_at("192.0.2.2", shared) as other:
        answers = [await post(many) for _ in range(10)]
        assert [answer.status_code for answer in answers] == [202] * 5 + [429] * 5
        assert_problem(answers[-1], 429, "queue_full")
        assert "5 of them yours" in answers[-1].json()["detail"] and "Retry-After" in answers[-1].headers
        assert [(await post(other)).status_code for _ in range(4)] == [202, 202, 202, 429]


async def test_a_small_queue_can_be_one_callers_by_default(settings: ApiSettings) -> None:
    async with caller_at("192.0.2.1", settings.model_copy(update={"queue_limit": 9})) as client:
        assert [(await post(client)).status_code for _ in range(10)] == [202] * 9 + [429]


async def test_a_share_of_1_lets_one_caller_have_all_places(settings: ApiSettings) -> None:
    async with caller_at("192.0.2.1", settings.model_copy(update={"queue_limit": 12, "caller_share": 1.0})) as client:
        assert [(await post(client)).status_code for _ in range(13)] == [202] * 12 + [429]


async def test_two_callers_may_use_the_same_idempotency_key(settings: ApiSettings) -> None:
    async with caller_at("192.0.2.1", settings) as one, caller_at("192.0.2.2", settings) as two:
        first, second = [await post(client, Idempotency_Key="1") for client in (one, two)]
        assert first.json()["id"] != second.json()["id"]
        again = await post(one, Idempotency_Key="1")
        assert again.json()["id"] == first.json()["id"]
