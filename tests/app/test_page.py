"""The page for people, in a real browser: Chromium, driven by Playwright. Skipped where either of them is missing."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from redis import Redis

from jobs import keys
from tests.app.pictures import encoded, photo
from tests.app.processes import ApiProcess, api_process
from tests.app.settling import Settler

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
else:
    Browser = Page = object

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("chromium is not installed", allow_module_level=True)

DESK, PHONE = (1280, 800), (390, 844)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
HTML = {"status": 502, "content_type": "text/html", "body": "<h1>502 Bad Gateway</h1>"}
"""What a proxy answers in place of the service."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(params=[DESK, PHONE], ids=["desk", "phone"])
def page(request: pytest.FixtureRequest, browser: Browser, api: ApiProcess) -> Iterator[Page]:
    """The page with a photo and a stroke on it."""
    with browser.new_context(viewport=dict(zip(("width", "height"), request.param, strict=True))) as context:
        page = context.new_page()
        paint(page, api.url)
        yield page


def paint(page: Page, url: str) -> None:
    page.goto(url)
    page.set_input_files("#file", {"name": "photo.png", "mimeType": "image/png", "buffer": encoded(photo((320, 240)))})
    page.locator("#mask").hover(position={"x": 100, "y": 100})
    page.mouse.down()
    page.locator("#mask").hover(position={"x": 150, "y": 120})
    page.mouse.up()


def repaint(page: Page, settler: Settler) -> str:
    """Press the button; the job's id, which a worker has taken up by then."""
    with page.expect_response("**/v1/inpaint") as submitted:
        page.click("#go")
    job_id: str = submitted.value.json()["id"]
    settler.start(job_id)
    return job_id


def end(settler: Settler, job_id: str) -> None:
    settler.succeed(job_id, [encoded(photo((320, 240)))])


def wait_for_text(page: Page, selector: str, text: str) -> None:
    sync_api.expect(page.locator(selector)).to_contain_text(text)
    sync_api.expect(page.locator(selector)).to_be_in_viewport()


def test_a_result_comes_into_view(page: Page, settler: Settler) -> None:
    end(settler, repaint(page, settler))
    sync_api.expect(page.locator("#compare")).to_be_in_viewport(ratio=0.9)
    sync_api.expect(page.locator("#after")).to_have_js_property("naturalWidth", 320)
    assert page.locator("#problem").is_hidden() and page.locator("#go").is_enabled()


def test_a_value_out_of_range_opens_its_section_and_is_named(page: Page, connection: Redis) -> None:
    steps = page.locator("[name=num_inference_steps]")
    steps.evaluate("field => field.value = 999")
    assert steps.is_hidden()
    page.click("#go")
    sync_api.expect(steps).to_be_focused()
    sync_api.expect(steps).to_be_in_viewport()
    assert "200" in steps.evaluate("field => field.validationMessage")
    assert not connection.keys("rq:job:*")


def test_a_submission_that_a_proxy_answers_is_a_message(page: Page) -> None:
    page.route("**/v1/inpaint", lambda route: route.fulfill(**HTML))
    page.click("#go")
    wait_for_text(page, "#problem", "502")
    assert page.locator("#working").is_hidden() and page.locator("#go").is_enabled()


def test_a_page_that_a_proxy_keeps_from_its_job_says_so_and_goes_on_when_it_can(page: Page, settler: Settler) -> None:
    page.route("**/v1/jobs/*", lambda route: route.fulfill(**HTML))
    page.route("**/v1/jobs/*/events", lambda route: route.fulfill(**HTML))
    job_id = repaint(page, settler)
    wait_for_text(page, "#state", "502")
    end(settler, job_id)
    page.unroute("**/v1/jobs/*")
    sync_api.expect(page.locator("#compare")).to_be_in_viewport(ratio=0.9)


@pytest.mark.parametrize("page", [PHONE], indirect=True)
def test_a_page_does_not_wait_for_ever(page: Page, settler: Settler) -> None:
    page.clock.install()
    tries: list[str] = []
    page.route("**/v1/jobs/*/events", lambda route: route.fulfill(**HTML))
    page.route("**/v1/jobs/*", lambda route: (tries.append(route.request.url), route.fulfill(**HTML)))
    job_id = repaint(page, settler)
    wait_for_text(page, "#state", "502")
    while page.locator("#problem").is_hidden() and len(tries) < 100:
        page.clock.run_for(1000)
    wait_for_text(page, "#problem", f"/v1/jobs/{job_id}")
    assert len(tries) == 30
    assert page.locator("#working").is_hidden() and page.locator("#go").is_enabled()


@pytest.mark.parametrize("page", [DESK], indirect=True)
def test_cancel_ends_the_wait_for_a_service_that_is_away(page: Page, settler: Settler) -> None:
    page.route("**/v1/jobs/**", lambda route: route.fulfill(**HTML))
    job_id = repaint(page, settler)
    page.click("#cancel")
    wait_for_text(page, "#problem", f"/v1/jobs/{job_id} may go on")
    assert page.locator("#working").is_hidden()


def test_a_service_that_stops_while_a_job_runs_is_named(
    browser: Browser, settler: Settler, redis_url: str, tmp_path: Path
) -> None:
    with api_process(tmp_path, redis_url) as api, browser.new_context() as context:
        page = context.new_page()
        paint(page, api.url)
        job_id = repaint(page, settler)
        settler.step(job_id, 3)
        api.process.kill()
        wait_for_text(page, "#state", "The service does not answer.")


@pytest.mark.parametrize("page", [DESK], indirect=True)
def test_a_job_that_waits_for_a_model_is_said_to(page: Page, settler: Settler) -> None:
    job_id = repaint(page, settler)
    settler.step(job_id, 0, loading=1)
    wait_for_text(page, "#state", "loads a model")
    settler.step(job_id, 3, loading=0)
    wait_for_text(page, "#state", "Step 3")


@pytest.mark.parametrize("page", [PHONE], indirect=True)
def test_going_on_from_a_result_that_has_expired_keeps_the_photo(
    page: Page, settler: Settler, connection: Redis
) -> None:
    page.route("**/images/0", lambda route: route.continue_())  # what is routed is not cached
    job_id = repaint(page, settler)
    end(settler, job_id)
    sync_api.expect(page.locator("#compare")).to_be_in_viewport()
    connection.delete(keys.result(job_id, 0))
    page.click("#again")
    wait_for_text(page, "#problem", "result_expired")
    assert page.locator("#result").is_visible() and page.locator("#go").is_enabled()


@pytest.mark.parametrize("page", [DESK], indirect=True)
def test_going_on_from_a_result_makes_it_the_photo(page: Page, settler: Settler) -> None:
    end(settler, repaint(page, settler))
    page.click("#again")
    sync_api.expect(page.locator("#result")).to_be_hidden()
    assert page.locator("#go").is_disabled() and page.evaluate("upload.type") == "image/png"


@pytest.mark.parametrize("page", [DESK], indirect=True)
def test_a_result_that_does_not_come_is_a_message(page: Page, settler: Settler) -> None:
    page.route("**/images/0", lambda route: route.fulfill(**HTML))
    end(settler, repaint(page, settler))
    wait_for_text(page, "#problem", "502")
