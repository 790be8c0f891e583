"""Logs: one line an event, with the request's id and the job's. Never a prompt, a picture or a query string."""

import json
import logging
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Format = Literal["json", "text"]

FIELDS = (
    "request_id",
    "job_id",
    "method",
    "route",
    "status",
    "code",
    "duration_ms",
    "error",
    "where",
    *("outcome", "model", "size", "run_size", "n", "steps", "batch_mean", "timings"),  # job_ended
    *("kind", "state", "attempts"),  # delivery
)
"""The attributes of a record that reach the line, besides time, level, logger and event."""

OURS = ("infill", "uvicorn", "worker")
"""Loggers that write from the level of ``INFILL_LOG_LEVEL`` on; all others, RQ's among them, from WARNING on."""


class JsonLines(logging.Formatter):
    """One JSON object a record, in ASCII: no character in a value can end a line or steer a terminal.

    An exception is reduced to its type and frames: its text may quote the request.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        return json.dumps(line | fields_of(record), default=str)


class TextLines(logging.Formatter):
    """For a terminal: local time, level, logger, event and ``name=value``; the frames of an exception below."""

    def format(self, record: logging.LogRecord) -> str:
        fields = fields_of(record)
        frames = fields.pop("frames", [])
        at = datetime.fromtimestamp(record.created).astimezone()
        head = f"{at:%H:%M:%S} {record.levelname:<7} {record.name}  {_printable(record.getMessage())}"
        below = [f"    {_printable(line)}" for frame in frames for line in frame.splitlines()]
        return "\n".join(["  ".join([head, *(f"{name}={_shown(value)}" for name, value in fields.items())]), *below])


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a record has of ``FIELDS``; of an exception its type and frames."""
    fields = {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
    if record.exc_info and record.exc_info[0]:
        fields["error"] = record.exc_info[0].__name__
        fields["frames"] = traceback.format_tb(record.exc_info[2])
    return fields


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{_shown(name)}:{_shown(part)}" for name, part in value.items())
    text = str(value)
    return text if text.isprintable() and text and not set(' "=') & set(text) else json.dumps(text)


def _printable(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)[1:-1]


FORMATS: Mapping[Format, type[logging.Formatter]] = {"json": JsonLines, "text": TextLines}


def configure_logs(level: Level = "INFO", form: Format = "json") -> None:
    """Send every logger of this process to stderr: ours from ``level`` on, libraries from WARNING on at the least."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATS[form]())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))
    logging.getLogger("rq.worker").setLevel(root.level)  # RQ sets it to INFO where it has none
    for ours in OURS:
        logging.getLogger(ours).setLevel(level)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of what callers send
