"""A real browser, Chromium driven by Playwright, and what hands do on the page for people. Skips where either lacks."""

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.factories import encoded

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
else:
    Browser = Page = object

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("chromium is not installed", allow_module_level=True)

WIDE: dict[str, Any] = {"viewport": {"width": 1440, "height": 900}}
NARROW: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
MARGIN = 12
"""Around a photo that fits the stage: ``app/page/view.js``."""

Point = tuple[float, float]


@contextmanager
def chromium(*options: str) -> Iterator[Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *options])
        yield browser
        browser.close()


@dataclass
class Easel:
    """The page with a photo of ``size`` on it. Points are pixels of the photo."""

    page: Page
    size: tuple[int, int]

    @classmethod
    def open(cls, page: Page, url: str, photo: Image.Image, name: str = "photo.png") -> "Easel":
        """Without a ``url``, on the page as it is."""
        if url:
            page.goto(url)
        sync_api.expect(page.locator("#tasks [role=radio]").first).to_be_attached()
        page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": encoded(photo)})
        sync_api.expect(page.locator("#facts")).to_have_text(f"{photo.width} \u00d7 {photo.height}")
        return cls(page, photo.size)

    def on_screen(self, x: float, y: float) -> Point:
        """Where a point of the photo is while the photo fits the stage."""
        stage = self.page.locator("#stage")
        stage.scroll_into_view_if_needed()
        box = stage.bounding_box()
        assert box is not None
        scale = min((box["width"] - 2 * MARGIN) / self.size[0], (box["height"] - 2 * MARGIN) / self.size[1])
        left, top = (box["width"] - scale * self.size[0]) / 2, (box["height"] - scale * self.size[1]) / 2
        return box["x"] + left + scale * x, box["y"] + top + scale * y

    def drag(self, *points: Point) -> None:
        drag(self.page, *(self.on_screen(*point) for point in points))

    def click(self, *point: float, beside: bool = False) -> None:
        """With Find: point at what is to be found, or beside it."""
        self.page.locator("#stage").scroll_into_view_if_needed()
        if beside:
            self.page.keyboard.down("Alt")
        self.page.mouse.click(*self.on_screen(*point))
        if beside:
            self.page.keyboard.up("Alt")

    def touch(self, *fingers: tuple[Point, Point], drag: int = 4) -> None:
        """Fingers that come down one after the other, move from one point to another, and are lifted."""
        device = self.page.context.new_cdp_session(self.page)
        places = [(self.on_screen(*begin), self.on_screen(*end)) for begin, end in fingers]

        def send(kind: str, points: list[Point]) -> None:
            touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
            device.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

        for count in range(1, len(places) + 1):
            send("touchStart", [begin for begin, _ in places[:count]])
        for step in range(1, drag + 1):
            send("touchMove", [between(begin, end, step / drag) for begin, end in places])
        for count in range(len(places) - 1, -1, -1):
            send("touchEnd", [end for _, end in places[:count]])

    def mask(self) -> NDArray[np.uint8]:
        """The mask as the page saves it."""
        with self.page.expect_download() as saved:
            self.page.click("#save-mask")
        with Image.open(saved.value.path()) as image:
            assert image.size == self.size
            return np.asarray(image.convert("L"))


def drag(page: Page, *places: Point) -> None:
    """The mouse goes down at the first place of the screen and up at the last one."""
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def between(begin: Point, end: Point, share: float) -> Point:
    return begin[0] + share * (end[0] - begin[0]), begin[1] + share * (end[1] - begin[1])


def pixels(content: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))
