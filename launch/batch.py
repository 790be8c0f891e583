"""``infill batch``: repaint many photos by a running service, at low priority; what was interrupted goes on.

A line's ``Idempotency-Key`` is made of its content, so that a line that was sent by a run that was killed is not made
again by the next one: it finds the job. ``results.jsonl`` says what is done.
"""

import os
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from threading import Event, Lock, Thread
from typing import Any, TypeVar

from infill_client import Client, ClientError, Job, NoAnswer, Problem, TimedOut
from infill_client.flows import RETRIED, Call
from jobs.outputs import SUFFIXES
from launch.batch_lines import Line, read_lines
from launch.batch_results import Outcome, Results
from launch.errors import LaunchError
from launch.progress import CountLine
from launch.stop_signals import StopSignals

T = TypeVar("T")

JOBS_A_LINE = 5
"""In one run, of a line whose jobs end by no fault of its own."""
NO_FAULT_OF_ITS_OWN = {"crashed", "model_unavailable", "store_full", "job_not_found", "result_expired"}
FAULTY = (408, 500, 504)
"""Statuses of a service, or a proxy, that has a fault; the same call may succeed later, but not for ever."""
FAULTY_ANSWERS = 5
REFUSED = (401, 403)
"""Statuses that every other line would have too."""
PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
HELD_S = 5.0
"""How long a call waits for a job's end: a run that is stopped ends so late."""


class Stopped(Exception):
    """The run is to end."""


