"""After Redis has lost its data, a worker says again at its next beat all that it says once."""

from collections.abc import Callable
from typing import cast

from redis import Redis

from jobs import keys
from jobs.catalog import Catalog
from jobs.store import Store
from tests.factories import model_entry
from tests.worker import tiny
from tests.worker.batch_workers import SETTINGS
from worker.engine.engine import Engine
from worker.engine.session import Session
from worker.queue.inpaint_queue import InpaintQueue
from worker.queue.reporter import Reporter
from worker.queue.rq_worker import BatchWorker


def test_models_presence_and_registration_are_there_again_after_a_beat(connection: Redis) -> None:
    store, model = Store(connection, SETTINGS), tiny.model("sd", "concat")
    session = Session(Engine({"here": model}, max_rows=1), codec_threads=1)
    reporter = Reporter("w", store, Catalog(models={"here": model_entry(source="/here")}), session, SETTINGS)
    queue = InpaintQueue(SETTINGS.queue_name, connection=connection)
    worker = BatchWorker([queue], name="w", connection=connection, reporter=reporter)
    worker.upkeep.start()
    worker.register_birth()
    worker.upkeep.beat()
    before = said(connection)
    assert {keys.WORKERS, keys.widths("/here"), keys.schedulers("/here"), worker.key} <= before.keys()

    connection.flushall()
    worker.upkeep.beat()
    assert said(connection) == before

    connection.delete(keys.widths("/here"))  # one alone, too
    worker.upkeep.beat()
    assert said(connection) == before
    session.shutdown()


def said(connection: Redis) -> dict[str, object]:
    """Every key in Redis, with its value where that does not change from beat to beat."""
    read: dict[object, Callable[[bytes], object]] = {
        b"set": connection.smembers,
        b"hash": connection.hkeys,
        b"string": lambda _: None,
    }
    found = {key.decode(): read[connection.type(key)](key) for key in cast("list[bytes]", connection.keys("*"))}
    constant = {name: connection.get(name) for name in found if name.startswith(("infill:widths", "infill:sched"))}
    return found | {name: sorted(value) for name, value in found.items() if isinstance(value, list)} | constant
