"""The environment at a process's start: its settings, what is wrong with them, and names that nobody reads."""

import difflib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from jobs.connection import connect_api
from jobs.field_sentences import sentence_of
from jobs.logs import configure_logs
from jobs.setting_names import NAMES
from jobs.settings import QueueSettings

logger = logging.getLogger("infill.settings")

PREFIX = "INFILL_"
SECRET = ("redis_url", "webhook_secret", "c2pa_key")
"""Settings whose values are not shown."""

S = TypeVar("S", bound=QueueSettings)


def begin(kind: type[S]) -> S:
    """Read a process's settings, set up its logs, warn of names that nobody reads.

    Ends the process with a sentence for each value that is not allowed.
    """
    try:
        settings = kind()
    except ValidationError as error:
        sys.exit("\n".join(faults(error)))
    configure_logs(settings.log_level, settings.log_format)
    for sentence in unknown_names(os.environ):
        logger.warning(sentence)
    try:
        connect_api(settings.redis).close()  # nothing is sent
    except ValueError as error:
        if settings.redis_sentinels or settings.redis_service:
            sys.exit(f"INFILL_REDIS_SENTINELS, INFILL_REDIS_SERVICE: {error}")
        sys.exit("INFILL_REDIS_URL: it cannot be read. Write it as redis://user:password@host:6379/0.")
    return settings


def unknown_names(environment: Mapping[str, str]) -> list[str]:
    """A sentence for each ``INFILL_*`` name that no process of Infill reads, with the nearest one that is read."""
    sentences = []
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name.upper() not in NAMES:
            known = sorted(known.removeprefix(PREFIX) for known in NAMES)
            near = difflib.get_close_matches(name.upper().removeprefix(PREFIX), known, 1)
            meant = f" Did you mean {PREFIX}{near[0]}?" if near else " `infill config` lists those that are."
            sentences.append(f"{name if name.isprintable() else ascii(name)} is not a setting of Infill.{meant}")
    return sentences


def faults(error: ValidationError) -> list[str]:
    """A sentence for each wrong setting: the variable's name, its value unless that is secret, what is allowed."""
    return [_sentence(fault) for fault in error.errors(include_url=False)]


def _sentence(fault: Mapping[str, Any]) -> str:
    loc: Sequence[Any] = fault["loc"]
    said = str(fault["ctx"]["error"]) if fault["type"] == "value_error" else sentence_of(fault)
    if not loc:  # of several settings: the sentence names them
        return said
    field = str(loc[0]).lower()
    value = "" if field in SECRET else f"={str(fault['input'])[:80]!r}"
    return f"{PREFIX}{field.upper()}{value}: {said.replace('This field', 'It', 1)}"
