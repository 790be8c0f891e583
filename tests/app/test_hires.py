"""``hires`` at the API: when a large hole is run in tiles, what is refused, and what it counts as."""

from typing import Any

import httpx
import pytest
from PIL import Image
from redis import Redis

from app.settings import ApiSettings
from jobs import keys
from jobs.catalog import load_catalog
from jobs.eta import Workload
from jobs.queue import parameters_of
from jobs.schema import InpaintParameters, Tiles
from tests.app.json_body import base64_of, post_json
from tests.app.problems import assert_problem
from tests.app.serving import serve
from tests.app.settling import Settler, our_keys
from tests.factories import encoded

PHOTO = encoded(Image.new("RGB", (3000, 1200), (90, 120, 60)))
FITS, FOUR, MANY, HUGE = "[50,50,450,450]", "[50,50,800,750]", "[50,50,1700,900]", "[10,10,2990,1190]"
POCKET = load_catalog().model("pocket")


async def send(client: httpx.AsyncClient, box: str = FOUR, **fields: Any) -> httpx.Response:
    return await client.post("/v1/inpaint", files={"image": ("p.png", PHOTO)}, data={"mask_box": box, **fields})


def asked(settler: Settler, answer: httpx.Response) -> InpaintParameters:
    assert answer.status_code == 202, answer.text
    return parameters_of(settler.queue.job(answer.json()["id"]))


def workload(connection: Redis, answer: httpx.Response) -> Workload:
    raw = connection.get(keys.workload(answer.json()["id"]))
    assert isinstance(raw, bytes)
    return Workload.model_validate_json(raw)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("box", "fields", "count"),
    [
        (FITS, {}, 0),
        (FITS, {"hires": "tile"}, 0),
        (FOUR, {}, 4),
        (FOUR, {"hires": ""}, 4),
        (FOUR, {"hires": "off"}, 0),
        (MANY, {}, 0),
        (MANY, {"hires": "tile"}, 15),
        ("[[5,5,9,9],[2990,1190,2995,1195]]", {}, 2),
    ],
    ids=str,
)
async def test_tiles_are_the_default_where_few_are_enough_and_for_whom_asks(
    client: httpx.AsyncClient, settler: Settler, box: str, fields: dict[str, str], count: int
) -> None:
    answer = await send(client, box, **fields)
    tiles = asked(settler, answer).tiles
    assert (tiles.count if tiles else 0) == count
    shrunk = box != FITS and not count
    assert answer.json()["approximate"] == (["shrunk"] if shrunk else [])
    steps = POCKET.num_inference_steps
    assert answer.json()["progress"]["steps"] == steps + count * int(steps * POCKET.hires_strength)


@pytest.mark.anyio
async def test_tiles_are_never_changed_more_than_was_asked_of_the_whole(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    assert asked(settler, await send(client)).tiles == Tiles(count=4, strength=POCKET.hires_strength)
    assert asked(settler, await send(client, strength="0.125")).tiles == Tiles(count=4, strength=0.125)


@pytest.mark.anyio
async def test_json_and_an_extension_ask_for_them_alike(client: httpx.AsyncClient, settler: Settler) -> None:
    body = {"image": base64_of(PHOTO), "mask_box": [50, 50, 1700, 900], "hires": "tile"}
    assert (found := asked(settler, await post_json(client, body)).tiles) and found.count == 15
    extended = await client.post(
        "/v1/inpaint", files={"image": ("p.png", PHOTO)}, data={"task": "extend", "extend": "0,0,600,0"}
    )
    tiles = asked(settler, extended).tiles
    assert extended.json()["approximate"] == ["shrunk"] and tiles is None
    extended = await client.post(
        "/v1/inpaint",
        files={"image": ("p.png", PHOTO)},
        data={"task": "extend", "extend": "0,0,600,0", "hires": "tile"},
    )
    assert (tiles := asked(settler, extended).tiles) and tiles.count == 6


@pytest.mark.anyio
@pytest.mark.parametrize(("n", "sentence"), [(2, "24 tiles of 512 pixels for each of 2 images"), (3, "of 3 images")])
async def test_more_than_the_model_allows_are_refused_with_their_number_and_nothing_is_kept(
    client: httpx.AsyncClient, connection: Redis, n: int, sentence: str
) -> None:
    problem = assert_problem(await send(client, HUGE, hires="tile", n=str(n)), 422, "invalid_field")
    assert problem["detail"].startswith("hires, n: the hole takes 24 tiles") and sentence in problem["detail"]
    assert f"at most {POCKET.max_hires_tiles} for a job" in problem["detail"] and "hires=off" in problem["detail"]
    assert not our_keys(connection)
    assert (await send(client, HUGE, hires="tile", n="1")).status_code == 202


@pytest.mark.anyio
async def test_a_hole_of_so_many_tiles_is_shrunk_where_nobody_asked(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    answer = await send(client, HUGE, n="8")
    assert asked(settler, answer).tiles is None and answer.json()["approximate"] == ["shrunk"]


@pytest.mark.anyio
async def test_another_value_is_refused_by_name(client: httpx.AsyncClient) -> None:
    problem = assert_problem(await send(client, hires="on"), 422, "invalid_field")
    assert problem["detail"].startswith("hires: This field must be 'off' or 'tile'")


@pytest.mark.anyio
async def test_the_tiles_are_part_of_what_the_queue_expects(client: httpx.AsyncClient, connection: Redis) -> None:
    off, tiled = [workload(connection, await send(client, MANY, n="2", hires=hires)) for hires in ("off", "tile")]
    assert off.tiles is None and tiled.tiles
    assert tiled.model_copy(update={"tiles": None}) == off
    each = int(POCKET.num_inference_steps * POCKET.hires_strength)
    assert (tiled.tiles.calls, tiled.tiles.rows, tiled.tiles.images) == (15 * each, 2, 30)
    assert tiled.tiles.area_px == 512 * 512


@pytest.mark.anyio
async def test_the_pixels_of_tiles_count_for_the_quota(redis_url: str) -> None:
    """3.6 megapixels of the photo, and 15 times 0.26 of the tiles."""
    settings = ApiSettings(redis_url=redis_url, caller_megapixels_per_day=12)
    async with serve(settings) as client:
        assert (await send(client, MANY, hires="tile")).status_code == 202
        problem = assert_problem(await send(client, MANY, hires="tile"), 429, "quota_exceeded")
        assert "7.5 megapixels" in problem["detail"]
        assert (await send(client, MANY, hires="off")).status_code == 202


@pytest.mark.anyio
async def test_clients_find_the_choices_and_the_limits(client: httpx.AsyncClient) -> None:
    found = (await client.get("/v1/capabilities")).json()
    assert found["choices"]["hires"] == ["off", "tile"]
    pocket = found["models"][0]
    assert (pocket["hires_tiles"], pocket["max_hires_tiles"], pocket["hires_strength"]) == (4, 32, 0.25)
