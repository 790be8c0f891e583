"""How many calls a caller may make in a minute, counted in Redis for all API processes together."""

import math
import time
from dataclasses import dataclass

from limits.storage import RedisStorage
from redis import Redis

from jobs.errors import RateLimited

WINDOW_S = 60


@dataclass(frozen=True)
class Allowance:
    """What is left of a caller's calls in this minute; below 0 after one too many."""

    limit: int
    remaining: int
    reset_s: int

    def check(self) -> None:
        """Raise RateLimited, with the time until the next minute, where the call was one too many."""
        if self.remaining < 0:
            raise RateLimited(f"At most {self.limit} calls a minute are allowed.", self.reset_s)

    @property
    def headers(self) -> dict[str, str]:
        """As RFC draft-ietf-httpapi-ratelimit-headers-07 has them."""
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(max(0, self.remaining)),
            "RateLimit-Reset": str(self.reset_s),
        }


class RateLimit:
    """Fixed windows of a minute, by the clock of this machine; one round trip to Redis a call.

    Args:
        limit: calls of one caller in a minute; 0: any number, and Redis is not asked.
    """

    def __init__(self, connection: Redis, limit: int) -> None:
        self.limit = limit
        pool = connection.connection_pool
        self._storage = RedisStorage("redis://", connection_pool=pool, key_prefix="infill:calls")

    def take(self, caller: str) -> Allowance:
        """Count one call."""
        now = time.time()
        reset_s = WINDOW_S - math.floor(now) % WINDOW_S
        count = self._storage.incr(f"{caller}:{math.floor(now / WINDOW_S)}", WINDOW_S)
        return Allowance(self.limit, self.limit - count, reset_s)
