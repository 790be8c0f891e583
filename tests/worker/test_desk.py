"""What a worker publishes of the models that it has loaded."""

from redis import Redis

from jobs import keys
from jobs.catalog import Catalog, ModelEntry
from jobs.store import Store
from tests.worker import tiny
from worker.desk import Desk
from worker.engine import Engine
from worker.session import Session
from worker.settings import WorkerSettings

SETTINGS = WorkerSettings(record_ttl_s=60)
ENTRY = {"num_inference_steps": 2, "guidance_scale": 1, "strength": 1}


def test_what_fits_a_model_is_published_once_it_is_loaded_and_kept_while_the_worker_lives(connection: Redis) -> None:
    models = {
        "here": ModelEntry.model_validate({**ENTRY, "family": "sd", "source": "/here", "scheduler": "ddim"}),
        "not yet": ModelEntry.model_validate(
            {**ENTRY, "family": "flux", "source": "/there", "scheduler": "flow_euler"}
        ),
    }
    store, model = Store(connection, SETTINGS), tiny.model("sd", "concat")
    session = Session(Engine({"here": model}, max_rows=1), codec_threads=1)
    desk = Desk("w", store, Catalog(models=models), session, SETTINGS)
    assert store.schedulers(["/here", "/there"]) == {}
    desk.tell_widths()
    assert store.schedulers(["/here", "/there"]) == {"/here": list(model.schedulers)}
    assert store.widths("/here") and "heun" in model.schedulers

    connection.expire(keys.schedulers("/here"), 5)
    desk.announce([])
    assert connection.ttl(keys.schedulers("/here")) > 50
    session.shutdown()