class StoppableClient(Client):
    """Ends its pauses, and begins no call, once ``stop`` is set: Stopped."""

    def __init__(self, url: str, api_key: str | None, stop: Event) -> None:
        super().__init__(url, api_key)
        self.stop = stop

    def _pause(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise Stopped

    def _ask(self, call: Call) -> Any:
        if self.stop.is_set():
            raise Stopped
        return super()._ask(call)


def batch(options: Namespace, say: Callable[[str], None]) -> int:
    """Do every line that is not done yet; returns the exit status. Raises LaunchError."""
    lines, stop = read_lines(options.lines), Event()
    with closing(StoppableClient(options.url, options.key, stop)) as client:
        try:
            client.models()
        except ClientError as error:
            raise LaunchError(f"{options.url}: {error}") from None
        with closing(Results(options.out)) as results:
            run = Run(client, results, CountLine(len(lines)), stop)
            run.do(lines, options.at_once, StopSignals())
            shown = run.shown
            counts = f"{shown.made:,} made, {shown.there:,} there already, {shown.failed:,} failed"
            if run.fault:
                raise LaunchError(f"{run.fault} {counts}. The same command goes on from here.")
            if left := len(lines) - shown.ended:
                say(f"Stopped: {counts}, {left:,} left. The same command goes on from here; no line is made twice.")
                return 130
            say(f"{counts}: {results.path}")
            return 1 if shown.failed else 0


class Run:
    """One run over the lines. ``fault``: why it ended, if not for a signal or because all is done."""

    def __init__(self, client: StoppableClient, results: Results, shown: CountLine, stop: Event) -> None:
        self.client = client
        self.results = results
        self.shown = shown
        self.stop = stop
        self.fault = ""
        self._lock = Lock()

    def do(self, lines: Sequence[Line], at_once: int, signals: StopSignals) -> None:
        left = iter(lines)
        threads = [Thread(target=self._work, args=(left,), daemon=True) for _ in range(min(at_once, len(lines)))]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(0.05)
            if signals.requested and not self.stop.is_set():
                self.shown.say("Stopping; jobs that the service has go on there. Once more to stop at once.")
                self.stop.set()
            if signals.count > 1:
                os._exit(130)
        self.shown.close()

    def _work(self, left: Iterator[Line]) -> None:
        while not self.stop.is_set():
            with self._lock:
                line = next(left, None)
            if line is None:
                return
            try:
                self._do_line(line)
            except Stopped:
                return
            except OSError as error:
                self._end(f"{self.results.folder} cannot be written: {error.strerror}.")
            except Problem as refused:
                self._end(f"{refused.detail}")
            except Exception as error:
                self._end(f"Line {line.number} ended the run: {error!r}.")

    def _end(self, fault: str) -> None:
        self.fault = self.fault or fault
        self.stop.set()

    def _do_line(self, line: Line) -> None:
        """Raises Stopped, OSError where results cannot be written, Problem where no line would be taken."""
        try:
            files = line.read()
        except OSError as error:
            self._record(_failure(line, "", 0, "unreadable", f"{error.filename}: {error.strerror}."))
            return
        digest, before = line.digest(files), self.results.outcomes.get(line.custom_id)
        if self.results.is_done(line.custom_id, digest):
            self.shown.count(there=1)
            return
        if before and before.digest != digest:
            self.shown.say(f"{line.custom_id}: it has changed since it was done, and is done again.")
        tries = before.tries if before and before.digest == digest else 0
        self._record(self._outcome(line, files, digest, tries, before))

    def _record(self, outcome: Outcome) -> None:
        self.results.add(outcome)
        if outcome.status == "failed":
            reason = outcome.error["message"] if outcome.error else ""
            self.shown.say(f"line {outcome.line} ({outcome.custom_id}) failed: {reason}")
        self.shown.count(made=outcome.status == "succeeded", failed=outcome.status == "failed")

    def _outcome(
        self, line: Line, files: Mapping[str, bytes], digest: str, tries: int, before: Outcome | None
    ) -> Outcome:
        """Of the line's first job that succeeds or fails for good. Each job has a key of its own."""
        outcome = None
        for tried in range(tries, tries + JOBS_A_LINE):
            job, code, reason = None, "", ""
            try:
                job = self._ended_job(line, files, f"infill-batch-{digest}-{tried}")
                if job.status == "succeeded":
                    return self._saved(line, job, digest, tried, before)
                code = job.error.code if job.error else job.status
                reason = job.error.message if job.error else f"The job is {job.status}."
            except Problem as problem:
                if problem.status in REFUSED:
                    raise
                code, reason = problem.code, problem.detail
            outcome = _failure(line, digest, tried + 1, code, reason, job)
            if code not in NO_FAULT_OF_ITS_OWN:
                break
        assert outcome
        return outcome

    def _ended_job(self, line: Line, files: Mapping[str, bytes], key: str) -> Job:
        job = self._through(
            lambda: self.client.submit(files.get("image"), files.get("mask"), idempotency_key=key, **line.fields)
        )
        while not job.ended:
            waiting = job
            job = self._through(lambda waiting=waiting: self._waited(waiting))  # type: ignore[misc]
        return job

    def _waited(self, job: Job) -> Job:
        try:
            return self.client.wait(job, HELD_S)
        except TimedOut as late:
            return late.job

    def _saved(self, line: Line, job: Job, digest: str, tries: int, before: Outcome | None) -> Outcome:
        images = self._through(lambda: self.client.result(job)).images
        names = [f"{stem}{SUFFIXES.get(job.images[0].content_type, '')}" for stem in line.stems()]
        self.results.save(names, images, before)
        return Outcome(
            custom_id=line.custom_id,
            status="succeeded",
            files=names,
            job=job.id,
            seeds=job.seeds,
            timings=job.timings,
            line=line.number,
            digest=digest,
            tries=tries,
        )

    def _through(self, call: Callable[[], T]) -> T:
        """The call's answer, however long the service is busy or away. Raises Problem for another answer, Stopped."""
        pause_s, faulty = PAUSE_S, 0
        while True:
            try:
                return call()
            except NoAnswer as error:
                after_s = pause_s
                self.shown.waits(f"The service does not answer; it is tried again. {error}")
            except Problem as problem:
                faulty += problem.status in FAULTY
                if problem.status not in (*RETRIED, *FAULTY) or faulty == FAULTY_ANSWERS:
                    raise
                after_s = pause_s if problem.retry_after_s is None else problem.retry_after_s
                if after_s > LONGEST_PAUSE_S:
                    self.shown.waits(f"The service takes more in {after_s:.0f} s ({problem.code}): {problem.detail}")
            self.client._pause(after_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _failure(line: Line, digest: str, tries: int, code: str, message: str, job: Job | None = None) -> Outcome:
    return Outcome(
        custom_id=line.custom_id,
        status="failed",
        job=job.id if job else None,
        error={"code": code, "message": message},
        line=line.number,
        digest=digest,
        tries=tries,
    )
