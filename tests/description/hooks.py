"""What schemathesis cannot know: real pictures, ids of jobs that are there, and which problems an operation may answer.

It loads this file by name, from ``SCHEMATHESIS_HOOKS``.
"""

import json
import os
import zlib
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, CheckContext, HookContext, Response

from app.problems import error_classes
from tests.app.multipart import MASK

schemathesis.openapi.media_type("image/png", st.one_of(st.just(MASK), st.just(MASK), st.binary(max_size=100)))

LINES = b'{"custom_id": "a", "image": "bm8gcGljdHVyZQ==", "mask_box": [0, 0, 1, 1]}\n'
schemathesis.openapi.media_type("application/jsonl", st.one_of(st.just(LINES), st.binary(max_size=100)))

KNOWN = {
    "job_id": os.environ["KNOWN_JOBS"].split(","),
    "batch_id": os.environ["KNOWN_BATCHES"].split(","),
    "index": ["0"],
    "code": sorted(error_classes()),
}
"""Values that an address can have -> where there is something."""


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:  # noqa: ARG001
    """Put what is there into two of three addresses."""
    if case.meta is not None and case.meta.generation.mode.is_negative:
        return
    for name, value in (case.path_parameters or {}).items():
        if (number := zlib.crc32(str(value).encode(errors="replace"))) % 3:
            case.path_parameters[name] = KNOWN[name][number // 3 % len(KNOWN[name])]


@schemathesis.hook
def filter_body(context: HookContext, body: Any) -> bool:  # noqa: ARG001
    """Not an empty text: it counts as absent, which no schema of a form can say."""
    return not isinstance(body, dict) or not any(value in ("", None, [], [""]) for value in body.values())


@schemathesis.check
def problem_conformance(ctx: CheckContext, response: Response, case: Case[Any]) -> None:  # noqa: ARG001
    """An error is a problem whose code the operation describes; never the one of an error that nobody expected.

    In place of ``not_a_server_error``: the image of a job that failed is answered with the status of its failure.
    """
    if response.status_code < 400 or not response.content:
        return
    problem = json.loads(response.content)
    described = case.operation.definition.raw["responses"].get(str(response.status_code), {}).get("content", {})
    codes = described.get("application/problem+json", {}).get("examples", {}).keys() - {"internal_error"}
    if response.status_code == 405:  # of a method that is no operation
        codes = {"method_not_allowed"}
    assert problem["code"] in codes, f"{problem['code']} is none of {sorted(codes)}"
    assert problem["detail"], "no sentence says what is wrong"
