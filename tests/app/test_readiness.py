"""``/readyz``: every model has a living worker, and there is room for a job."""

from pathlib import Path

import pytest

from app.settings import ApiSettings
from tests.app.metrics import WORKER, metrics_of, value
from tests.app.problems import assert_problem
from tests.app.serving import serve
from tests.app.settling import Settler
from tests.app.submissions import submit

pytestmark = pytest.mark.anyio

ENTRY = """
[models.{name}]
family = "sd"
source = "embedded"
num_inference_steps = 20
guidance_scale = 1.0
strength = 1.0
scheduler = "ddim"
"""


@pytest.fixture
def two_models(redis_url: str, tmp_path: Path) -> ApiSettings:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(ENTRY.format(name="pocket") + ENTRY.format(name="large"))
    return ApiSettings(redis_url=redis_url, catalog=str(catalog))


async def test_ready_needs_a_living_worker_for_each_model(two_models: ApiSettings, settler: Settler) -> None:
    store = settler.queue.store
    async with serve(two_models) as client:
        nobody = assert_problem(await client.get("/readyz"), 503, "no_worker")
        assert "pocket, large" in nobody["detail"]
        store.announce(WORKER, lease_s=10)
        half = assert_problem(await client.get("/readyz"), 503, "no_worker")
        assert "large" in half["detail"] and "pocket" not in half["detail"]
        assert (await submit(client, model="large")).status_code == 202  # accepted, and waits
        store.announce(WORKER.model_copy(update={"name": "w2", "models": ["large"]}), lease_s=10)
        assert (await client.get("/readyz")).json() == {"status": "ready", "workers": 2, "queue_depth": 1}
        store.withdraw(WORKER.name)
        gone = assert_problem(await client.get("/readyz"), 503, "no_worker")
        assert "pocket" in gone["detail"] and "large" not in gone["detail"]


async def test_the_metric_counts_the_workers_of_each_model(two_models: ApiSettings, settler: Settler) -> None:
    settler.queue.store.announce(WORKER, lease_s=10)
    async with serve(two_models) as client:
        metrics = await metrics_of(client)
    assert value(metrics, "infill_model_workers", model="pocket") == 1
    assert value(metrics, "infill_model_workers", model="large") == 0
