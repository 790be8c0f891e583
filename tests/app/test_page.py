"""The page for people, in a real browser: from the button to the result, whatever lies in between."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis

from jobs import keys
from jobs.api_keys import ApiKeys
from jobs.queue import parameters_of
from jobs.schema import JobProblem, PromptTokens
from tests.app.pictures import photo
from tests.app.processes import ApiProcess, api_process
from tests.app.settling import Settler
from tests.app.tiny_catalog import CATALOG
from tests.chromium import NARROW, WIDE, Easel, chromium, sync_api
from tests.factories import encoded

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route
else:
    Browser = Page = Route = object

HTML: dict[str, Any] = {"status": 502, "content_type": "text/html", "body": "<h1>502 Bad Gateway</h1>"}
"""What a proxy answers in place of the service."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(params=[WIDE, NARROW], ids=["wide", "narrow"])
def page(request: pytest.FixtureRequest, browser: Browser, api: ApiProcess) -> Iterator[Page]:
    """The page with a photo and a stroke on it."""
    with browser.new_context(**request.param) as context:
        page = context.new_page()
        paint(page, api.url)
        yield page


wide = pytest.mark.parametrize("page", [WIDE], indirect=True)
narrow = pytest.mark.parametrize("page", [NARROW], indirect=True)


def paint(page: Page, url: str) -> None:
    Easel.open(page, url, photo((320, 240))).drag((100, 100), (150, 120))


def repaint(page: Page, settler: Settler) -> str:
    """Press the button; the job's id, which a worker has taken up by then."""
    with page.expect_response("**/v1/inpaint") as submitted:
        page.click("#go")
    job_id: str = submitted.value.json()["id"]
    settler.start(job_id)
    return job_id


def shows_the_result(page: Page) -> None:
    sync_api.expect(page.locator("#stage[data-mode=compare]")).to_be_in_viewport(ratio=0.9)
    sync_api.expect(page.locator("#exact")).to_contain_text("0 pixels changed outside the mask")


def end(settler: Settler, job_id: str) -> None:
    settler.succeed(job_id, [encoded(photo((320, 240)))])


def wait_for_text(page: Page, selector: str, text: str) -> None:
    sync_api.expect(page.locator(selector)).to_contain_text(text)
    sync_api.expect(page.locator(selector)).to_be_in_viewport()


def test_a_result_comes_into_view(page: Page, settler: Settler) -> None:
    end(settler, repaint(page, settler))
    shows_the_result(page)
    assert page.get_attribute("#save", "download") == "photo-repainted.png"
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


@pytest.mark.parametrize(("status", "sentence"), [(502, "cannot be reached. (502)"), (413, "too large")])
def test_a_submission_that_a_proxy_answers_is_a_message(page: Page, status: int, sentence: str) -> None:
    page.route("**/v1/inpaint", lambda route: route.fulfill(**HTML | {"status": status}))
    page.click("#go")
    wait_for_text(page, "#problem", sentence)
    assert page.locator("#working").is_hidden() and page.locator("#go").is_enabled()


def test_a_page_that_a_proxy_keeps_from_its_job_says_so_and_goes_on_when_it_can(page: Page, settler: Settler) -> None:
    page.route("**/v1/jobs/*", lambda route: route.fulfill(**HTML))
    page.route("**/v1/jobs/*/events*", lambda route: route.fulfill(**HTML))
    job_id = repaint(page, settler)
    wait_for_text(page, "#state", "502")
    end(settler, job_id)
    page.unroute("**/v1/jobs/*")
    shows_the_result(page)


@narrow
def test_a_page_does_not_wait_for_ever(page: Page, settler: Settler) -> None:
    page.clock.install()
    tries: list[str] = []
    page.route("**/v1/jobs/*/events*", lambda route: route.fulfill(**HTML))

    def answer(route: Route) -> None:
        tries.append(route.request.url)
        route.fulfill(**HTML)

    page.route("**/v1/jobs/*", answer)
    job_id = repaint(page, settler)
    wait_for_text(page, "#state", "502")
    while page.locator("#problem").is_hidden() and len(tries) < 100:
        page.clock.run_for(1000)
    wait_for_text(page, "#problem", f"/v1/jobs/{job_id}")
    assert len(tries) == 30
    assert page.locator("#working").is_hidden() and page.locator("#go").is_enabled()


