"""What a worker publishes of the models that it has loaded."""

from redis import Redis

from jobs import keys
from jobs.catalog import Catalog
from jobs.store import Store
from tests.factories import model_entry
from tests.worker import tiny
from worker.engine.engine import Engine
from worker.engine.session import Session
from worker.queue.reporter import Reporter
from worker.settings import WorkerSettings

SETTINGS = WorkerSettings(record_ttl_s=60)


def test_what_fits_a_model_is_published_once_it_is_loaded_and_kept_while_the_worker_lives(connection: Redis) -> None:
    models = {
        "here": model_entry(source="/here"),
        "not yet": model_entry(family="flux", source="/there", scheduler="flow_euler"),
    }
    store, model = Store(connection, SETTINGS), tiny.model("sd", "concat")
    session = Session(Engine({"here": model}, max_rows=1), codec_threads=1)
    reporter = Reporter("w", store, Catalog(models=models), session, SETTINGS)
    assert store.known.schedulers(["/here", "/there"]) == {}
    reporter.publish_known()
    assert store.known.schedulers(["/here", "/there"]) == {"/here": list(model.schedulers)}
    assert store.known.widths("/here") and "heun" in model.schedulers

    connection.expire(keys.schedulers("/here"), 5)
    reporter.announce([])
    assert connection.ttl(keys.schedulers("/here")) > 50
    session.shutdown()
