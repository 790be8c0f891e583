"""A tenant's own list, a page at a time: the query of such a route, and the way to the next page."""

import re
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Query, Request, Response

from app.authentication import Principal
from jobs.errors import Forbidden, InvalidField
from jobs.job_index import Place

Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(max_length=60, description="`next` of the page before.")]
CURSOR = re.compile(r"(\d{1,17})-((?:batch_)?[0-9a-f]{32})")


def takes(*names: str) -> Any:
    """A dependency that raises InvalidField for other query parameters, and for one that came twice."""

    def check(request: Request) -> None:
        sent = [name for name, _ in request.query_params.multi_items()]
        if unknown := next((name for name in sent if name not in names), None):
            raise InvalidField(f"{unknown[:100]!r} is no parameter of this list. They are {', '.join(names)}.")
        if twice := next((name for name in sent if sent.count(name) > 1), None):
            raise InvalidField(f"{twice}: sent more than once. Send each parameter once.")

    return Depends(check)


def check_listed(principal: Principal) -> None:
    """Raise Forbidden where the caller has no list: anybody could read it."""
    if principal.tenant is None:
        raise Forbidden("The list is of an API key's tenant, and this service asks for no keys.")


def place_of(cursor: str | None) -> Place | None:
    """Behind which a page begins; None for the first one. Raises InvalidField."""
    if not cursor:
        return None
    if not (found := CURSOR.fullmatch(cursor)):
        raise InvalidField("cursor: send `next` of an earlier page, or nothing for the first one.")
    return Place(int(found[1]), found[2])


def next_page(response: Response, last: Place | None, **query: object) -> str | None:
    """The cursor behind ``last``, also as a ``Link``; None after the last page. ``query``: what else was asked."""
    if last is None:
        return None
    token = f"{last.at}-{last.job_id}"
    asked = {name: value for name, value in query.items() if value is not None}
    response.headers["Link"] = f'<?{urlencode(asked | {"cursor": token})}>; rel="next"'
    return token
