"""Redis' time of day. Leases are dated by it, because the clocks of the workers' machines may differ."""

import logging
import time

from redis import Redis

log = logging.getLogger("worker.clock")

SKEWED_S = 2.0
"""A larger difference is logged."""


class RedisClock:
    """Redis' time: the last reply plus the monotonic time since, which no clock adjustment changes."""

    def __init__(self, connection: Redis) -> None:
        self.connection = connection
        self.ahead_s = 0.0
        """By how much this machine's clock is ahead of Redis'; 0 while the difference is below half a round trip."""
        self._offset_s: float | None = None

    def look(self) -> float:
        """Ask Redis; return its time in unix seconds."""
        asked_at = time.time()
        seconds, microseconds = self.connection.time()
        now = seconds + microseconds / 1e6
        self._offset_s = now - time.monotonic()
        doubt_s = (time.time() - asked_at) / 2
        ahead_s = asked_at + doubt_s - now
        self._record(ahead_s if abs(ahead_s) > abs(doubt_s) else 0.0)
        return now

    def now(self) -> float:
        """Redis' time by the last look, in unix seconds."""
        return self.look() if self._offset_s is None else self._offset_s + time.monotonic()

    def _record(self, ahead_s: float) -> None:
        before, self.ahead_s = self.ahead_s, ahead_s
        if abs(ahead_s) >= SKEWED_S > abs(before):
            log.warning("this machine's clock is %.1f s ahead of Redis' (below 0: behind)", ahead_s)
        elif abs(before) >= SKEWED_S > abs(ahead_s):
            log.warning("this machine's clock agrees with Redis' again")
