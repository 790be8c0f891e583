"""On PYTHONPATH it shifts a process's clock by SKEW_S seconds: a machine whose time of day is wrong.

Python imports it before anything else. The monotonic clock is left alone, as it is on such a machine.
"""

import datetime
import os
import time
from typing import Self

SKEW_S = float(os.environ["SKEW_S"])
_time = time.time


class SkewedDatetime(datetime.datetime):
    """Nothing but ``now`` and ``utcnow`` differ."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Self:
        return cls.fromtimestamp(_time() + SKEW_S, tz)


time.time = lambda: _time() + SKEW_S
datetime.datetime = SkewedDatetime  # type: ignore[misc]  # on purpose
