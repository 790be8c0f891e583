"""Sends out what is due when jobs have ended (``jobs/deliveries.py``), on threads beside the engine's."""

import json
import logging
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from redis.exceptions import RedisError
from standardwebhooks import Webhook

from jobs.addresses import Answer, CallFailed, Hosts, call
from jobs.deliveries import LOOK_AGAIN_S, RETRIES_S, Deliveries, Delivery, Due, State, deliveries_of
from jobs.errors import AddressRefused, JobNotFound
from jobs.job_view import JobView, view_of
from jobs.queue import JobQueue
from worker.metrics import WorkerMetrics

log = logging.getLogger("worker.deliveries")

LOOK_S = 0.5
THREADS = 8
OF_ONE_HOST = 2
"""Deliveries to one host at a time: a slow one must not hold up the others."""
BUSY_S, BUSY_MOST_S = 1.0, 30.0
"""When a delivery is looked at again whose host has enough to do. It grows while the host finishes none: thousands may
wait for a slow one."""
BUSY_GROWS = 50
SEND_S = {"output": 60.0, "webhook": 15.0}
ANSWER_BYTES = 2**16
AWAY_S = 2.0
FOR_NOW = (408, 425, 429)
"""Refusals of an output after which it is tried again, as after 5xx; a presigned address that has expired is a 403."""
GONE = 410


class Failed(Exception):
    """A delivery that another try cannot mend."""


class Deliverer:
    """One for each worker process.

    Args:
        queue: with a connection that no other thread blocks.
        metrics: counts what has become of deliveries.
    """

    def __init__(self, queue: JobQueue, metrics: WorkerMetrics) -> None:
        self.queue, self.metrics = queue, metrics
        self.deliveries: Deliveries = queue.deliveries
        self.hosts = Hosts(queue.settings.output_hosts)
        secret = queue.settings.webhook_secret
        self.webhook = Webhook(secret.get_secret_value()) if secret else None
        self._stopped = threading.Event()
        self._busy, self._put_off = Counter[str](), Counter[str]()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="deliveries")
        self._free = threading.Semaphore(THREADS)
        self._thread = threading.Thread(target=self._run, name="deliverer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """What is under way may end; what has not begun is left to other workers."""
        self._stopped.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        while not self._stopped.wait(LOOK_S):
            try:
                while self._free.acquire(blocking=False):
                    if not (due := self.deliveries.due(1)):
                        self._free.release()
                        break
                    self._pool.submit(self._attempt, due[0])
            except RedisError as error:
                log.warning("Redis does not answer, nothing is delivered now: %s", error)
                self._stopped.wait(AWAY_S)
            except RuntimeError:  # the pool has been shut down
                return

    def _attempt(self, due: Due) -> None:
        try:
            self.deliver(due)
        except RedisError as error:  # its claim lapses, and it is tried again
            log.warning("a delivery of job %s is left for later: %s", due.job_id, error)
        except Exception:
            log.exception("a delivery of job %s could not be looked at", due.job_id)
        finally:
            self._free.release()

    def deliver(self, due: Due) -> None:
        """Try one, and record what became of it."""
        try:
            job = self.queue.job(due.job_id)
            view = view_of(self.queue, job)
        except JobNotFound:
            self.deliveries.forget(due)
            return
        asked = deliveries_of(job.meta)
        if not view.status.ended:
            self.deliveries.put_off(due, LOOK_AGAIN_S)
        elif due.number >= len(asked):
            self.deliveries.forget(due)
        elif busy_s := self._enter(asked[due.number].host):
            self.deliveries.put_off(due, busy_s)
        else:
            try:
                self._send_and_record(due, asked[due.number], view)
            finally:
                self._leave(asked[due.number].host)

    def _enter(self, host: str) -> float | None:
        """None, or seconds after which to look again: it has as many deliveries as one host may have."""
        with self._lock:
            if self._busy[host] >= OF_ONE_HOST:
                self._put_off[host] += 1
                return min(BUSY_MOST_S, BUSY_S * (1 + self._put_off[host] / BUSY_GROWS))
            self._busy[host] += 1
            return None

    def _leave(self, host: str) -> None:
        with self._lock:
            self._busy[host] -= 1
            del self._put_off[host]
            if not self._busy[host]:
                del self._busy[host]

    def _send_and_record(self, due: Due, delivery: Delivery, view: JobView) -> None:
        attempts, error, final = self.deliveries.attempts(due) + 1, None, True
        try:
            answer = self._webhook(delivery, view) if delivery.kind == "webhook" else self._output(delivery, view)
            if not 200 <= answer.status < 300:
                error = f"The address answered {answer.status}."
                final = _is_final(delivery, answer.status)
        except CallFailed as failed:
            error, final = f"The address {failed}.", False
        except (AddressRefused, Failed) as failed:
            error = str(failed)
        except RedisError:
            raise
        except Exception:  # tried again, and not for ever
            log.exception("a delivery of job %s failed in a way that nobody expected", due.job_id)
            error, final = "It failed inside this service.", False
        state: State = "delivered" if error is None else "failed" if final or attempts > len(RETRIES_S) else "pending"
        self.deliveries.record(due, state, attempts, error)
        self.metrics.deliveries.labels(delivery.kind, "delivered" if error is None else "failed").inc()
        log.info("delivery", extra={"job_id": due.job_id, "kind": delivery.kind, "state": state, "attempts": attempts})

    def _output(self, delivery: Delivery, view: JobView) -> Answer:
        if delivery.index >= len(view.images):
            raise Failed("The job has no such image.")
        data = self.queue.store.result(view.id, delivery.index)
        if data is None:
            raise Failed("The result has expired.")
        headers = {"Content-Type": view.images[delivery.index].content_type}
        target = self.hosts.target(delivery.url, "output_url")
        return call(target, "PUT", content=data, headers=headers, most_bytes=ANSWER_BYTES, within_s=SEND_S["output"])

    def _webhook(self, delivery: Delivery, view: JobView) -> Answer:
        """Signed as Standard Webhooks has it; the id is the same at every try."""
        if self.webhook is None:
            raise Failed("This worker has no secret to sign with.")
        at, message_id = datetime.now(UTC), f"msg_{view.id}"
        ended_at = (view.ended_at or at).isoformat()
        event = {"type": f"job.{view.status.value}", "timestamp": ended_at, "data": view.model_dump(mode="json")}
        content = json.dumps(event)
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": self.webhook.sign(message_id, at, content),
        }
        target = self.hosts.target(delivery.url, "webhook_url")
        return call(
            target,
            "POST",
            content=content.encode(),
            headers=headers,
            most_bytes=ANSWER_BYTES,
            within_s=SEND_S["webhook"],
        )


def _is_final(delivery: Delivery, status: int) -> bool:
    if delivery.kind == "webhook":
        return status == GONE
    return 300 <= status < 500 and status not in FOR_NOW
