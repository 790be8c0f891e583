"""How many images of a bucket a full device had room for, so that the whole batch is not tried at every step."""

from worker.denoise.state import BatchKey


class FittingRows:
    """Of the buckets in which a pass ran out of memory; pure bookkeeping."""

    def __init__(self) -> None:
        self._too_many: dict[BatchKey, int] = {}
        self._fitted: dict[BatchKey, int] = {}

    def ran(self, key: BatchKey, images: int) -> None:
        """A pass of so many images fitted."""
        self._fitted[_bucket(key)] = max(images, self._fitted.get(_bucket(key), 1))

    def failed(self, key: BatchKey, images: int) -> None:
        """A pass of so many images did not."""
        bucket = _bucket(key)
        self._too_many[bucket] = min(images, self._too_many.get(bucket, images))
        self._fitted[bucket] = max(1, min(images - 1, self._fitted.get(bucket, 1)))

    def limit(self, key: BatchKey, images: int) -> int:
        """At most ``images``, and no more than the most that fitted where more did not."""
        return min(images, self._fitted[_bucket(key)]) if _bucket(key) in self._too_many else images

    def keep(self, live: set[BatchKey]) -> None:
        """Forget the buckets without live images: the device may have more room when others come."""
        buckets = {_bucket(key) for key in live}
        for known in (self._too_many, self._fitted):
            for bucket in known.keys() - buckets:
                del known[bucket]


def _bucket(key: BatchKey) -> BatchKey:
    """A call of cached features needs less room, and alternates with whole ones."""
    return key._replace(shallow=False)
