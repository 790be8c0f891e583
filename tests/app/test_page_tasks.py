"""The tasks of the page for people: what is extended, what is found, and what is sent of it."""

import io
import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from redis import Redis

from jobs import keys
from jobs.extend_fields import ANCHORS, borders_of, borders_within, size_with
from jobs.queue import parameters_of
from jobs.schema import InpaintParameters
from tests.app.pictures import photo
from tests.app.processes import ApiProcess
from tests.app.settling import Settler
from tests.chromium import NARROW, WIDE, Easel, Point, chromium, drag, sync_api
from tests.factories import encoded

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
else:
    Browser = Page = object

SIZE = (320, 240)
SIDES = ("left", "top", "right", "bottom")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(params=[WIDE, NARROW], ids=["wide", "narrow"])
def easel(request: pytest.FixtureRequest, browser: Browser, api: ApiProcess) -> Iterator[Easel]:
    """The page with a photo of two discs, one of them with a ring around it."""
    picture = Image.new("RGB", SIZE, "navy")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((60, 80, 120, 140), "orange")
    draw.ellipse((200, 60, 290, 150), "darkgreen")
    draw.ellipse((225, 85, 265, 125), "orange")
    with browser.new_context(**request.param) as context:
        yield Easel.open(context.new_page(), api.url, picture)


wide = pytest.mark.parametrize("easel", [WIDE], indirect=True)
narrow = pytest.mark.parametrize("easel", [NARROW], indirect=True)


def hint(page: Page, text: str) -> None:
    sync_api.expect(page.locator("#hint")).to_contain_text(text)


def sent(page: Page, settler: Settler) -> tuple[str, InpaintParameters]:
    """Press the button; the job's id, and what it is to do."""
    with page.expect_response("**/v1/inpaint") as submitted:
        page.click("#go")
    job_id: str = submitted.value.json()["id"]
    return job_id, parameters_of(settler.start(job_id))


def edge(page: Page, across: float, down: float) -> Point:
    """A place of the frame's edge on the screen: 0 is its left or upper side, 1 the other one."""
    box = page.locator("#frame").bounding_box()
    assert box is not None
    return box["x"] + across * box["width"], box["y"] + down * box["height"]


def borders(page: Page) -> list[float]:
    return [float(page.input_value(f"#extend-{side}")) for side in SIDES]


@wide
def test_the_borders_that_are_shown_are_those_that_the_service_adds(easel: Easel) -> None:
    draws = random.Random(3)
    cases: list[dict[str, Any]] = []
    for _ in range(300):
        size = draws.randrange(1, 9000), draws.randrange(1, 9000)
        aspect, anchor = draws.choice(["1:1", "4:3", "3:2", "16:9", "9:16", "2.35:1"]), draws.choice(ANCHORS)
        lengths = [draws.choice([f"{draws.randrange(2000)}", f"{draws.randrange(10**6) / 10**4}%"]) for _ in SIDES]
        wanted = borders_within(size_with(aspect, size), size, anchor)
        case = {"photo": dict(zip(("width", "height"), size, strict=True)), "aspect": aspect, "anchor": anchor}
        expected = [list(wanted), list(borders_of(",".join(lengths), size))]
        cases.append(case | {"extend": ",".join(lengths), "expected": expected})
    script = """async cases => {
      const {bordersOf, bordersWithin, sizeWith, SIDES} = await import("./page/borders.js");
      return cases.map(({photo, aspect, anchor, extend}) =>
        [bordersWithin(sizeWith(aspect, photo), photo, anchor), bordersOf(extend, photo)]
          .map(found => SIDES.map(side => found[side])));
    }"""
    assert easel.page.evaluate(script, cases) == [case["expected"] for case in cases]


