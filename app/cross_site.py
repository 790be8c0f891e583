"""Other websites' pages in a browser of somebody who reaches a service that asks for no key (CSRF).

A form of any page can POST here without being allowed to read the answer. Browsers say where a call comes from:
``Sec-Fetch-Site`` (W3C Fetch Metadata), and ``Origin`` where that is missing, as for plain http beyond loopback. Other
clients send neither.
"""

from collections.abc import Mapping, Sequence

from jobs.errors import Forbidden

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
OWN_SITES = {"same-origin", "none"}
"""A page of the service itself; and the user's own doing, without any page."""


def check_site(method: str, headers: Mapping[str, str], allowed: Sequence[str]) -> None:
    """Raise Forbidden for a call that changes something and comes from a page of another origin.

    ``allowed``: origins whose pages may call.
    """
    site, origin = headers.get("sec-fetch-site", ""), headers.get("origin", "")
    if method in SAFE_METHODS or origin in allowed or site in OWN_SITES or not (site or origin):
        return
    if not site and origin.partition("://")[2] == headers.get("host"):
        return
    raise Forbidden(
        f"A page of {origin[:100] or 'another site'!r} sent this. Without API keys, pages of other origins may call "
        "only if INFILL_CORS_ORIGINS lists theirs."
    )
