"""A worker process that does one thing at a time, as it is told on its standard input: run by ``test_clocks.py``."""

import sys
import time

from redis import Redis

from tests.worker.batch_workers import make_worker


def main() -> None:
    worker = make_worker(Redis.from_url(sys.argv[1]), "skewed")
    print(time.time(), flush=True)
    for command in sys.stdin:
        if command.strip() == "look for lapsed leases":
            worker.clean_registries()
        elif command.strip() == "begin a job":
            job = worker._queue().pop(None)
            assert job is not None
            worker.prepare_execution(job)
            worker.prepare_job_execution(job, True)
        elif command.strip() == "beat":
            worker.upkeep.beat()
        print("done", flush=True)


if __name__ == "__main__":
    main()