@wide
def test_a_frame_that_is_dragged_is_what_the_photo_is_extended_to(easel: Easel, settler: Settler) -> None:
    page = easel.page
    easel.drag((100, 100), (150, 120))
    page.locator("[name=mask_grow]").fill("7")
    page.click("[data-task=extend]")
    hint(page, "Drag the frame")
    sync_api.expect(page.locator("#go")).to_be_disabled()
    assert page.locator("[name=mask_grow]").is_hidden() and page.locator("#undo").is_hidden()
    right, middle = edge(page, 1, 0.5), edge(page, 0.5, 0.5)
    drag(page, right, (right[0] + (right[0] - middle[0]), right[1] + 40))
    left, top, wide, bottom = borders(page)
    assert (left, top, bottom) == (0, 0, 0) and abs(wide - 160) <= 2, "as far as it was dragged, to one side"
    hint(page, f"{320 + wide:g} \u00d7 240 pixels")
    drag(page, edge(page, 0, 0), (edge(page, 0, 0)[0] - 20, edge(page, 0, 0)[1] - 20))
    left, top, _, bottom = borders(page)
    assert left > 5 and top > 5 and borders(page)[2] == wide
    drag(page, edge(page, 0.5, 0), edge(page, 0.5, 0.9))
    assert borders(page) == [left, 0, wide, 0], "not into the photo"
    drag(page, edge(page, 0.4, 0.5), edge(page, 0.6, 0.6))
    assert borders(page) == [left, 0, wide, 0], "within the frame nothing is held"
    job_id, parameters = sent(page, settler)
    assert (parameters.task, parameters.mask_grow) == ("extend", 0)
    assert parameters.extend is not None
    assert (parameters.extend.left, parameters.extend.right) == (left, wide)
    size = parameters.extend.width, parameters.extend.height
    assert size == (320 + left + wide, 240)
    frame = page.locator("#frame").bounding_box()
    page.fill("#extend-left", "1")
    assert page.locator("#frame").bounding_box() == frame, "that of the job that is on its way"
    result = Image.new("RGB", size, "red")
    result.paste("blue", (size[0] - int(left) // 2, 0, *size))
    settler.succeed(job_id, [encoded(result)])
    sync_api.expect(page.locator("#stage[data-mode=compare]")).to_be_visible()
    red, blue = (255, 0, 0), (0, 0, 255)
    assert {red, blue} <= colours(page), "up to its right edge"
    page.click("[data-show=after]")
    assert {red, blue} <= colours(page) and (0, 0, 128) not in colours(page), (
        "the result is shown whole, whatever the form asks for by now"
    )
    page.click("[data-show=before]")
    assert red not in colours(page)
    page.click("[data-task=fill]")
    page.click("#film button")
    sync_api.expect(page.locator("[data-task=extend]")).to_have_attribute("aria-checked", "true")
    sync_api.expect(page.locator("#extend-left")).to_have_value(f"{left:g}")
    page.click("[data-show=paint]")
    page.select_option("#unit", "%")
    assert abs(borders(page)[2] - wide / 3.2) < 0.1
    page.fill("#extend-left", "25")
    page.fill("#extend-top", "0.5")
    hint(page, "\u00d7 242 pixels")
    assert f"extend=25%,0.5%,{borders(page)[2]:g}%,0%" in code(page)


def colours(page: Page) -> set[tuple[int, ...]]:
    """Of a part of the pixels that the stage shows, once it is drawn."""
    script = """() => {
      const canvas = document.querySelector("#photo"), context = canvas.getContext("2d");
      const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
      const seen = new Set();
      for (let at = 0; at < data.length; at += 4 * 97)
        if (data[at + 3] === 255) seen.add(data.slice(at, at + 3).join(","));
      return [...seen];
    }"""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return {tuple(map(int, text.split(","))) for text in page.evaluate(script)}


def code(page: Page, language: str = "curl") -> str:
    page.click("#code")
    page.click(f"#languages >> text={language}")
    text = page.inner_text("#listing")
    page.click("#close")
    return text


@narrow
def test_a_photo_is_extended_by_fingers_and_by_shapes_within_the_services_limits(
    easel: Easel, settler: Settler
) -> None:
    page = easel.page
    page.click("[data-task=extend]")
    page.locator("#stage").scroll_into_view_if_needed()
    x, y = edge(page, 1, 0.5)
    finger(page, (x + 20, y), (x + 30, y), (x + 45, y))
    assert borders(page)[2] > 20 and borders(page)[0] == 0
    page.click("[data-aspect='16:9']")
    hint(page, "427 \u00d7 240 pixels")
    assert page.locator("#extend-left").is_hidden()
    page.locator("[data-anchor=center]").focus()
    page.keyboard.press("ArrowLeft")
    job_id, parameters = sent(page, settler)
    assert parameters.extend is not None and parameters.extend.left == 0 and parameters.extend.right == 107
    with page.expect_response(f"**/v1/jobs/{job_id}"):
        page.click("#cancel")
    settler.stop(job_id)
    hint(page, "Canceled.")
    page.click("[data-aspect='4:3']")
    hint(page, "The photo is 4:3 already.")
    sync_api.expect(page.locator("#go")).to_be_disabled()
    page.click("[data-aspect='']")
    page.fill("#extend-right", "900000")
    hint(page, "217 megapixels; this service takes")
    sync_api.expect(page.locator("#go")).to_be_disabled()
    for hides in ("[data-aspect='1:1']", "[data-task=fill]"):
        page.click("[data-aspect='']")
        page.fill("#extend-right", "-1")
        assert not page.locator("#form").evaluate("form => form.checkValidity()")
        page.click(hides)
        assert page.locator("#form").evaluate("form => form.checkValidity()"), "what is hidden is in nobody's way"


def finger(page: Page, *places: Point, until: Callable[[], None] | None = None) -> None:
    """A finger that comes down, moves through these places of the screen, and stays there until something is so."""
    device = page.context.new_cdp_session(page)
    for number, (x, y) in enumerate(places):
        kind = "touchMove" if number else "touchStart"
        device.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    if until:
        until()
    device.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def found(page: Page) -> None:
    sync_api.expect(page.locator("#stage")).to_have_attribute("aria-busy", "false")


@wide
def test_points_find_a_subject_and_further_ones_change_it(easel: Easel) -> None:
    page = easel.page
    easel.drag((10, 200), (40, 200))
    page.keyboard.press("f")
    easel.click(10, 20, beside=True)
    sync_api.expect(page.locator("#problem")).to_contain_text("Click something first")
    with page.expect_response("**/v1/masks"):
        easel.click(90, 110)
    found(page)
    one = easel.mask()
    assert one[110, 90] == 255 and one[200, 25] == 255 and one[20, 20] == 0, "it is joined to what was painted"
    sync_api.expect(page.locator("#dots i")).to_have_count(1)
    easel.click(212, 105)
    found(page)
    two = easel.mask()
    sync_api.expect(page.locator("#dots i")).to_have_count(2)
    assert two[110, 90] == 255 and two[105, 212] == 255
    easel.click(245, 105, beside=True)
    found(page)
    sync_api.expect(page.locator("#dots .off")).to_have_count(1)
    three = easel.mask()
    assert three[105, 245] == 0, "what was found before is replaced, not joined"
    page.keyboard.press("Control+z")
    assert (easel.mask() == two).all()
    page.keyboard.press("Control+z")
    assert (easel.mask() == one).all()
    page.keyboard.press("Control+z")
    assert easel.mask()[110, 90] == 0 and easel.mask()[200, 25] == 255
    for _ in range(3):
        page.keyboard.press("Control+y")
    assert (easel.mask() == three).all()
    hint(page, "Alt-click what does not belong to it")
    easel.click(400, 20)
    page.mouse.click(*easel.on_screen(-10, 20))
    found(page)
    sync_api.expect(page.locator("#dots i")).to_have_count(3)


@narrow
def test_fingers_and_keys_point_at_a_subject_and_beside_it(easel: Easel) -> None:
    page = easel.page
    page.click("[data-tool=find]")
    place = easel.on_screen(212, 105)
    finger(page, place, (place[0] + 1, place[1] + 1))
    found(page)
    assert easel.mask()[105, 212] == 255
    finger(page, easel.on_screen(90, 20), until=lambda: sync_api.expect(page.locator("#dots .off")).to_have_count(1))
    page.focus("#stage")
    page.keyboard.press("Shift+Enter")
    found(page)
    sync_api.expect(page.locator("#dots .off")).to_have_count(2)
    page.click("#clear")
    sync_api.expect(page.locator("#dots i")).to_have_count(0)
    page.focus("#stage")
    for _ in range(2):
        page.keyboard.press("Shift+ArrowRight")
    with page.expect_response("**/v1/masks"):
        page.keyboard.press("Enter")
    found(page)
    sync_api.expect(page.locator("#dots .on")).to_have_count(1)


@wide
def test_the_background_that_was_found_is_what_is_repainted(easel: Easel, settler: Settler, connection: Redis) -> None:
    page = easel.page
    page.click("[data-tool=find]")
    easel.drag((50, 70), (130, 150))
    found(page)
    page.click("[data-tool=brush]")
    page.click("[data-task=replace_background]")
    sync_api.expect(page.locator("[data-tool=find]")).to_have_attribute("aria-checked", "true")
    assert "mask=@mask.png" in code(page), "it is the subject that is painted so far"
    easel.drag((190, 50), (300, 160))
    found(page)
    easel.click(90, 20, beside=True)
    found(page)
    sync_api.expect(page.locator("#dots .off")).to_have_count(1)
    mask = easel.mask()
    assert mask[105, 212] == 0 and mask[20, 20] == 255 and mask[110, 90] == 255
    page.click("#go")
    assert "behind the subject" in page.locator("#prompt").evaluate("field => field.validationMessage")
    page.fill("#prompt", " ")
    assert not page.locator("#prompt").evaluate("field => field.checkValidity()")
    page.fill("#prompt", "a dark red wall")
    assert "mask=@" not in code(page) and "task=replace_background" in code(page)
    assert '"mask_box": "[' in code(page, "OpenAI") and "mask_mode" not in code(page, "OpenAI")
    job_id, parameters = sent(page, settler)
    assert parameters.prompt == "a dark red wall"
    assert (read(connection.get(keys.picture(job_id, "mask"))) == mask).all(), "the mask that was shown"
    settler.succeed(job_id, [encoded(photo(SIZE))])
    page.click("[data-show=paint]")
    page.click("[data-tool=eraser]")
    easel.drag((20, 20), (40, 20))
    retouched = easel.mask()
    assert "mask=@mask.png" in code(page) and "replace_background" not in code(page)
    job_id, parameters = sent(page, settler)
    taken = read(connection.get(keys.picture(job_id, "mask")))
    assert np.abs(taken - retouched).max() <= 8, "as near as the service reads a soft edge"
    assert retouched[20, 30] == 0
    settler.succeed(job_id, [encoded(photo(SIZE))])
    page.click("[data-task=remove]")
    page.click("#film button >> nth=1")
    sync_api.expect(page.locator("[data-task=replace_background]")).to_have_attribute("aria-checked", "true")
    sync_api.expect(page.locator("#prompt")).to_have_value("a dark red wall")
    assert "task=replace_background" in code(page)
    page.click("[data-show=paint]")
    assert (easel.mask() == mask).all()
    page.click("#clear")
    page.click("#find-subject")
    sync_api.expect(page.locator("#stage")).to_have_attribute("aria-busy", "false")


def read(content: object) -> Any:
    assert isinstance(content, bytes)
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("L"), int)
