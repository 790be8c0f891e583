"""What the routes of every API that makes jobs share, native or another client's (a *dialect*).

A dialect is a router whose routes are of a subclass of ``RenderedRoute``, those that make jobs also of
``SubmissionRoute``. It translates its request into a ``app.submission.Submission``, and its ``render`` gives errors the
shape that its clients read.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from fastapi import Request, Response
from fastapi.routing import APIRoute

if TYPE_CHECKING:
    from app.problems import Problem

Render = Callable[["Problem", dict[str, str]], Response]
"""A problem and its headers -> the response of a dialect."""


class RenderedRoute(APIRoute):
    """A route whose problems can have a shape of their own."""

    render: ClassVar[Render | None] = None
    """How its problems look; None: RFC 9457, as everywhere else."""


class SubmissionRoute(RenderedRoute):
    """A route that makes jobs: what it refuses is counted in ``infill_jobs_refused_total``."""


def makes_jobs(request: Request) -> bool:
    """Whether the route of a request is one that makes jobs."""
    return isinstance(request.scope.get("route"), SubmissionRoute)


def render_of(request: Request) -> Render | None:
    """The renderer of the request's route."""
    route = request.scope.get("route")
    return type(route).render if isinstance(route, RenderedRoute) else None
