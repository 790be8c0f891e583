"""Logs: one line of JSON an event, with the request's id and the job's. Never a prompt, a picture or a query string."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

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
)
"""The attributes of a record that reach the line, besides time, level, logger and event."""


class JsonLines(logging.Formatter):
    """One JSON object a record. An exception is reduced to its type and frames: its text may quote the request."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__name__
            line["frames"] = traceback.format_tb(record.exc_info[2])
        return json.dumps(line, ensure_ascii=False, default=str)


def configure_logs(level: str = "INFO") -> None:
    """Send every logger of this process to stderr as JSON lines; libraries from WARNING on, ours from ``level`` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for ours in ("infill", "uvicorn", "worker", "rq"):
        logging.getLogger(ours).setLevel(level.upper())
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of what callers send
