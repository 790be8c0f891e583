"""``Prefer`` and ``Accept`` are read as their RFCs have it."""

import pytest

from app.negotiation import JSON, PNG, media_types_of, wait_of
from jobs.errors import NotAcceptable


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [
        ([], None),
        (["wait=10"], 10),
        (["WAIT = 10"], 10),
        (['wait="10"'], 10),
        (["respond-async, wait=10"], 10),
        (["respond-async", "wait=10"], 10),
        (["wait=10; foo=bar"], 10),
        (["wait=5, wait=10"], 5),
        (["wait=600"], 60),
        (["wait=99999999999"], None),
        (["wait=0"], 0),
        (["wait=-1"], None),
        (["wait"], None),
        (["wait=soon"], None),
        (["return=minimal"], None),
    ],
)
def test_wait(prefer: list[str], expected: int | None) -> None:
    assert wait_of(prefer, 60) == expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("application/json", JSON),
        ("application/*", JSON),
        ("image/png", PNG),
        ("image/*", PNG),
        ("IMAGE/PNG", PNG),
        ("image/png, */*", PNG),
        ("image/png, application/json", JSON),
        ("image/png, application/json;q=0.9", PNG),
        ("image/png;q=0.2, application/json;q=0.9", JSON),
        ("*/*;q=0.1, image/png;q=0.05", JSON),
        ("application/json;q=0, */*", PNG),
        ("text/html, */*;q=0.8", JSON),
        ("image/png;q=high", PNG),
    ],
)
def test_accept(accept: str | None, expected: str) -> None:
    assert media_types_of(accept)[0] == expected


@pytest.mark.parametrize("accept", ["text/html", "image/jpeg", "image/png;q=0, application/json;q=0", "nonsense"])
def test_a_header_that_takes_neither_is_not_acceptable(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="application/json or image/png"):
        media_types_of(accept)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("image/webp", ["image/webp"]),
        ("image/*", ["image/webp"]),
        ("image/png, image/webp", ["image/webp"]),
        ("image/png, */*;q=0.1", [JSON, "image/webp"]),
        ("image/png, application/json", [JSON]),
    ],
)
def test_the_image_is_of_the_type_that_was_asked_for(accept: str, expected: list[str]) -> None:
    assert media_types_of(accept, (JSON, "image/webp")) == expected


@pytest.mark.parametrize("accept", ["image/png", "image/jpeg", "image/webp;q=0"])
def test_a_header_without_that_type_is_not_acceptable(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="application/json or image/webp"):
        media_types_of(accept, (JSON, "image/webp"))


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, [JSON]),
        ("image/png", [PNG]),
        ("image/*;q=0.5, text/html", [PNG]),
        ("image/png, application/json;q=0", [PNG]),
        ("image/png, application/json;q=0.1", [PNG, JSON]),
        ("*/*", [JSON, PNG]),
        ("application/json", [JSON]),
    ],
)
def test_all_that_a_header_takes_is_known_the_best_first(accept: str | None, expected: list[str]) -> None:
    assert media_types_of(accept) == expected
