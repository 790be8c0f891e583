"""``/problems/{code}``: what the ``type`` of a problem points to."""

import inspect

from fastapi import APIRouter
from fastapi.exceptions import HTTPException

from app.examples import problems
from app.problems import HTTP_CODES, error_classes, status_of
from jobs.schema import Record

router = APIRouter(prefix="/problems", tags=["operation"], responses=problems("invalid_field"))


class ProblemKind(Record):
    code: str
    status: int
    title: str
    description: str


@router.get("/{code}", summary="What a problem's code means")
def problem(code: str) -> ProblemKind:
    """The title, status and description of a problem's code."""
    if error := error_classes().get(code):
        description = " ".join(inspect.cleandoc(error.__doc__ or "").split("\n\n")[0].split())
        return ProblemKind(code=code, status=status_of(error), title=error.title, description=description)
    for status, (known, title) in HTTP_CODES.items():
        if known == code:
            return ProblemKind(code=code, status=status, title=title, description=title + ".")
    raise HTTPException(404)
