"""Log lines: one a record whatever it holds, in both formats; levels of ours and of libraries."""

import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from jobs.logs import JsonLines, TextLines

HOSTILE = 'a\nb\r\x1b[31m\u2028\x85\u202e"=é\ud800'


def record(message: str, **fields: Any) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "infill.api", "levelno": logging.INFO, "levelname": "INFO", "msg": message})
    made.__dict__.update(fields)
    return made


@pytest.mark.parametrize("formatter", [JsonLines(), TextLines()])
def test_no_value_breaks_a_line_or_steers_a_terminal(formatter: logging.Formatter) -> None:
    line = formatter.format(record(HOSTILE, request_id=HOSTILE, timings={HOSTILE: 1}, prompt="secret"))
    assert len(line.splitlines()) == 1 and not {"\x1b", "\u202e", "\x85"} & set(line)
    assert "secret" not in line
    line.encode()


def test_json_gives_back_what_was_logged() -> None:
    line = json.loads(JsonLines().format(record("request", request_id=HOSTILE, status=200)))
    assert (line["event"], line["request_id"], line["status"]) == ("request", HOSTILE, 200)


def test_text_is_for_a_terminal() -> None:
    line = TextLines().format(record("job_ended", outcome="succeeded", model="a b", timings={"denoise": 1.5, "png": 2}))
    assert line[9:] == 'INFO    infill.api  job_ended  outcome=succeeded  model="a b"  timings=denoise:1.5,png:2'


@pytest.mark.parametrize("formatter", [JsonLines(), TextLines()])
def test_an_exception_is_its_type_and_frames_and_never_its_text(formatter: logging.Formatter) -> None:
    try:
        raise ValueError(" ".join(["a", "secret"]))
    except ValueError:
        line = formatter.format(record("job a failed", exc_info=sys.exc_info()))
    assert "ValueError" in line and "test_logs.py" in line and "a secret" not in line


PROGRAM = """
import logging, sys
from jobs.logs import configure_logs
if sys.argv[2] == "before":
    import rq
configure_logs(sys.argv[1])
import rq.worker
for name in ("infill.api", "worker.jobs", "rq.worker", "rq.job", "other"):
    for level in (10, 20, 30, 40):
        logging.getLogger(name).log(level, "%s %d", name, level)
"""


@pytest.mark.parametrize(
    ("level", "ours", "others"),
    [("DEBUG", [10, 20, 30, 40], [30, 40]), ("INFO", [20, 30, 40], [30, 40]), ("ERROR", [40], [40])],
)
@pytest.mark.parametrize("rq", ["before", "after"])
def test_one_level_is_ours_and_libraries_write_from_warning_on(
    level: str, ours: list[int], others: list[int], rq: str
) -> None:
    command = [sys.executable, "-c", PROGRAM, level, rq]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    expected = {"infill.api": ours, "worker.jobs": ours, "rq.worker": others, "rq.job": others, "other": others}
    assert events == [f"{name} {level}" for name, levels in expected.items() for level in levels]
