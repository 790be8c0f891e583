"""``/problems/{code}``: what the ``type`` of a problem points to."""

from fastapi import APIRouter
from fastapi.exceptions import HTTPException

from app.examples import problems
from app.problems import ProblemKind, kind_of

router = APIRouter(prefix="/problems", tags=["operation"], responses=problems("invalid_field", "not_found"))


@router.get("/{code}", summary="What a problem's code means")
def problem(code: str) -> ProblemKind:
    """The title, status and description of a problem's code."""
    try:
        return kind_of(code)
    except KeyError:
        raise HTTPException(404) from None