@wide
def test_cancel_ends_the_wait_for_a_service_that_is_away(page: Page, settler: Settler) -> None:
    page.route("**/v1/jobs/**", lambda route: route.fulfill(**HTML))
    job_id = repaint(page, settler)
    page.click("#cancel")
    wait_for_text(page, "#problem", "The job may go on.")
    wait_for_text(page, "#problem", job_id)
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


@wide
def test_a_job_that_waits_for_a_model_is_said_to(page: Page, settler: Settler) -> None:
    job_id = repaint(page, settler)
    settler.step(job_id, 0, loading=1)
    wait_for_text(page, "#state", "loads a model")
    settler.step(job_id, 3, loading=0)
    wait_for_text(page, "#state", "Step 3")


@narrow
def test_a_result_that_has_expired_is_a_message_and_keeps_the_photo_and_its_mask(
    page: Page, settler: Settler, connection: Redis
) -> None:
    def expire(route: Route) -> None:
        connection.delete(keys.result(job_id, 0))
        route.continue_()

    page.route("**/images/0", expire)
    job_id = repaint(page, settler)
    end(settler, job_id)
    wait_for_text(page, "#problem", "The result is not kept any longer.")
    assert page.locator("#stage").is_visible() and page.locator("#go").is_enabled()


@wide
def test_going_on_from_a_result_makes_it_the_photo(page: Page, settler: Settler, connection: Redis) -> None:
    end(settler, repaint(page, settler))
    page.click("#again")
    sync_api.expect(page.locator("#result")).to_be_hidden()
    sync_api.expect(page.locator("#go")).to_be_disabled()
    Easel(page, (320, 240)).drag((30, 30), (60, 60))
    job_id = repaint(page, settler)
    assert connection.get(keys.picture(job_id, "image")) == encoded(photo((320, 240)))
    end(settler, job_id)
    shows_the_result(page)
    assert page.get_attribute("#save", "download") == "photo-repainted.png"


@wide
def test_a_result_that_does_not_come_is_a_message(page: Page, settler: Settler) -> None:
    page.route("**/images/0", lambda route: route.fulfill(**HTML))
    end(settler, repaint(page, settler))
    wait_for_text(page, "#problem", "502")


@wide
def test_a_job_that_was_canceled_is_no_error(page: Page, settler: Settler) -> None:
    job_id = repaint(page, settler)
    with page.expect_response(f"**/v1/jobs/{job_id}"):
        page.click("#cancel")
    settler.stop(job_id)
    wait_for_text(page, "#hint", "Canceled.")
    assert page.locator("#problem").is_hidden() and page.locator("#go").is_enabled()


@wide
def test_a_job_that_failed_is_a_sentence_with_the_services_words_folded_away(page: Page, settler: Settler) -> None:
    settler.fail(repaint(page, settler), JobProblem(code="out_of_memory", message="CUDA, 3 GiB, n=1"))
    wait_for_text(page, "#problem", "It does not fit into the worker's memory.")
    details = page.locator("#problem pre")
    assert details.is_hidden()
    page.click("#problem summary")
    sync_api.expect(details).to_contain_text("out_of_memory\nCUDA, 3 GiB, n=1")


@wide
def test_a_field_that_the_service_refuses_is_shown(page: Page) -> None:
    problem = {"code": "invalid_field", "detail": "seed, n: image k of n uses seed + k.", "title": "", "status": 422}
    page.route("**/v1/inpaint", lambda route: route.fulfill(status=422, json=problem))
    page.click("#go")
    wait_for_text(page, "#problem", "One of the settings")
    sync_api.expect(page.locator("[name=seed]")).to_be_focused()


@wide
def test_a_job_whose_model_no_worker_serves_is_said_to_wait_for_one(page: Page) -> None:
    page.click("#go")
    wait_for_text(page, "#state", "no worker serves this model")
    page.click("#more summary")
    sync_api.expect(page.locator("#help-model")).to_contain_text("No worker serves this model")


