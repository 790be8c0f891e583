"""Many lines, and nothing is lost or made twice: ``python -m tests.e2e.batch --lines 10000``.

``infill batch`` sends them to a service whose workers and API processes are killed with SIGKILL along the way; the
command itself is interrupted and killed, and called again. In the end each line has its picture, and the service has
made as many jobs as there are lines, but for those whose five workers were killed.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from redis import Redis

from tests.e2e.pictures import noise_and_mask, pixels_of
from tests.e2e.stack import Process, Stack
from tests.e2e.template import Template
from tests.redis_server import RedisServer
from tests.tethered import tethered

SETTINGS = {"INFILL_LEASE_S": "3", "INFILL_BEAT_S": "1", "INFILL_RESULT_TTL_S": "60", "INFILL_MAX_ATTEMPTS": "5"}
PHOTOS = 8


@dataclass
class Faults:
    """How many of each there are, spread over the lines."""

    workers: int
    apis: int
    commands: int

    def order(self, lines: int, seed: int) -> list[tuple[int, str]]:
        """(after so many lines, what is killed), the first one first."""
        rng = Random(seed)
        kinds = [("worker", self.workers), ("api", self.apis), ("command", self.commands)]
        return sorted((rng.randrange(1, max(2, lines - 2)), kind) for kind, count in kinds for _ in range(count))


@dataclass
class Batch:
    """The lines in a folder, and the command that does them."""

    folder: Path
    url: str
    lines: int
    at_once: int = 16
    runs: int = 0
    said: list[str] = field(default_factory=list)

    def write(self) -> None:
        self.folder.mkdir()
        for number in range(PHOTOS):
            photo, mask = noise_and_mask(number)
            (self.folder / f"photo-{number}.png").write_bytes(photo)
            (self.folder / f"mask-{number}.png").write_bytes(mask)
        rows = (
            {
                "custom_id": f"line-{number}",
                "image": f"photo-{number % PHOTOS}.png",
                "mask": f"mask-{number % PHOTOS}.png",
                "num_inference_steps": 1,
                "seed": number,
            }
            for number in range(self.lines)
        )
        (self.folder / "in.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def start(self) -> "subprocess.Popen[bytes]":
        self.runs += 1
        command = [
            "-m",
            "launch",
            "batch",
            "in.jsonl",
            "--out",
            "out",
            "--url",
            self.url,
            "--at-once",
            str(self.at_once),
        ]
        with (self.folder / "said.log").open("ab") as said:
            return subprocess.Popen(
                tethered([sys.executable, *command]),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    def done(self) -> int:
        """Outcomes that are written, the cut off one of a kill with them."""
        try:
            return (self.out / "results.jsonl").read_bytes().count(b"\n")
        except FileNotFoundError:
            return 0

    def check(self, connection: Redis) -> None:
        """Every line has succeeded and has its picture; no job was made that is not of these."""
        rows = [json.loads(text) for text in (self.out / "results.jsonl").read_text().splitlines()]
        assert {row["custom_id"] for row in rows} == {f"line-{number}" for number in range(self.lines)}
        assert len(rows) == self.lines
        again = sum(row["tries"] for row in rows)
        for row in rows:
            number = int(row["custom_id"].partition("-")[2])
            assert (row["status"], row["seeds"], row["files"]) == ("succeeded", [number], [f"line-{number}.png"]), row
        sizes = {pixels_of((self.out / f"line-{number}.png").read_bytes()).shape for number in range(self.lines)}
        assert sizes == {(96, 96, 3)}
        jobs = sum(1 for _ in connection.scan_iter("rq:job:*", count=1000))
        assert jobs == self.lines + again, f"{jobs} jobs for {self.lines} lines, of which {again} were made again"
        assert not [path for path in self.out.iterdir() if path.name.startswith(".")]


def run(batch: Batch, stack: Stack, faults: Faults, seed: int = 1) -> Counter[str]:
    """Do the lines to their end, with the faults on the way. Returns those that came before it."""
    coming, come = faults.order(batch.lines, seed), Counter[str]()
    command = batch.start()
    while command.poll() is None:
        if coming and batch.done() >= coming[0][0]:
            _, kind = coming.pop(0)
            come[kind] += 1
            if kind == "command":
                command = _again(batch, command, kill=come[kind] % 2 == 0)
            else:
                _kill(stack, kind)
        time.sleep(0.02)
    assert command.returncode == 0, (batch.folder / "said.log").read_text()[-2000:]
    return come


def _again(batch: Batch, command: "subprocess.Popen[bytes]", kill: bool) -> "subprocess.Popen[bytes]":
    """End the command, gently or not, and call it again."""
    command.send_signal(signal.SIGKILL if kill else signal.SIGINT)
    status = command.wait(60)
    early = -signal.SIGINT  # before it has begun
    assert status in (-signal.SIGKILL, early, 130, 0), (status, (batch.folder / "said.log").read_text()[-2000:])
    return batch.start()


def _kill(stack: Stack, kind: str) -> None:
    if kind == "worker":
        worker = stack.workers.pop(0)
        worker.send(signal.SIGKILL)
        worker.popen.wait()
        stack.start_worker()
    else:
        stack.apis[0].send(signal.SIGKILL)
        stack.apis[0].popen.wait()
        stack.restart_api(0)


def services(folder: Path, workers: int) -> Iterator[tuple[Stack, Redis]]:
    with (
        RedisServer(folder / "redis", append_only=True) as server,
        Redis.from_url(server.url) as connection,
        Stack(server.url, folder, **SETTINGS) as stack,
    ):
        stack.start_api()
        for _ in range(workers):
            stack.start_worker()
        stack.wait_until_ready()
        yield stack, connection


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2, help="worker processes at a time")
    parser.add_argument("--worker-kills", type=int, default=100)
    parser.add_argument("--api-kills", type=int, default=10)
    parser.add_argument("--command-kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, Template() as Process.template:
        folder = Path(name)
        for stack, connection in services(folder, asked.workers):
            batch = Batch(folder / "lines", stack.urls[0], asked.lines)
            batch.write()
            began = time.monotonic()
            faults = Faults(asked.worker_kills, asked.api_kills, asked.command_kills)
            come = run(batch, stack, faults, asked.seed)
            took_s = time.monotonic() - began
            batch.check(connection)
            print(f"{asked.lines} lines in {took_s:.0f} s: {asked.lines / took_s:.1f}/s; killed: {dict(come)}")
            print("Nothing was lost, and nothing made twice.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
