"""The editor of the page for people: what hands, fingers and keys make of a mask."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tests.app.pictures import photo
from tests.app.processes import ApiProcess
from tests.chromium import NARROW, WIDE, Easel, chromium, sync_api
from tests.factories import encoded, mask_with

if TYPE_CHECKING:
    from playwright.sync_api import Browser
else:
    Browser = object

SIZE = (320, 240)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(params=[WIDE, NARROW], ids=["wide", "narrow"])
def easel(request: pytest.FixtureRequest, browser: Browser, api: ApiProcess) -> Iterator[Easel]:
    with browser.new_context(**request.param) as context:
        yield Easel.open(context.new_page(), api.url, photo(SIZE))


wide = pytest.mark.parametrize("easel", [WIDE], indirect=True)
narrow = pytest.mark.parametrize("easel", [NARROW], indirect=True)


def painted(mask: NDArray[np.uint8], x: int, y: int) -> bool:
    assert mask[y, x] in (0, 255)
    return bool(mask[y, x])


def test_brush_eraser_box_and_lasso_paint_where_they_are_seen_to(easel: Easel) -> None:
    page = easel.page
    easel.drag((60, 60), (120, 60))
    page.click("[data-tool=box]")
    easel.drag((200, 40), (280, 100))
    page.click("[data-tool=lasso]")
    easel.drag((40, 140), (120, 140), (120, 220), (40, 140))
    page.click("[data-tool=eraser]")
    easel.drag((240, 70), (241, 70))
    mask = easel.mask()
    inside = {"brush": (90, 60), "box": (210, 50), "lasso": (110, 160)}
    outside = {"brush": (160, 60), "box": (190, 70), "lasso": (50, 200), "erased": (240, 70)}
    assert {name: painted(mask, *at) for name, at in inside.items()} == dict.fromkeys(inside, True)
    assert {name: painted(mask, *at) for name, at in outside.items()} == dict.fromkeys(outside, False)
    assert mask[40:100, 280].max() == 0 and mask[45, 200:280].min() == 255, "the box ends at its edges"
    page.click("#invert")
    assert (easel.mask() == 255 - mask).all()


@wide
def test_undo_and_redo_go_through_all_that_was_done(easel: Easel) -> None:
    page = easel.page
    page.click("[data-tool=box]")
    sync_api.expect(page.locator("#go")).to_be_disabled()
    easel.drag((10, 10), (50, 50))
    easel.drag((100, 100), (150, 150))
    two = easel.mask()
    page.click("#clear")
    sync_api.expect(page.locator("#go")).to_be_disabled()
    page.keyboard.press("Control+z")
    assert (easel.mask() == two).all()
    page.keyboard.press("Control+z")
    assert not painted(easel.mask(), 120, 120) and painted(easel.mask(), 30, 30)
    page.keyboard.press("Shift+Control+z")
    assert (easel.mask() == two).all()
    for _ in range(2):
        page.click("#undo")
    sync_api.expect(page.locator("#undo")).to_be_disabled()
    sync_api.expect(page.locator("#go")).to_be_disabled()


@narrow
def test_two_fingers_zoom_and_do_not_paint(easel: Easel) -> None:
    easel.touch(((100, 100), (60, 100)), ((200, 100), (280, 100)))
    sync_api.expect(easel.page.locator("#undo")).to_be_disabled()
    easel.page.click("#zoom-fit")
    easel.touch(((100, 120), (200, 120)))
    assert painted(easel.mask(), 150, 120)
    assert painted(easel.mask(), 110, 120) and not painted(easel.mask(), 150, 200)


@narrow
def test_a_finger_that_stays_after_a_pinch_does_not_paint(easel: Easel) -> None:
    device = easel.page.context.new_cdp_session(easel.page)
    points = [
        dict(zip(("x", "y"), easel.on_screen(*at), strict=True), id=i) for i, at in enumerate(((90, 90), (200, 90)))
    ]
    for kind, touches in (
        ("touchStart", points[:1]),
        ("touchMove", [points[0] | {"x": points[0]["x"] + 30}]),
        ("touchStart", points),
        ("touchEnd", points[:1]),
        ("touchMove", [points[0] | {"y": points[0]["y"] + 40}]),
        ("touchEnd", []),
    ):
        device.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
    sync_api.expect(easel.page.locator("#undo")).to_be_disabled()
    assert easel.mask().max() == 0


@wide
def test_what_is_painted_after_zooming_lies_under_the_pointer(easel: Easel) -> None:
    page, centre = easel.page, easel.on_screen(160, 120)
    page.mouse.move(*centre)
    for _ in range(8):
        page.mouse.wheel(0, -200)
    page.mouse.down()
    page.mouse.up()
    mask = easel.mask()
    ys, xs = np.nonzero(mask)
    assert abs(xs.mean() - 160) < 1 and abs(ys.mean() - 120) < 1
    widths = page.locator("#stage canvas").evaluate_all("canvases => canvases.map(({width}) => width)")
    assert widths == [page.locator("#stage").evaluate("stage => stage.clientWidth")] * 2, "as wide as on the screen"
    assert len(xs) < 100, "the brush has a size on the screen, so it is finer on the photo"
    page.keyboard.press("0")
    page.keyboard.press("]")
    easel.drag((20, 20), (21, 20))
    assert np.count_nonzero(easel.mask()) > 5 * len(xs)


@wide
def test_a_mask_can_be_painted_by_keys_alone(easel: Easel) -> None:
    page = easel.page
    page.focus("#stage")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    for _ in range(4):
        page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    mask = easel.mask()
    assert painted(mask, 150, 120) and not painted(mask, 200, 120) and not painted(mask, 150, 170)
    page.keyboard.press("Escape")
    page.focus("#stage")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Escape")
    assert (easel.mask() == mask).all(), "Escape takes back what was begun"
    sync_api.expect(page.locator("#go")).to_be_enabled()


@wide
def test_letters_typed_into_the_prompt_choose_no_tool(easel: Easel) -> None:
    page = easel.page
    page.fill("#prompt", "")
    page.locator("#prompt").press_sequentially("be[i0")
    assert page.input_value("#prompt") == "be[i0"
    sync_api.expect(page.locator("[data-tool=brush]")).to_have_attribute("aria-checked", "true")
    page.focus("#stage")
    page.keyboard.press("e")
    sync_api.expect(page.locator("[data-tool=eraser]")).to_have_attribute("aria-checked", "true")


@wide
def test_a_mask_that_is_loaded_is_the_mask_and_one_of_another_size_is_named(easel: Easel) -> None:
    page = easel.page
    mask = mask_with(np.s_[30:90, 50:200], (240, 320))
    mask[100:110, 100:110] = 128
    for name, content in {"mask.png": encoded(Image.fromarray(mask))}.items():
        page.set_input_files("#mask-file", {"name": name, "mimeType": "image/png", "buffer": content})
    sync_api.expect(page.locator("#go")).to_be_enabled()
    assert np.abs(easel.mask().astype(int) - mask).max() <= 1
    page.set_input_files(
        "#mask-file", {"name": "mask.png", "mimeType": "image/png", "buffer": encoded(photo((64, 48), "L"))}
    )
    sync_api.expect(page.locator("#problem")).to_contain_text("64 \u00d7 48")


@wide
def test_what_lies_in_a_box_is_found_and_what_cannot_be_found_is_said(easel: Easel) -> None:
    page = easel.page
    page.click("[data-tool=find]")
    easel.drag((40, 40), (200, 160))
    sync_api.expect(page.locator("#problem")).to_contain_text("Nothing there stands out clearly enough.")
    picture = Image.new("RGB", SIZE, "navy")
    ImageDraw.Draw(picture).ellipse((100, 80, 160, 140), "orange")
    easel = Easel.open(page, "", picture)
    easel.drag((80, 60), (180, 160))
    sync_api.expect(page.locator("#go")).to_be_enabled()
    mask = easel.mask()
    assert mask[110, 130] == 255 and mask[110, 90] == 0 and mask[70, 130] == 0
    page.click("#undo")
    sync_api.expect(page.locator("#go")).to_be_disabled()


@narrow
def test_the_button_is_in_sight_wherever_the_page_is_scrolled(easel: Easel) -> None:
    go = easel.page.locator("#go")
    for where in ("#stage", "#code", "header"):
        easel.page.locator(where).scroll_into_view_if_needed()
        sync_api.expect(go).to_be_in_viewport(ratio=1)
    assert easel.page.evaluate("document.documentElement.scrollWidth") <= 390
