"""The OpenAPI description: FastAPI's, and what FastAPI leaves out of it or does not describe as OpenAPI 3.1 has it."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from app.examples import FIELDS, JOBS, SCHEMAS
from app.inpaint_form import InpaintJson
from app.mask_form import MaskJson
from app.problems import Problem

EVENTS = "text/event-stream"


def install(app: FastAPI) -> None:
    describe = app.openapi

    def describe_all() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(describe())
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = describe_all  # type: ignore[method-assign]  # as FastAPI documents it


def _complete(description: dict[str, Any]) -> None:
    """Add what responses refer to, and take out what cannot be sent, or that only OpenAPI 3.2 knows."""
    added: list[tuple[type[BaseModel], JsonSchemaMode]] = [(Problem, "serialization")]
    added += [(InpaintJson, "validation"), (MaskJson, "validation")]
    _, found = models_json_schema(added, ref_template=f"{SCHEMAS}/{{model}}")
    components = description["components"]
    components["schemas"] |= found["$defs"]
    components["examples"] = {name: {"value": job} for name, job in JOBS.items()}
    for form in ("InpaintForm", "MaskForm"):
        for name, field in components["schemas"][form]["properties"].items():
            _drop_null(field)
            if "contentSchema" in field:
                field.pop("contentMediaType")  # or Swagger UI takes the text for a file
            elif "contentMediaType" in field:
                field["format"] = "binary"  # generators of clients know a file by OpenAPI 3.0's name of it
            if name in FIELDS:
                field["examples"] = [FIELDS[name]]
    operations = [operation for methods in description["paths"].values() for operation in methods.values()]
    for operation in operations:
        for parameter in operation.get("parameters", []):
            _drop_null(parameter["schema"])
        for response in operation["responses"].values():
            response.get("content", {}).get(EVENTS, {}).pop("itemSchema", None)


def _drop_null(schema: dict[str, Any]) -> None:
    """What can be left out of a form or a header is optional in pydantic's model, but a text is never null."""
    kinds = [kind for kind in schema.pop("anyOf", []) if kind != {"type": "null"}]
    schema |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {}
