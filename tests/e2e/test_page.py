"""The page for people, a real browser and the pocket model: from a stroke to the file that is saved."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.chromium import NARROW, WIDE, Easel, chromium, pixels, sync_api
from tests.e2e.edits import Pixels
from tests.e2e.stack import PHOTO, ROOT, Stack
from tests.programs import program

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
else:
    Browser = Page = object

DONE_MS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def faults(page: Page, axe: str) -> list[str]:
    """What axe-core finds wrong with the page as it is, once colours have stopped changing."""
    page.evaluate(axe)
    page.evaluate("Promise.allSettled(document.getAnimations().map(one => one.finished))")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{fault['id']}: {node['html'][:120]} {node['failureSummary']}" for fault in found for node in fault["nodes"]
    ]


SCREENS: dict[str, dict[str, Any]] = {
    "wide, light": WIDE | {"color_scheme": "light"},
    "narrow, dark": NARROW | {"color_scheme": "dark"},
}


@pytest.mark.parametrize("screen", SCREENS)
def test_the_examples_can_be_repainted_at_once_and_no_screen_shuts_anybody_out(
    browser: Browser, stack: Stack, installed: Path, screen: str
) -> None:
    axe = (installed / "node_modules" / "axe-core" / "axe.min.js").read_text()
    with browser.new_context(**SCREENS[screen]) as context:
        page = context.new_page()
        page.goto(stack.urls[0])
        sync_api.expect(page.locator("#tasks [role=radio]").first).to_be_attached()
        page.click("#more summary")
        assert faults(page, axe) == []
        page.click("[data-example=remove]")
        sync_api.expect(page.locator("#go")).to_be_enabled()
        sync_api.expect(page.locator("[data-task=remove]")).to_have_attribute("aria-checked", "true")
        page.fill("[name=n]", "2")
        assert faults(page, axe) == []
        page.evaluate(FORMING)
        page.click("#go")
        sync_api.expect(page.locator("#cancel")).to_be_in_viewport(ratio=1)
        assert faults(page, axe) == []
        sync_api.expect(page.locator("#variants [role=radio]")).to_have_count(2, timeout=DONE_MS)
        assert page.evaluate("window.formed"), "previews were shown as they came"
        page.click("#timings summary")
        page.click("#variants [role=radio] >> nth=1")
        assert faults(page, axe) == []
        page.click("#theme")
        assert faults(page, axe) == []
        page.click("#code")
        assert faults(page, axe) == []
        page.click("#close")
        page.click("[data-task=replace_background]")
        assert faults(page, axe) == []
        page.reload()
        page.click("[data-example=extend]")
        sync_api.expect(page.locator("[data-aspect='16:9']")).to_have_attribute("aria-checked", "true")
        sync_api.expect(page.locator("#go")).to_be_enabled()
        assert faults(page, axe) == []
        page.click("#go")
        kept(page)
        page.click("[data-aspect='']")
        assert faults(page, axe) == []
        page.reload()
        page.click("[data-example=fill]")
        sync_api.expect(page.locator("#prompt")).to_have_value("bright green")
        page.click("#go")
        kept(page)
        page.route("**/v1/inpaint", lambda route: route.fulfill(status=413, body="<h1>413</h1>"))
        page.click("#go")
        sync_api.expect(page.locator("#problem")).to_be_in_viewport(ratio=1)
        assert faults(page, axe) == []


def kept(page: Page) -> None:
    """The job has ended well."""
    sync_api.expect(page.locator("#exact")).to_contain_text("0 pixels changed outside the mask", timeout=DONE_MS)


FORMING = """() => {
  const stage = document.querySelector("#stage");
  const look = () => { window.formed ||= stage.classList.contains("forming"); };
  new MutationObserver(look).observe(stage, {attributes: true});
}"""


def test_what_is_saved_is_the_photo_but_for_what_was_painted_over(
    browser: Browser, stack: Stack, photo: Pixels
) -> None:
    with browser.new_context(**WIDE) as context, Image.open(PHOTO) as image:
        page = context.new_page()
        easel = Easel.open(page, stack.urls[0], image, "holiday.png")
        page.select_option("[name=preset]", "fast")
        easel.drag((300, 300), (340, 360))
        mask = easel.mask()
        page.click("#go")
        kept(page)
        sync_api.expect(page.locator("#exact")).to_contain_text("approximate: fewer steps than usual")
        with page.expect_download() as saved:
            page.click("#save")
        assert saved.value.suggested_filename == "holiday-repainted.png"
        result = pixels(saved.value.path().read_bytes())
    assert (result[mask == 0] == photo[mask == 0]).all()
    assert (result[mask == 255] != photo[mask == 255]).any()


COMMANDS = {
    "curl": ["bash", "-c"],
    "Python": [sys.executable, "-c"],
    "JavaScript": ["node", "--input-type=module", "-e"],
    "OpenAI client": [sys.executable, "-c"],
}


def listings(page: Page) -> dict[str, str]:
    """The code that the page shows, by language."""
    page.click("#code")
    found = {}
    for button in page.locator("#languages [role=radio]").all():
        button.click()
        found[button.inner_text()] = page.inner_text("#listing")
    page.click("#close")
    return found


def made_by(folder: Path, language: str, code: str, result: str) -> Pixels:
    """The picture that the code saves in the folder."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([*COMMANDS[language], code], cwd=folder, env=env, check=True, timeout=120)
    saved = folder / result
    found = pixels(saved.read_bytes())
    saved.unlink()
    return found


def test_the_code_that_the_page_shows_does_what_the_page_does(
    browser: Browser, stack: Stack, photo: Pixels, tmp_path: Path
) -> None:
    program("node")
    name, result = 'o\'ne "photo".png', 'o\'ne "photo"-repainted.png'
    with browser.new_context(**WIDE) as context, Image.open(PHOTO) as image:
        page = context.new_page()
        easel = Easel.open(page, stack.urls[0], image, name)
        easel.drag((300, 300), (340, 360))
        mask = easel.mask()
        page.fill("#prompt", 'it\'s "$HOME" \\ @sand;')
        page.select_option("[name=preset]", "fast")
        page.click("#more summary")
        page.fill("[name=seed]", "7")
        filled = listings(page)
        page.click("[data-task=replace_background]")
        easel.drag((190, 180), (320, 370))
        sync_api.expect(page.locator("#stage")).to_have_attribute("aria-busy", "false")
        easel.click(260, 260)
        sync_api.expect(page.locator("#dots i")).to_have_count(1)
        subject = easel.mask() == 0
        replaced = listings(page)
        page.click("[data-task=extend]")
        page.fill("#extend-right", "64")
        extended = listings(page)
    (tmp_path / name).write_bytes(PHOTO.read_bytes())
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert filled.keys() == COMMANDS.keys()
    results = [made_by(tmp_path, *listing, result) for listing in filled.items()]
    assert all((made == results[0]).all() for made in results), "the same seed, the same fields"
    assert (results[0][mask == 0] == photo[mask == 0]).all()
    (tmp_path / "mask.png").unlink()
    for language in ("Python", "OpenAI client"):
        made = made_by(tmp_path, language, replaced[language], result)
        assert (made[subject] == photo[subject]).all() and (made[~subject] != photo[~subject]).any()
    for language in ("Python", "JavaScript"):
        made = made_by(tmp_path, language, extended[language], result)
        assert made.shape == (512, 576, 3) and (made[:, :512] == photo).all()
    assert "cannot" in extended["OpenAI client"] and "import" not in extended["OpenAI client"]
