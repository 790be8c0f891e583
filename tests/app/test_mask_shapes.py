"""Which pixels boxes and polygons cover, exactly; what they cost; and what is refused of them."""

import io
import json
import time
import tracemalloc
from fractions import Fraction
from itertools import pairwise
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from redis import Redis

from app.mask_shapes import Shapes
from app.settings import ApiSettings
from jobs.errors import InvalidField
from jobs.mask_fields import MAX_BOXES, MAX_POINTS, Box, Point
from tests.app.json_body import base64_of, document, post_json
from tests.app.pictures import SIZE, box_mask, photo, with_orientation
from tests.app.problems import assert_problem
from tests.app.serving import serve
from tests.app.settling import Settler, our_keys
from tests.app.submissions import files, submit
from tests.factories import encoded, mask_with, png

Values = NDArray[np.uint8]
WIDTH, HEIGHT = 23, 17


def drawn(
    boxes: list[Box] | None = None, polygons: list[list[Point]] | None = None, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> Values:
    mask = np.zeros(size[::-1], np.uint8)
    Shapes(boxes or (), polygons or ()).draw(mask)
    return mask


def winding(points: list[Point], x: Fraction, y: Fraction) -> int:
    """How often a closed polygon runs around a point, counted on the ray to its left."""
    found = 0
    corners = [(Fraction(a), Fraction(b)) for a, b in [*points, points[0]]]
    for (x0, y0), (x1, y1) in pairwise(corners):
        if (y0 <= y) != (y1 <= y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x:
            found += 1 if y1 > y0 else -1
    return found


def by_centres(points: list[Point]) -> Values:
    """Pixel by pixel, in exact numbers."""
    half = Fraction(1, 2)
    inside = [[winding(points, x + half, y + half) != 0 for x in range(WIDTH)] for y in range(HEIGHT)]
    return np.where(inside, np.uint8(255), np.uint8(0))


BOXES: dict[str, tuple[Box, Any]] = {
    "of whole pixels": ((2, 3, 5, 9), np.s_[3:9, 2:5]),
    "of the whole picture": ((0, 0, WIDTH, HEIGHT), np.s_[:, :]),
    "of one pixel": ((4, 5, 5, 6), np.s_[5:6, 4:5]),
    "to a centre, which the right and lower side leave out": ((2.5, 3.5, 4.5, 6.5), np.s_[3:6, 2:4]),
    "a little before centres": ((2.49, 3.49, 4.51, 6.51), np.s_[3:7, 2:5]),
    "a little behind centres": ((2.51, 3.51, 4.49, 6.49), np.s_[4:6, 3:4]),
}


@pytest.mark.parametrize("name", BOXES)
def test_a_box_covers_the_pixels_whose_centres_it_holds(name: str) -> None:
    box, covered = BOXES[name]
    np.testing.assert_array_equal(drawn([box]), mask_with(covered, (HEIGHT, WIDTH)))
    left, top, right, bottom = box
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    for polygon in (corners, corners[::-1], corners[2:] + corners[:2]):
        np.testing.assert_array_equal(drawn(polygons=[polygon]), drawn([box]))


POLYGONS: dict[str, list[Point]] = {
    "a triangle": [(1, 1), (20, 4), (7, 16)],
    "through centres": [(0.5, 0.5), (10.5, 0.5), (10.5, 10.5), (0.5, 10.5)],
    "a diamond through centres": [(8.5, 0.5), (16.5, 8.5), (8.5, 16.5), (0.5, 8.5)],
    "concave": [(0, 0), (23, 0), (12, 8), (23, 17), (0, 17), (11, 9)],
    "crossing itself": [(2, 2), (20, 15), (20, 2), (2, 15)],
    "a star, wound twice within": [(11, 0), (18, 17), (0, 6), (22, 6), (4, 17)],
    "walked twice": [(3, 3), (9, 3), (9, 9), (3, 9)] * 2,
    "with a point twice": [(3, 3), (9, 3), (9, 3), (9, 9), (3, 9), (3, 3)],
    "there and back again at one side": [(3, 3), (9, 3), (9, 9), (20, 9), (9, 9), (3, 9)],
    "thin": [(0, 0), (23, 16.9), (23, 17)],
}


@pytest.mark.parametrize("name", POLYGONS)
def test_a_polygon_covers_the_pixels_whose_centres_it_winds_around(name: str) -> None:
    points = POLYGONS[name]
    np.testing.assert_array_equal(drawn(polygons=[points]), by_centres(points))
    np.testing.assert_array_equal(drawn(polygons=[points[::-1]]), by_centres(points))


def test_any_polygon_does() -> None:
    rng = np.random.default_rng(3)
    for scale in (1, 2, 4, 1000):
        for count in range(3, 13):
            points = [
                (int(x) / scale, int(y) / scale)
                for x, y in rng.integers((0, 0), (WIDTH * scale + 1, HEIGHT * scale + 1), (count, 2))
            ]
            expected = by_centres(points)
            if expected.any():
                np.testing.assert_array_equal(drawn(polygons=[points]), expected, str(points))


def test_polygons_that_share_their_edges_share_no_pixel_and_leave_none_out() -> None:
    rng = np.random.default_rng(4)
    for _ in range(30):
        x, y = (float(value) for value in rng.uniform((5, 5), (18, 12)))
        corners: list[Point] = [(0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT), (0, 0)]
        parts = [drawn(polygons=[[*side, (x, y)]]) // 255 for side in pairwise(corners)]
        assert (np.sum(parts, axis=0) == 1).all()


def test_several_are_united_whichever_way_each_is_walked() -> None:
    star = POLYGONS["a star, wound twice within"]
    together = drawn([(0, 0, 12, 8)], [star, star[::-1], POLYGONS["a triangle"]])
    alone = [drawn([(0, 0, 12, 8)]), by_centres(star), by_centres(POLYGONS["a triangle"])]
    np.testing.assert_array_equal(together, np.maximum.reduce(alone))


def test_a_picture_of_many_bands_is_drawn_as_one() -> None:
    wide, tall = (2_000, 300), (150, 4_000)
    for width, height in (wide, tall):
        box = (3.0, 5.0, width - 7.0, height - 9.0)
        triangle: list[Point] = [(0, 0), (width, height), (0, height)]
        rows, columns = np.mgrid[:height, :width] + 0.5
        expected = (columns / width < rows / height) | (
            (box[0] < columns) & (columns < box[2]) & (box[1] < rows) & (rows < box[3])
        )
        found = drawn([box], [triangle], (width, height)) == 255
        assert np.count_nonzero(found != expected) < width + height  # on the diagonal, rounding decides
        np.testing.assert_array_equal(found[:, :3], expected[:, :3])


def spikes(count: int, width: float, height: float) -> list[Point]:
    """A polygon each of whose edges crosses the whole picture."""
    return [(width * number / count, height * (number % 2)) for number in range(count)]


SIDE = 9_400
"""Of a square of the pixels that Pillow takes."""


def largest_shapes(height: int = SIDE) -> Shapes:
    return Shapes([(0, 0, SIDE, height)] * MAX_BOXES, [spikes(MAX_POINTS, SIDE, height)])


def test_the_largest_shapes_take_seconds_on_the_largest_picture() -> None:
    mask, shapes = np.zeros((SIDE, SIDE), np.uint8), largest_shapes()
    began = time.process_time()
    shapes.draw(mask)
    assert mask.all()
    assert time.process_time() - began < 10  # decode_cpu_s


def test_what_they_take_beside_the_mask_is_bounded() -> None:
    mask, shapes = np.zeros((SIDE // 4, SIDE), np.uint8), largest_shapes(SIDE // 4)
    tracemalloc.start()
    try:
        shapes.draw(mask)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 48 * 2**20


def test_edges_that_cross_too_many_rows_are_refused() -> None:
    with pytest.raises(InvalidField, match="Send fewer points"):
        drawn(polygons=[spikes(MAX_POINTS, 1, 1_000_000)], size=(1, 1_000_000))


@pytest.mark.parametrize(
    ("boxes", "polygons", "sentence"),
    [
        ([(0, 0, 4, 4), (2, 2, WIDTH + 0.5, 5)], [], r"mask_box: box 2 reaches to 23\.5, 5 .* 23 x 17 pixels"),
        ([], [[(0, 0), (5, 5), (3, HEIGHT + 1)]], r"mask_polygon: polygon 1 reaches to 5, 18 .* nothing is cut off"),
        ([(3.6, 3, 4.4, 9)], [], r"mask_box: box 1 covers no pixel's centre"),
        ([(0, 0, 4, 4)], [[(0, 0), (5, 5), (10, 10)]], r"mask_polygon: polygon 1 covers no pixel's centre"),
        ([], [[(0, 0), (9, 0), (9, 9)], [(1, 1), (1, 1), (1, 1)]], r"mask_polygon: polygon 2 covers no pixel's centre"),
    ],
)
def test_what_leaves_the_picture_or_covers_nothing_is_refused_by_its_number(
    boxes: list[Box], polygons: list[list[Point]], sentence: str
) -> None:
    with pytest.raises(InvalidField, match=sentence):
        drawn(boxes, polygons)


# ---- over HTTP


async def stored(client: httpx.AsyncClient, settler: Settler, response: httpx.Response) -> tuple[Values, Any]:
    """The mask that the worker takes, and its report."""
    assert response.status_code == 202, response.text
    job = (await client.get(f"/v1/jobs/{response.json()['id']}")).json()
    kept = settler.queue.store.inputs(job["id"])["mask"]
    assert kept is not None
    with Image.open(io.BytesIO(kept)) as mask:
        assert (mask.format, mask.mode) == ("PNG", "L")
        return np.asarray(mask), job["mask"]


A_BOX, TRIANGLE, SLIVER = [2, 3, 20, 30], [[30.0, 2.0], [60.0, 2.0], [30.0, 40.0]], [[1, 1], [9, 1], [9, 9]]
GIVEN: dict[str, tuple[dict[str, Any], list[Any], list[Any]]] = {
    "a box": ({"mask_box": A_BOX}, [A_BOX], []),
    "boxes": ({"mask_box": [A_BOX, [40, 3.5, 50, 9]]}, [A_BOX, [40, 3.5, 50, 9]], []),
    "a polygon": ({"mask_polygon": TRIANGLE}, [], [TRIANGLE]),
    "polygons": ({"mask_polygon": [TRIANGLE, SLIVER]}, [], [TRIANGLE, SLIVER]),
    "both": ({"mask_box": A_BOX, "mask_polygon": TRIANGLE}, [A_BOX], [TRIANGLE]),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", GIVEN)
async def test_shapes_are_a_mask_by_themselves_or_beside_a_file(
    client: httpx.AsyncClient, settler: Settler, name: str
) -> None:
    fields, boxes, polygons = GIVEN[name]
    expected = drawn(boxes, polygons, SIZE)
    texts: dict[str, Any] = {field: json.dumps(value) for field, value in fields.items()}
    beside, image = await submit(client, **texts), {"image": files()["image"]}
    mask, report = await stored(client, settler, await client.post("/v1/inpaint", files=image, data=texts))
    np.testing.assert_array_equal(mask, expected)
    sources = [kind for kind, shapes in (("box", boxes), ("polygon", polygons)) if shapes]
    assert (report["sources"], report["mode"], report["soft"]) == (sources, "white", False)
    assert report["coverage"] == pytest.approx((expected > 0).mean(), abs=1e-6)
    mask, report = await stored(client, settler, beside)
    np.testing.assert_array_equal(mask, np.maximum(expected, np.asarray(box_mask())))
    assert report["sources"] == ["file", *sources]
    body = document(image=base64_of(encoded(photo())), mask=..., **fields)
    mask, _ = await stored(client, settler, await post_json(client, body))
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.anyio
async def test_a_box_is_the_one_that_the_job_reports(client: httpx.AsyncClient) -> None:
    boxed = await post_json(client, document(image=base64_of(encoded(photo())), mask=..., mask_box=A_BOX))
    assert boxed.json()["mask"]["bbox"] == A_BOX


@pytest.mark.anyio
async def test_coordinates_are_those_of_the_upright_photo(client: httpx.AsyncClient, settler: Settler) -> None:
    image = {"image": ("a.jpg", with_orientation(photo(), 6))}
    box = [10, 50, 48, 64]  # of 48 x 64
    response = await client.post("/v1/inpaint", files=image, data={"mask_box": json.dumps(box)})
    mask, _ = await stored(client, settler, response)
    np.testing.assert_array_equal(mask, mask_with(np.s_[50:64, 10:48], (64, 48)))


@pytest.mark.anyio
async def test_shapes_are_added_once_the_file_is_read(client: httpx.AsyncClient, settler: Settler) -> None:
    soft = np.full(SIZE[::-1], 3, np.uint8)
    soft[:8] = 140
    sent = files(mask=png(255 - soft))
    response = await client.post("/v1/inpaint", files=sent, data={"mask_mode": "black", "mask_box": "[0, 4, 9, 40]"})
    mask, report = await stored(client, settler, response)
    expected = np.where(soft == 140, soft, 0)
    expected[4:40, :9] = 255
    np.testing.assert_array_equal(mask, expected)
    assert (report["mode"], report["sources"], report["soft"]) == ("black", ["file", "box"], True)
    black = await client.post("/v1/inpaint", files=files(mask=png(soft * 0)), data={"mask_box": "[0, 4, 9, 40]"})
    mask, _ = await stored(client, settler, black)
    np.testing.assert_array_equal(mask, mask_with(np.s_[4:40, :9], SIZE[::-1]))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "three numbers": ({"mask_box": [1, 2, 3]}, "mask_box.0.3: This field is missing."),
    "five numbers": ({"mask_box": [1, 2, 3, 4, 5]}, "mask_box.0: This list may have at most 4 items."),
    "a number": ({"mask_box": 5}, "mask_box: This field must be a list."),
    "an object": ({"mask_box": {"left": 1}}, "mask_box: This field must be a list."),
    "text": ({"mask_box": ["1", "2", "3", "4"]}, "mask_box.0.0: This field must be a number."),
    "true": ({"mask_box": [True, 0, 3, 4]}, "mask_box.0.0: This field must be a number."),
    "negative": ({"mask_box": [-0.5, 0, 3, 4]}, "mask_box.0.0: This field must be greater than or equal to 0"),
    "huge": ({"mask_box": [0, 0, 1e300, 4]}, "mask_box.0.2: This field must be less than or equal to"),
    "endless digits": ({"mask_box": [0, 0, 10**300, 4]}, "mask_box.0.2: This field must be "),
    "right before left": ({"mask_box": [[1, 1, 9, 9], [9, 2, 3, 4]]}, "mask_box: Box 2 has its right or lower side"),
    "no height": ({"mask_box": [1, 2, 3, 2]}, "mask_box: Box 1 has its right or lower side"),
    "many boxes": ({"mask_box": [[0, 0, 1, 1]] * 101}, "mask_box: This list may have at most 100 items."),
    "two points": ({"mask_polygon": [[1, 2], [3, 4]]}, "mask_polygon.0: This list must have at least 3 items."),
    "a flat list": ({"mask_polygon": [1, 2, 3, 4, 5, 6]}, "mask_polygon.0: This field must be a list."),
    "three to a point": ({"mask_polygon": [[1, 2, 3]] * 3}, "mask_polygon.0.0: This list may have at most 2 items."),
    "nested": ({"mask_polygon": [[[[1, 2]]]]}, "mask_polygon.0"),
    "many points": (
        {"mask_polygon": [[0, 0], [9, 9]] * 1001},
        "mask_polygon.0: This list may have at most 2000 items.",
    ),
    "many points of two polygons": (
        {"mask_polygon": [[[0, 0], [9, 0], [9, 9]] * 334] * 2},
        "mask_polygon: All polygons have 2004 points",
    ),
    "outside": (
        {"mask_box": [0, 0, 65, 48]},
        "mask_box: box 1 reaches to 65, 48",
    ),
    "on a line": ({"mask_polygon": [[1, 1], [5, 5], [9, 9]]}, "mask_polygon: polygon 1 covers no pixel's centre"),
    "no file to threshold": (
        {"mask_box": A_BOX, "mask_threshold": 0.5},
        "mask_threshold: it says how",
    ),
    "no file to invert": ({"mask_box": A_BOX, "mask_mode": "black"}, "mask_mode: it says how a mask file is read"),
    "neither": ({}, "mask: This field is missing. Send a mask file, mask_box or mask_polygon."),
    "no boxes": ({"mask_box": []}, "mask: This field is missing."),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", BAD)
async def test_bad_shapes_are_refused_in_either_body(client: httpx.AsyncClient, connection: Redis, name: str) -> None:
    fields, sentence = BAD[name]
    sent = document(image=base64_of(encoded(photo())), mask=..., **fields)
    texts = {field: value if isinstance(value, str) else json.dumps(value) for field, value in fields.items()}
    answers = [
        await post_json(client, sent),
        await client.post("/v1/inpaint", files={"image": files()["image"]}, data=texts),
    ]
    for answer in answers:
        problem = assert_problem(answer, 422, "invalid_field")
        assert problem["detail"].startswith(sentence)
        if problem.get("errors"):
            assert problem["detail"].endswith("in pixels.")
    assert not our_keys(connection)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "text", ["NaN", "[NaN, 0, 3, 4]", "[1e999, 0, 3, 4]", "[" * 5_000, "{", '"1,2,3,4"', "1,2,3,4"]
)
async def test_text_that_is_no_list_of_numbers_is_refused(client: httpx.AsyncClient, text: str) -> None:
    for name in ("mask_box", "mask_polygon"):
        answer = await client.post("/v1/inpaint", files={"image": files()["image"]}, data={name: text})
        assert assert_problem(answer, 422, "invalid_field")["errors"][0]["field"].startswith(name)


@pytest.mark.anyio
async def test_a_repeated_request_with_other_shapes_is_another_one(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "shapes"}
    sent = {"image": base64_of(encoded(photo())), "mask": ...}
    first = await post_json(client, document(**sent, mask_box=A_BOX), **key)
    again = await post_json(client, document(**sent, mask_box=[A_BOX]), **key)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    for other in (
        {"mask_box": [2, 3, 20, 31]},
        {"mask_polygon": TRIANGLE},
        {"mask_box": A_BOX, "mask_polygon": TRIANGLE},
    ):
        assert_problem(await post_json(client, document(**sent, **other), **key), 422, "idempotency_conflict")
    with_file = await post_json(client, document(image=sent["image"], mask_box=A_BOX), **key)
    assert_problem(with_file, 422, "idempotency_conflict")


@pytest.mark.anyio
async def test_a_box_of_everything_leaves_no_surroundings(client: httpx.AsyncClient) -> None:
    box = json.dumps([0, 0, *SIZE])
    for fields in ({}, {"model": "pocket"}):
        answer = await client.post("/v1/inpaint", files={"image": files()["image"]}, data={"mask_box": box, **fields})
        assert_problem(answer, 422, "no_surroundings")


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["form", "json"])
async def test_openais_route_takes_shapes_for_a_mask(settings: ApiSettings, settler: Settler, kind: str) -> None:
    async with serve(settings.model_copy(update={"max_wait_s": 0})) as client:

        async def edited(box: list[int]) -> httpx.Response:
            if kind == "form":
                sent: dict[str, Any] = {"files": {"image": files()["image"]}, "data": {"mask_box": json.dumps(box)}}
            else:
                sent = {"json": {"images": [f"data:;base64,{base64_of(encoded(photo()))}"], "mask_box": box}}
            return await client.post("/v1/images/edits", **sent)

        refused = (await edited([0, 0, 65, 9])).json()["error"]
        assert (refused["param"], refused["code"]) == ("mask_box", "invalid_field")
        assert (await edited(A_BOX)).json()["error"]["code"] == "still_running"
    (job_id,) = settler.queue.rq.job_ids
    kept = settler.queue.store.inputs(job_id)["mask"]
    assert kept is not None
    with Image.open(io.BytesIO(kept)) as mask:
        np.testing.assert_array_equal(np.asarray(mask), drawn([(2, 3, 20, 30)], size=SIZE))
