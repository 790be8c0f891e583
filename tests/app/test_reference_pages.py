"""``/docs`` and ``/redoc`` in a real browser, under the policy that they are sent with. Skipped without Chromium."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.app.multipart import IMAGE, MASK
from tests.app.processes import ApiProcess
from tests.chromium import chromium, sync_api

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Response
else:
    Browser = ConsoleMessage = Page = Response = object

HOST = "infill.example"
"""On localhost some scripts do not ask for what they ask for elsewhere, as Swagger UI's validator."""


@dataclass
class Watched:
    """A page, and what it asked for, what failed and what it complained of."""

    page: Page
    asked: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("requestfailed", lambda request: self.faults.append(f"failed: {request.url}"))
        self.page.on("response", self._answered)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("console", self._complained)

    def _answered(self, answer: Response) -> None:
        if answer.status >= 400:
            self.faults.append(f"failed: {answer.url}")

    def _complained(self, line: ConsoleMessage) -> None:
        if line.type in ("error", "warning"):
            self.faults.append(line.text)

    def elsewhere(self) -> list[str]:
        """Addresses on other hosts that it asked for; what it holds itself has none."""
        return [asked for asked in self.asked if not asked.startswith((f"http://{HOST}:", "data:", "blob:"))]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(f"--host-resolver-rules=MAP {HOST} 127.0.0.1") as browser:
        yield browser


@pytest.fixture
def url(api: ApiProcess) -> str:
    return api.url.replace("127.0.0.1", HOST)


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    with browser.new_context(viewport={"width": 1280, "height": 800}) as context:
        yield Watched(context.new_page())


SEEN = {"/docs": "#operations-jobs-inpaint_v1_inpaint_post", "/redoc": "h2:has-text('Submit a photo and a mask')"}


@pytest.mark.parametrize("address", SEEN)
def test_a_reference_page_shows_the_operations_and_asks_no_other_host(watched: Watched, url: str, address: str) -> None:
    watched.page.goto(url + address)
    sync_api.expect(watched.page.locator(SEEN[address]).first).to_be_visible()
    watched.page.wait_for_load_state("networkidle")
    assert not watched.faults
    assert not watched.elsewhere()
    assert f"{url}/openapi.json" in watched.asked


def test_a_call_can_be_made_on_the_page_docs(watched: Watched, url: str) -> None:
    page = watched.page
    page.goto(f"{url}/docs")
    operation = page.locator("#operations-operation-healthz_healthz_get")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    with page.expect_response("**/healthz") as answered:
        operation.get_by_role("button", name="Execute").click()
    assert answered.value.status == 200
    live = operation.locator(".live-responses-table .response")
    sync_api.expect(live.locator(".response-col_status")).to_contain_text("200")
    sync_api.expect(live).to_contain_text('"status": "ok"')
    assert not watched.faults and not watched.elsewhere()


@pytest.mark.parametrize("kind", ["multipart/form-data", "application/json"])
def test_a_job_can_be_made_on_the_page_docs_as_the_example_says(watched: Watched, url: str, kind: str) -> None:
    page = watched.page
    page.goto(f"{url}/docs")
    operation = page.locator("#operations-jobs-inpaint_v1_inpaint_post")
    operation.locator(".opblock-summary-control").click()
    operation.locator("select.content-type").first.select_option(kind)
    operation.get_by_role("button", name="Try it out").click()
    if kind == "multipart/form-data":
        for name, content in (("image", IMAGE), ("mask", MASK)):
            row = operation.locator(f"tr[data-property-name={name}]")
            row.locator("input[type=file]").set_input_files(
                {"name": "a.png", "mimeType": "image/png", "buffer": content}
            )
    with page.expect_response("**/v1/inpaint") as answered:
        operation.get_by_role("button", name="Execute").click()
    assert answered.value.status == 202, answered.value.text()
    assert not watched.faults and not watched.elsewhere()


def test_every_operation_can_be_opened_on_the_page_docs(watched: Watched, url: str) -> None:
    """A reference that leads nowhere is an error there."""
    page = watched.page
    page.goto(f"{url}/docs")
    operations = page.locator(".opblock-summary-control")
    sync_api.expect(operations.first).to_be_visible()
    for number in range(operations.count()):
        operations.nth(number).click()
    sync_api.expect(page.locator(".opblock.is-open")).to_have_count(operations.count())
    assert page.locator(".errors-wrapper").count() == 0 or page.locator(".errors-wrapper").is_hidden()
    assert "resolve" not in page.locator("#swagger-ui").inner_text().lower().replace("resolver", "")
    assert not watched.faults and not watched.elsewhere()


def test_the_page_for_people_asks_no_other_host(watched: Watched, url: str) -> None:
    watched.page.goto(f"{url}/")
    watched.page.wait_for_load_state("networkidle")
    assert not watched.faults and not watched.elsewhere()
