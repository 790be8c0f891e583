"""What a caller prefers: ``Prefer`` (RFC 7240) and ``Accept`` (RFC 9110)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header
from pydantic import WithJsonSchema

from jobs.errors import NotAcceptable

JSON = "application/json"
PNG = "image/png"
HTML = "text/html"
MARKDOWN = "text/markdown"

Prefer = Annotated[
    list[str] | None,
    Header(description="`wait=30` holds the call until the job has ended, for up to 30 s."),
    WithJsonSchema({"type": "string"}),
]
"""It may come several times; described as the one text that these are together (RFC 9110, 5.3)."""

WAIT = re.compile(r'wait\s*=\s*"?(\d{1,6})"?')


def wait_of(prefer: list[str], max_wait_s: int) -> int | None:
    """Seconds to hold the call, at most ``max_wait_s``; None where no wait was asked for.

    As the RFC has it, preferences that cannot be understood are ignored, and the first ``wait`` counts.
    """
    for header in prefer:
        for preference in header.split(","):
            if match := WAIT.fullmatch(preference.partition(";")[0].strip().lower()):
                return min(int(match[1]), max_wait_s)
    return None


@dataclass(frozen=True)
class _Range:
    """One media range of an Accept header."""

    pattern: str
    quality: float

    def specificity(self, media_type: str) -> int:
        """3 exact, 2 by the type, 1 by ``*/*``, 0 no match."""
        if self.pattern == media_type:
            return 3
        if self.pattern == media_type.partition("/")[0] + "/*":
            return 2
        return 1 if self.pattern == "*/*" else 0


def media_types_of(accept: str | None, offered: Sequence[str] = (JSON, PNG)) -> list[str]:
    """Those of ``offered`` that the header takes; without a header, the first.

    First comes what it likes better; at equal liking what it names more exactly, then what is offered first.
    Raises NotAcceptable if it takes neither.
    """
    if not accept or not accept.strip():
        return [offered[0]]
    ranges = [_parse(part) for part in accept.split(",") if part.strip()]
    likings = {media_type: _liking(ranges, media_type) for media_type in offered}
    best_first = sorted(likings, key=lambda media_type: likings[media_type], reverse=True)  # equals stay in order
    taken = [media_type for media_type in best_first if likings[media_type][0] > 0]
    if not taken:
        raise NotAcceptable(f"Accept: this address answers {' or '.join(offered)}.")
    return taken


def prefers(accept: str | None, media_type: str, to: str = JSON) -> bool:
    """Whether the header likes ``media_type`` better than ``to``, by quality, then by how exactly it is named."""
    ranges = [_parse(part) for part in (accept or "").split(",") if part.strip()]
    return _liking(ranges, media_type) > _liking(ranges, to)


def _liking(ranges: list[_Range], media_type: str) -> tuple[float, int]:
    """Quality and specificity of the range that matches most exactly."""
    matches = [(found.specificity(media_type), found.quality) for found in ranges if found.specificity(media_type)]
    if not matches:
        return 0.0, 0
    specificity, quality = max(matches)
    return quality, specificity


def _parse(part: str) -> _Range:
    pattern, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = next((parameter[2:] for parameter in parameters if parameter.startswith("q=")), "1")
    try:
        return _Range(pattern, min(1.0, max(0.0, float(quality))))
    except ValueError:
        return _Range(pattern, 1.0)