@wide
def test_what_is_set_is_sent_and_the_rest_is_the_models_own(page: Page, settler: Settler) -> None:
    page.click("[data-task=remove]")
    page.fill("#prompt", "sand")
    page.locator("[name=mask_grow]").fill("7")
    page.click("#more summary")
    page.select_option("[name=bit_depth]", "keep")
    sent = parameters_of(settler.queue.job(repaint(page, settler)))
    assert (sent.task, sent.prompt, sent.mask_grow, sent.mask_feather) == ("remove", "sand", 7, 0)
    assert sent.bit_depth == "keep"
    assert sent.num_inference_steps == 8


@wide
def test_what_was_not_read_of_a_prompt_is_said_in_tokens(page: Page, settler: Settler) -> None:
    job_id = repaint(page, settler)
    read, cut = PromptTokens(used=20, limit=75, cut=0), PromptTokens(used=90, limit=75, cut=15)
    settler.succeed(job_id, [encoded(photo((320, 240)))], prompt_tokens=read, negative_prompt_tokens=cut)
    shows_the_result(page)
    said = page.locator("#exact").inner_text()
    assert "15 of the negative prompt's 90 tokens were not read" in said and "the prompt's" not in said


@wide
def test_the_results_of_a_visit_are_there_after_a_reload(page: Page, settler: Settler) -> None:
    end(settler, repaint(page, settler))
    shows_the_result(page)
    page.reload()
    page.click("#film button")
    shows_the_result(page)
    sync_api.expect(page.locator("#go")).to_be_enabled()
    page.click("#forget")
    sync_api.expect(page.locator("#history")).to_be_hidden()


def test_a_service_that_asks_for_a_key_gets_the_one_that_is_entered(
    browser: Browser, settler: Settler, redis_url: str, connection: Redis, tmp_path: Path
) -> None:
    key, _ = ApiKeys(connection).create("tenant", ("submit", "read"))
    with api_process(tmp_path, redis_url, auth="on") as api, browser.new_context(**WIDE) as context:
        page = context.new_page()
        page.goto(api.url)
        sync_api.expect(page.locator("#key")).to_be_focused()
        assert page.locator("#problem").is_hidden()
        page.click("[data-example=extend]")
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        wait_for_text(page, "#problem", "asks for an API key")
        page.fill("#key", key)
        page.click("#use-key")
        sync_api.expect(page.locator("[data-task=extend]")).to_have_attribute("aria-checked", "true")
        sync_api.expect(page.locator("#hint")).to_contain_text("455 \u00d7 256")
        page.click("[data-task=fill]")
        paint(page, "")
        end(settler, repaint(page, settler))
        shows_the_result(page)
        page.click("#code")
        text = page.inner_text("#listing")
        assert "$INFILL_API_KEY" in text and key not in text
        assert key not in json.dumps(context.storage_state()), "it stays in the tab"


def test_a_task_that_the_default_model_leaves_to_another_one_is_that_ones(
    browser: Browser, tmp_path: Path, redis_url: str, settler: Settler
) -> None:
    """Its fields are shown, and only those are sent that it does something with."""
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(CATALOG)
    with api_process(tmp_path, redis_url, catalog=catalog) as api, browser.new_context(**WIDE) as context:
        page = context.new_page()
        paint(page, api.url)
        page.fill("#prompt", "sand")
        page.click("#more summary")
        page.fill("[name=num_inference_steps]", "20")
        page.click("[data-task=remove]")
        sync_api.expect(page.locator("#help-model")).to_contain_text("Leaves this task to lama.")
        for name in ("prompt", "num_inference_steps", "scheduler", "negative_prompt"):
            assert page.locator(f"[name={name}]").is_hidden() and page.locator(f"[name={name}]").is_disabled()
        assert page.locator("#prompt-label").is_hidden() and page.locator("[name=seed]").is_visible()
        removal = repaint(page, settler)
        sent = parameters_of(settler.queue.job(removal))
        assert (sent.model, sent.instead_of, sent.prompt, sent.num_inference_steps) == ("lama", "first", "", 1)
        end(settler, removal)
        shows_the_result(page)
        page.click("[data-task=fill]")
        assert page.locator("#prompt").is_visible()
        assert page.locator("#help-model").inner_text().startswith("No worker")
        sent = parameters_of(settler.queue.job(repaint(page, settler)))
        assert (sent.model, sent.instead_of, sent.prompt, sent.num_inference_steps) == ("first", None, "sand", 20)
