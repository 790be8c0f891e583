"""Giving the jobs of a dead worker back at once, for whoever sees it die."""

from typing import cast

from redis import Redis
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE
from rq.registry import StartedJobRegistry


def expire_leases_of(connection: Redis, worker_name: str, queue_name: str) -> int:
    """Let the leases of a worker lapse now instead of in up to a lease's length; returns how many it held.

    A living worker finds the lapsed leases at its next maintenance, within about two seconds, and the jobs are tried
    again. Call it only when the process is known to be dead. Leases that were settled meanwhile stay settled: ``XX``
    never brings one back.
    """
    held = cast("set[bytes]", connection.smembers(WORKER_EXECUTIONS_KEY_TEMPLATE.format(worker_name)))
    if not held:
        return 0
    started = StartedJobRegistry(queue_name, connection=connection)
    return cast(int, connection.zadd(started.key, dict.fromkeys(held, 1), xx=True, ch=True))
