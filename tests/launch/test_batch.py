"""``infill batch``: which lines it sends, what it writes, and what it does while the service is busy or away."""

import io
import json
import signal
import threading
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from launch.batch import JOBS_A_LINE, batch
from launch.batch_lines import MOST_LINE_BYTES, Line, read_lines
from launch.batch_results import Outcome, Results
from launch.errors import LaunchError
from launch.progress import CountLine, count_text
from launch.stop_signals import SIGNALS
from tests.infill_client.jobs import IMAGE, JOB, SUCCEEDED

PROBLEM = {"code": "queue_full", "detail": "Many wait."}
IMAGES = [IMAGE | {"url": f"/v1/jobs/a/images/{k}"} for k in (0, 1)]
NOW = {"Retry-After": "0"}
UNSAFE = (
    "../x",
    "a/b",
    "",
    "a\0b",
    "a" * 129,
    ".a",
    "a.",
    "\N{LATIN SMALL LETTER A WITH DIAERESIS}",
    "a\n",
    "nul",
    "COM1.x",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(b"photo")
    return tmp_path


def written(folder: Path, *lines: object) -> Path:
    path = folder / "in.jsonl"
    path.write_bytes(
        b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    )
    return path


def line(custom_id: Any = "a", **fields: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "image": "a.png", "mask_box": [0, 0, 3, 3]} | fields


def test_a_line_has_its_pictures_its_fields_and_low_priority(folder: Path) -> None:
    (folder / "m.png").write_bytes(b"mask")
    (one, two) = read_lines(
        written(
            folder,
            line("Katze-1.v2", mask="m.png", prompt="a \N{BEAR FACE}", n=2, seed=None, negative_prompt=""),
            b"",
            {"custom_id": "b", "image": "https://a.example/b.png", "priority": "normal", "mask_box": [0, 0, 1, 1]},
        )
    )
    assert (one.number, one.custom_id, two.number) == (1, "Katze-1.v2", 3)
    assert one.read() == {"image": b"photo", "mask": b"mask"}
    assert one.fields == {"priority": "low", "mask_box": [0, 0, 3, 3], "prompt": "a \N{BEAR FACE}", "n": 2}
    assert two.fields["image_url"] == "https://a.example/b.png" and two.fields["priority"] == "normal"
    assert not two.pictures and one.stems() == ["Katze-1.v2-0", "Katze-1.v2-1"]


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ({"image": "a.png"}, "custom_id: This field is missing"),
        (line(7), "custom_id: This field must be text"),
        *((line(name), "custom_id: ") for name in UNSAFE),
        (line("b", image="missing.png"), "image: 'missing.png' is not a file"),
        (line("b", image="a\0.png"), "is not a file"),
        (line("b", mask="."), "mask: '.' is not a file"),
        (line("b", image=["a.png"]), "image: This field must be text"),
        (line("b", image="https://a.example/x", image_url="https://a.example/y"), "image, image_url: send one"),
        ({"custom_id": "b", "mask": "a.png"}, "image: This field is missing"),
        (line("b", num_inference_step=3), "num_inference_step: There is no such field"),
        (line("b", on_disconnect="cancel"), "on_disconnect: There is no such field"),
        (line("b", seed="7"), "seed: This field must be a whole number"),
        (line("b", n=9), "n: This field must be less than or equal to 8"),
        (b"[1]", "not an object"),
        (b"{", "it is not JSON"),
        (b'{"custom_id": "b", "custom_id": "c"}', "custom_id: it stands there more than once"),
        (b'{"seed": NaN}', "NaN: JSON has no such number"),
        (b"\xff", "it is not UTF-8"),
        (b"[" * 100_000, "it is not JSON"),
        (b'{"prompt": "' + b"a" * MOST_LINE_BYTES + b'"}', "longer than"),
        (line("A"), "custom_id: 'A' is taken by line 1 ('a')"),
        (line("a", n=2), "custom_id: 'a' is taken by line 1"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_and_nothing_is_sent(folder: Path, bad: object, sentence: str) -> None:
    with pytest.raises(LaunchError) as caught:
        read_lines(written(folder, line(), bad, line("good")))
    (_, said) = str(caught.value).splitlines()
    assert said.startswith("  line 2: ") and sentence in said and "1 of its lines" in str(caught.value)


def test_pictures_of_two_lines_never_have_one_name(folder: Path) -> None:
    with pytest.raises(LaunchError, match=r"line 2: custom_id: 'A-1' is taken by line 1 \('a'\)"):
        read_lines(written(folder, line(n=2), line("A-1")))
    assert len(read_lines(written(folder, line(n=2), line("a-2")))) == 2


def test_many_faults_are_counted_and_a_file_without_lines_is_one(folder: Path) -> None:
    with pytest.raises(LaunchError, match="30 of its lines") as caught:
        read_lines(written(folder, *[line("/")] * 30))
    assert "and 10 more" in str(caught.value) and len(str(caught.value).splitlines()) == 22
    for empty in ((), (b"", b" ")):
        with pytest.raises(LaunchError, match="has no lines"):
            read_lines(written(folder, *empty))
    with pytest.raises(LaunchError, match="cannot be read"):
        read_lines(folder)


def test_the_digest_is_of_all_that_is_asked_for(folder: Path) -> None:
    def digest(**changed: Any) -> str:
        made = Line(1, **{"custom_id": "a", "fields": {"seed": 1}, "pictures": {"image": folder / "a.png"}} | changed)
        return made.digest(made.read())

    first = digest()
    (folder / "b.png").write_bytes(b"other")
    pictures = {"image": folder / "b.png"}
    assert first == digest() and Line(9, "a", {"seed": 1}).digest({"image": b"photo"}) == first
    others = [digest(custom_id="b"), digest(fields={"seed": 2}), digest(pictures=pictures), digest(pictures={})]
    assert len({first, *others}) == 5


# ---- results.jsonl


def outcome(custom_id: str, **fields: Any) -> Outcome:
    return Outcome(**{"custom_id": custom_id, "status": "succeeded", "line": 1, "digest": "d", "files": []} | fields)


def test_the_last_outcome_of_a_line_counts_and_a_last_one_that_was_cut_off_does_not(tmp_path: Path) -> None:
    results = Results(tmp_path)
    for made in (outcome("a", status="failed", tries=1), outcome("b"), outcome("a", tries=1)):
        results.add(made)
    with results.path.open("a") as file:  # a kill in the middle of a line, before the folder was closed
        file.write('{"custom_id": "c", "sta')
    with pytest.raises(LaunchError, match="another infill batch writes into it"):
        Results(tmp_path)
    assert {name: each.status for name, each in results._read().items()} == {"a": "succeeded", "b": "succeeded"}
    results.close()
    with closing(Results(tmp_path)) as again:
        assert again.outcomes == results.outcomes and len(again.path.read_text().splitlines()) == 2


def test_a_file_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text('{"id": 1}\n{"id": 2}\n')
    with pytest.raises(LaunchError, match="line 1 is none of infill batch"):
        Results(tmp_path)
    assert (tmp_path / "results.jsonl").read_text() == '{"id": 1}\n{"id": 2}\n'


def test_a_line_is_done_only_with_its_content_and_its_pictures(tmp_path: Path) -> None:
    with closing(Results(tmp_path)) as results:
        results.save(["a.png"], [b"png"], None)
        results.add(outcome("a", files=["a.png"]))
        assert results.is_done("a", "d") and not results.is_done("a", "e") and not results.is_done("b", "d")
        results.save(["a.jpg"], [b"jpg"], results.outcomes["a"])
        assert not results.is_done("a", "d")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "results.jsonl"]


# ---- against a service that answers as it is told to


class Told(ThreadingHTTPServer):
    """Jobs that succeed at once. ``faults`` are answered first: (status, JSON, headers); status 0 cuts the connection.

    ``failing``: the codes with which the next jobs fail.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.faults: dict[str, list[tuple[int, Any, dict[str, str]]]] = {"submit": [], "job": [], "image": []}
        self.failing: list[str] = []
        self.bodies: list[bytes] = []
        super().__init__(("127.0.0.1", 0), Answer)


class Answer(BaseHTTPRequestHandler):
    server: Told

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            known = self.headers["Authorization"] != "Bearer wrong"
            problem = {"code": "unauthorized", "detail": "Unknown."}
            return self.send(200, {"models": []}) if known else self.send(401, problem)
        kind = "image" if "/images/" in self.path else "job"
        if self.server.faults[kind]:
            return self.send(*self.server.faults[kind].pop(0))
        return self.send(200, b"png") if kind == "image" else self.send(200, self.job())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.keys.append(self.headers["Idempotency-Key"])
        self.server.bodies.append(body)
        if self.server.faults["submit"]:
            return self.send(*self.server.faults["submit"].pop(0))
        return self.send(202, JOB)

    def job(self) -> dict[str, Any]:
        if self.server.failing:
            error = {"code": self.server.failing.pop(0), "message": "It went wrong."}
            return JOB | {"status": "failed", "error": error}
        n = 2 if b'name="n"\r\n\r\n2' in self.server.bodies[-1] else 1
        return SUCCEEDED | {"images": IMAGES[:n]}

    def send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        if not status:
            self.close_connection = True
            return
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Told]:
    handlers = {number: signal.getsignal(number) for number in SIGNALS}  # the command replaces them for good
    with Told() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()
    for number, handler in handlers.items():
        signal.signal(number, handler)


def run(service: Told, path: Path, key: str | None = None) -> tuple[int, list[str]]:
    said: list[str] = []
    url = f"http://127.0.0.1:{service.server_port}"
    options = Namespace(lines=path, out=path.parent / "out", url=url, key=key, at_once=1)
    return batch(options, said.append), said


def results_in(folder: Path) -> dict[str, dict[str, Any]]:
    rows = [json.loads(text) for text in (folder / "out" / "results.jsonl").read_text().splitlines()]
    assert len({row["custom_id"] for row in rows}) == len(rows)
    return {row["custom_id"]: row for row in rows}


def test_pictures_and_results_are_written_and_a_second_run_does_nothing(service: Told, folder: Path) -> None:
    path = written(folder, line(), line("b", n=2))
    assert run(service, path) == (
        0,
        [f"2 made, 0 there already, 0 failed: {folder / 'out' / 'results.jsonl'}"],
    )
    assert {file.name for file in (folder / "out").iterdir()} == {"a.png", "b-0.png", "b-1.png", "results.jsonl"}
    row = results_in(folder)["b"]
    assert (row["files"], row["job"], row["seeds"], row["line"]) == (["b-0.png", "b-1.png"], "a", [1], 2)
    assert b'name="priority"\r\n\r\nlow' in service.bodies[0]
    status, said = run(service, path)
    assert (status, len(service.keys)) == (0, 2) and "2 there already" in said[0]


def test_what_has_changed_or_is_missing_is_done_again(
    service: Told, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(service, written(folder, line(), line("b"), line("c")))
    (folder / "out" / "b.png").unlink()
    run(service, written(folder, line(seed=5), line("b"), line("c")))
    assert len(service.keys) == 5 and service.keys[3] != service.keys[0] and service.keys[4] == service.keys[1]
    assert "a: it has changed since it was done" in capsys.readouterr().err


def test_a_line_that_fails_is_named_and_the_next_run_makes_a_new_job(
    service: Told, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.failing = ["not_finite"]
    path = written(folder, line(), line("b"))
    status, said = run(service, path)
    assert status == 1 and "1 made, 0 there already, 1 failed" in said[0]
    assert "line 1 (a) failed: It went wrong." in capsys.readouterr().err
    assert results_in(folder)["a"]["error"] == {"code": "not_finite", "message": "It went wrong."}
    assert run(service, path)[0] == 0
    assert len(set(service.keys)) == len(service.keys) == 3 and results_in(folder)["a"]["status"] == "succeeded"


@pytest.mark.parametrize(
    ("kind", "faults", "keys"),
    [
        ("submit", [(429, PROBLEM, NOW)] * 14, 1),
        ("submit", [(503, b"<html>", {})], 1),
        ("submit", [(500, PROBLEM, NOW)] * 3, 1),
        ("job", [(404, {"code": "job_not_found", "detail": "Gone."}, {})], 2),
        ("image", [(410, {"code": "result_expired", "detail": "Gone."}, {})], 2),
        ("image", [(0, b"", {})], 1),
    ],
)
def test_a_service_that_is_busy_or_away_or_has_lost_a_job_is_ridden_out(
    service: Told, folder: Path, kind: str, faults: list[Any], keys: int
) -> None:
    service.faults[kind] = [*faults]
    assert run(service, written(folder, line()))[0] == 0
    assert len(set(service.keys)) == keys and not service.faults[kind]


@pytest.mark.parametrize("code", ["crashed", "store_full", "model_unavailable"])
def test_a_job_that_fails_by_no_fault_of_its_own_is_made_again_under_another_key(
    service: Told, folder: Path, code: str
) -> None:
    service.failing = [code] * 2
    assert run(service, written(folder, line()))[0] == 0
    assert len(set(service.keys)) == 3
    service.failing = [code] * 9
    assert run(service, written(folder, line(seed=1)))[0] == 1
    assert len(service.failing) == 9 - JOBS_A_LINE


def test_a_refusal_of_one_line_is_its_failure_and_a_refused_key_ends_the_run(service: Told, folder: Path) -> None:
    service.faults["submit"] = [(422, {"code": "empty_mask", "detail": "mask: empty."}, {})]
    path = written(folder, line(), line("b"), line("c"))
    assert run(service, path)[0] == 1
    service.faults["submit"] = [(401, {"code": "unauthorized", "detail": "No such key."}, {})]
    with pytest.raises(LaunchError, match=r"No such key\. 0 made, 0 there already, 0 failed"):
        run(service, path)
    assert results_in(folder)["a"]["error"]["code"] == "empty_mask"


def test_a_key_that_is_not_known_ends_the_run_before_anything_is_written(service: Told, folder: Path) -> None:
    with pytest.raises(LaunchError, match=r"http://127.0.0.1:\d+: Unknown"):
        run(service, written(folder, line()), "wrong")
    assert not (folder / "out").exists()


def test_a_folder_that_cannot_be_written_ends_the_run(service: Told, folder: Path) -> None:
    (folder / "out" / "a.png").mkdir(parents=True)
    with pytest.raises(LaunchError, match=r"out cannot be written: Is a directory"):
        run(service, written(folder, line()))


# ---- the line that shows how far it is


def test_the_bar_says_what_is_done_and_when_the_rest_will_be() -> None:
    assert count_text(10_000, 3_400, 2, 4.1) == f"[{'#' * 10}{'.' * 20}]  3,400/10,000  2 failed  4.1/s  27 min to go"
    assert count_text(10, 10, 0, 4.1) == f"[{'#' * 30}]  10/10"


def test_elsewhere_than_on_a_terminal_no_line_is_redrawn() -> None:
    out = io.StringIO()
    shown = CountLine(3, out)
    shown.PLAIN_EVERY_S = 0.0
    shown.count(made=1)
    shown.waits("It is busy.")
    shown.waits("It is busy.")
    shown.count(failed=1)
    shown.close()
    assert "\r" not in out.getvalue() and out.getvalue().count("It is busy.") == 1
    assert len(out.getvalue().splitlines()) == 3
