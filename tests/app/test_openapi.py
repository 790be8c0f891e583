"""The OpenAPI description as a document: valid, whole, and without anything that leads nowhere."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema_rs
import pytest
import schemathesis

from app.main import create_app
from app.settings import ApiSettings


@cache
def document() -> dict[str, Any]:
    return create_app(ApiSettings()).openapi()


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in the document."""
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(child)


def at(pointer: str) -> Any:
    """What a reference into the document names. Raises KeyError."""
    assert pointer.startswith("#/"), pointer
    found: Any = document()
    for step in pointer[2:].split("/"):
        found = found[step.replace("~1", "/").replace("~0", "~")]
    return found


def test_the_document_is_valid_openapi() -> None:
    schemathesis.openapi.from_dict(document()).validate()


def test_every_reference_leads_to_a_schema() -> None:
    references = [node["$ref"] for node in nodes(document()) if isinstance(node.get("$ref"), str)]
    assert len(references) > 50
    for reference in set(references):
        assert isinstance(at(reference), dict), reference
    assert not [node for node in nodes(document()) if "$defs" in node]


def test_every_component_is_referred_to() -> None:
    used = {node["$ref"].rpartition("/")[2] for node in nodes(document()) if isinstance(node.get("$ref"), str)}
    used |= {name for node in nodes(document()) for need in node.get("security", ()) for name in need}
    assert used == {name for named in document()["components"].values() for name in named}


RESPONSES = [
    pytest.param(content, id=f"{method} {path} {status} {kind}")
    for path, methods in document()["paths"].items()
    for method, operation in methods.items()
    for status, response in operation["responses"].items()
    for kind, content in response.get("content", {}).items()
]


@pytest.mark.parametrize("content", RESPONSES)
def test_every_example_fits_its_schema(content: dict[str, Any]) -> None:
    schema = content.get("schema", {}) | {"components": document()["components"]}
    assert "example" not in content, "FastAPI would drop its nulls"
    for example in content.get("examples", {}).values():
        value = (at(example["$ref"]) if "$ref" in example else example)["value"]
        jsonschema_rs.validator_for(schema).validate(value)


def test_every_error_is_described_as_a_problem() -> None:
    for path, methods in document()["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status >= "400":
                    (kind,) = response["content"]
                    assert kind == "application/problem+json", (path, status)
                    assert response["content"][kind]["schema"] == {"$ref": "#/components/schemas/Problem"}


def test_a_field_of_the_form_cannot_be_null_and_its_default_fits_its_schema() -> None:
    form = document()["components"]["schemas"]["InpaintForm"]
    assert "required" not in form  # image, or image_url
    for name, field in form["properties"].items():
        schema = field | {"components": document()["components"]}
        assert {"type": "null"} not in field.get("anyOf", []) and "type" in field, name
        if "default" in field:
            jsonschema_rs.validator_for(schema).validate(field["default"])
    jsonschema_rs.validator_for(form | {"components": document()["components"]}).validate(form["example"])


def test_no_header_is_described_that_openapi_ignores() -> None:
    named = {node["name"].lower() for node in nodes(document()) if node.get("in") == "header" and "schema" in node}
    assert named == {"idempotency-key", "last-event-id", "prefer"}
