"""``/v1/capabilities`` says what the other routes say and what requests may be; CORS lets listed origins read it."""

import re
from pathlib import Path

import httpx
import pytest

from app.main import CORS
from app.settings import ApiSettings
from jobs.catalog import load_catalog
from jobs.schema import InpaintRequest
from tests.app.serving import serve
from tests.app.settling import Settler

pytestmark = pytest.mark.anyio

APP = Path(__file__).parents[2] / "app"
LISTS = {"loras", "mask_box", "mask_points", "mask_polygon"}
"""Fields of several numbers."""
ORIGIN = "https://photos.example"


async def test_it_is_the_same_as_the_routes_of_its_parts(client: httpx.AsyncClient) -> None:
    found = (await client.get("/v1/capabilities")).json()
    for name in ("models", "schedulers", "loras"):
        assert found[name] == (await client.get(f"/v1/{name}")).json()[name]


async def test_every_field_of_a_request_that_has_bounds_or_choices_is_there(client: httpx.AsyncClient) -> None:
    found = (await client.get("/v1/capabilities")).json()
    assert found["limits"]["fields"]["n"] == {"minimum": 1, "maximum": 8, "default": 1}
    assert found["limits"]["fields"]["strength"] == {"minimum": 0, "maximum": 1, "default": None}
    assert found["limits"]["pixels"] == ApiSettings().max_pixels and found["limits"]["calls_per_minute"] is None
    fields = InpaintRequest.model_json_schema()["properties"]
    numbers = {name for name in fields if re.search(r"'(integer|number)'", str(fields[name])) and name not in LISTS}
    assert set(found["limits"]["fields"]) == numbers
    choices = {name for name, schema in fields.items() if "enum" in str(schema) or "const" in str(schema)}
    assert set(found["choices"]) == choices - {"loras"}
    for name, values in found["choices"].items():
        for value in values:
            InpaintRequest.model_validate({name: value})


async def test_it_may_be_kept_for_a_minute_and_is_not_sent_again_as_long_as_it_is_the_same(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    first = await client.get("/v1/capabilities")
    assert first.headers["Cache-Control"] == "private, max-age=60"
    known = {"If-None-Match": first.headers["ETag"]}
    again = await client.get("/v1/capabilities", headers=known)
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    catalog = load_catalog(None)
    settler.queue.store.known.put_schedulers(catalog.model(catalog.default).source, ["ddim"])
    changed = await client.get("/v1/capabilities", headers=known)
    assert changed.status_code == 200 and changed.headers["ETag"] != first.headers["ETag"]


async def test_only_a_listed_origin_may_read_answers_and_errors(redis_url: str) -> None:
    async with serve(ApiSettings(redis_url=redis_url, cors_origins=f"http://a.example:3000, {ORIGIN}")) as client:
        for path in ("/v1/capabilities", "/nothing", "/v1/jobs/0"):
            allowed = await client.get(path, headers={"Origin": ORIGIN})
            assert allowed.headers["Access-Control-Allow-Origin"] == ORIGIN
            assert "Location" in allowed.headers["Access-Control-Expose-Headers"]
            assert "Access-Control-Allow-Credentials" not in allowed.headers
            for origin in ("https://evil.example", "null", f"{ORIGIN}.evil.example", f"{ORIGIN}:444"):
                refused = await client.get(path, headers={"Origin": origin})
                assert "Access-Control-Allow-Origin" not in refused.headers


async def test_a_preflight_needs_no_key(redis_url: str) -> None:
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,x-stainless-lang",
    }
    async with serve(ApiSettings(redis_url=redis_url, cors_origins=ORIGIN, auth="on")) as client:
        answer = await client.options("/v1/inpaint", headers=asked)
        assert answer.status_code == 200 and answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "x-stainless-lang" in answer.headers["Access-Control-Allow-Headers"]
        assert (await client.options("/v1/inpaint", headers=asked | {"Origin": "https://evil"})).status_code == 400


async def test_by_default_no_other_page_may_read(client: httpx.AsyncClient) -> None:
    assert "Access-Control-Allow-Origin" not in (await client.get("/healthz", headers={"Origin": ORIGIN})).headers


@pytest.mark.parametrize(
    "value", ["*", "null", "example.com", "https://a.example/", "https://a.example,*", "HTTPS://A"]
)
def test_what_is_no_origin_is_refused_at_the_start(value: str) -> None:
    with pytest.raises(ValueError, match="is no origin"):
        ApiSettings(cors_origins=value)


def test_every_header_of_ours_can_be_read_by_a_page() -> None:
    sources = "".join(path.read_text() for path in APP.rglob("*.py"))
    ours = set(re.findall(r'"(Infill-[A-Za-z-]+|RateLimit-[A-Za-z]+)"', sources))
    assert ours <= set(CORS["expose_headers"])
