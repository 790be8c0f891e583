"""Redis clients. The API's gives up fast, so that a caller gets a 503; the worker's rides out a restart of Redis."""

from redis import Redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry


def connect_api(url: str) -> Redis:
    """A client that answers or fails within about two seconds."""
    return Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 1))


def connect_worker(url: str) -> Redis:
    """A client that tries again for a few seconds; the worker keeps its latents meanwhile."""
    retry = Retry(ExponentialBackoff(cap=1.0, base=0.05), 8)
    return Redis.from_url(url, socket_connect_timeout=2, retry=retry, health_check_interval=15)
