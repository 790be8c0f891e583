"""A limited amount that callers share, of which none can take all."""

from collections import Counter

from jobs.fairness import may_take


class Shares:
    """What callers hold of ``limit``, in this process.

    Args:
        limit: how much there is.
        share: of the limit, what one caller alone can hold (``jobs.fairness.may_take``).
    """

    def __init__(self, limit: int, share: float) -> None:
        self.limit = limit
        self.share = share
        self.taken = 0
        self._held: Counter[str] = Counter()

    def has_room(self, caller: str, amount: int = 1) -> bool:
        """Whether ``caller`` could take ``amount`` now."""
        fits = self.taken + amount <= self.limit
        return fits and may_take(self._held[caller], self.taken, self.limit, self.share)

    def take(self, caller: str, amount: int = 1) -> bool:
        """Take it if there is room; False if there is none."""
        if not self.has_room(caller, amount):
            return False
        self.taken += amount
        self._held[caller] += amount
        return True

    def give_back(self, caller: str, amount: int = 1) -> None:
        self.taken -= amount
        self._held[caller] -= amount
        if not self._held[caller]:
            del self._held[caller]
