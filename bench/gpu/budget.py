"""How much time is left: a run that is cut off from outside loses what it had not yet written."""

import time


class Budget:
    """Seconds until a deadline on the monotonic clock."""

    def __init__(self, seconds: float, began: float | None = None) -> None:
        self.deadline = (time.monotonic() if began is None else began) + seconds

    @property
    def left_s(self) -> float:
        return self.deadline - time.monotonic()

    def allows(self, seconds: float) -> bool:
        return seconds <= self.left_s

    def part(self, share: float) -> "Budget":
        """A share of what is left now."""
        return Budget(max(0.0, self.left_s) * share)
