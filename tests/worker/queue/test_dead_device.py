"""A worker whose device dies under it: a real process ends, and its jobs are run elsewhere."""

import os
import subprocess
import sys
import time
from pathlib import Path

from redis import Redis
from rq.job import JobStatus as RqStatus

from jobs.store import Store
from tests.redis_server import RedisServer
from tests.tethered import tethered
from tests.worker.batch_workers import SETTINGS, fresh, make_worker, submit, tiny_model
from tests.worker.dead_workers import wait_until_leases_count
from worker.denoise.device import LOST_EXIT
from worker.models.sources import EMBEDDED
from worker.queue.outcomes import deaths

CATALOG = '[models.tiny]\nfamily = "sd"\nsource = "{source}"\nsize_px = 64\nmax_size_px = 64\n'
"""The pocket model, by the name that these tests' jobs ask for."""


def announced(connection: Redis) -> bool:
    return bool(Store(connection, SETTINGS).workers())


def test_a_dead_device_ends_the_process_and_its_jobs_are_run_by_another_worker(
    connection: Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    flag, catalog = tmp_path / "dead", tmp_path / "catalog.toml"
    catalog.write_text(CATALOG.format(source=EMBEDDED))
    served = {"INFILL_REDIS_URL": redis_server.url, "INFILL_CATALOG": str(catalog)}
    env = {**os.environ, **served, "INFILL_LEASE_S": "3", "INFILL_BEAT_S": "1"}
    command = tethered([sys.executable, "-m", "tests.worker.dying_worker", str(flag)])
    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, env=env, stderr=log) as dying:
        while not announced(connection):
            assert dying.poll() is None, (tmp_path / "log").read_text()[-2000:]
            time.sleep(0.1)
        flag.touch()
        jobs = [submit(connection, seed=seed, scheduler="ddim") for seed in range(3)]
        assert dying.wait(60) == LOST_EXIT == 70
    assert "illegal memory access" in (tmp_path / "log").read_text()
    assert not announced(connection)
    assert RqStatus.FAILED not in {fresh(job).get_status() for job in jobs}
    wait_until_leases_count(connection)
    living = make_worker(connection, "living", tiny_model())
    while RqStatus.STARTED in {fresh(job).get_status() for job in jobs}:
        living.upkeep.beat()
        living.clean_registries()
        time.sleep(0.1)
    while job := living._queue().pop(None):
        living.execute_job(job, living._queue())
    living.session.shutdown()
    assert [fresh(job).get_status() for job in jobs] == [RqStatus.FINISHED] * 3
    assert max(deaths(fresh(job)) for job in jobs) == 1
