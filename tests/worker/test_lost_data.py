"""After Redis has lost its data, a worker says again at its next beat all that it says once."""

from typing import cast

from redis import Redis

from jobs import keys
from jobs.catalog import Catalog
from jobs.store import Store
from tests.worker import tiny
from tests.worker.test_desk import ENTRY
from tests.worker.test_endings import SETTINGS
from worker.desk import Desk
from worker.engine import Engine
from worker.inpaint_queue import InpaintQueue
from worker.rq_worker import BatchWorker
from worker.session import Session

LIKE = {"family": "sd", "source": "/here", "scheduler": "ddim", **ENTRY}


def test_models_presence_and_registration_are_there_again_after_a_beat(connection: Redis) -> None:
    store, model = Store(connection, SETTINGS), tiny.model("sd", "concat")
    session = Session(Engine({"here": model}, max_rows=1), codec_threads=1)
    desk = Desk("w", store, Catalog.model_validate({"models": {"here": LIKE}}), session, SETTINGS)
    queue = InpaintQueue(SETTINGS.queue_name, connection=connection)
    worker = BatchWorker([queue], name="w", connection=connection, desk=desk)
    worker._announced()
    worker.register_birth()
    worker.beat()
    before = said(connection)
    assert {keys.WORKERS, keys.widths("/here"), keys.schedulers("/here"), worker.key} <= before.keys()

    connection.flushall()
    worker.beat()
    assert said(connection) == before

    connection.delete(keys.widths("/here"))  # one alone, too
    worker.beat()
    assert said(connection) == before
    session.shutdown()


def said(connection: Redis) -> dict[str, object]:
    """Every key in Redis, with its value where that does not change from beat to beat."""
    read = {b"set": connection.smembers, b"hash": connection.hkeys, b"string": lambda _: None}
    found = {key.decode(): read[connection.type(key)](key) for key in cast("list[bytes]", connection.keys("*"))}
    constant = {name: connection.get(name) for name in found if name.startswith(("infill:widths", "infill:sched"))}
    return found | {name: sorted(value) for name, value in found.items() if isinstance(value, list)} | constant
