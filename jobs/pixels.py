"""Where pictures lie between the API and a worker: uploads until their job has ended, results for their lifetime.

``RedisPixels`` keeps them in Redis, as raw values beside the queue. Another store (object storage, a shared disk) is a
class of the same four methods.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, cast

from redis import Redis
from redis.exceptions import RedisError

from jobs import keys
from jobs.connection import is_full
from jobs.errors import NotStored


class Pixels(Protocol):
    """Encoded pictures by job and name ("image", "mask", "result:0", ...).

    Every method may raise ``jobs.connection.PixelsAway`` (or Redis' own errors) while the store cannot be reached.
    """

    def put(self, job_id: str, pictures: Mapping[str, bytes], ttl_s: int) -> None:
        """Keep all of them for ``ttl_s`` seconds; or none, and raise NotStored, where there is no room for all."""
        ...

    def get(self, job_id: str, names: Sequence[str]) -> list[bytes | None]:
        """As put; None for one that has expired or never was."""
        ...

    def drop(self, job_id: str, names: Sequence[str]) -> None:
        """Forget them; those that are not there are none the less fine."""
        ...

    def keep(self, job_id: str, names: Sequence[str], ttl_s: int) -> None:
        """Keep those that are there for ``ttl_s`` seconds from now."""
        ...


class RedisPixels:
    """Pictures in Redis."""

    def __init__(self, connection: Redis) -> None:
        self.connection = connection

    def put(self, job_id: str, pictures: Mapping[str, bytes], ttl_s: int) -> None:
        size_bytes = sum(map(len, pictures.values()))
        try:
            if self._takes(size_bytes):
                for name, picture in pictures.items():  # one by one: together they would be in memory twice
                    self.connection.set(keys.picture(job_id, name), picture, ex=ttl_s)
                return
        except RedisError as error:
            if not is_full(error):
                raise
            self.drop(job_id, list(pictures))
        raise NotStored(f"{size_bytes / 1e6:.1f} MB of pictures found no room in the store.")

    def get(self, job_id: str, names: Sequence[str]) -> list[bytes | None]:
        return cast("list[bytes | None]", self.connection.mget([keys.picture(job_id, name) for name in names]))

    def drop(self, job_id: str, names: Sequence[str]) -> None:
        self.connection.unlink(*(keys.picture(job_id, name) for name in names))

    def keep(self, job_id: str, names: Sequence[str], ttl_s: int) -> None:
        for name in names:
            self.connection.expire(keys.picture(job_id, name), ttl_s)

    def _takes(self, size_bytes: int) -> bool:
        """Whether so many more bytes stay below ``maxmemory``; asked first, for the bytes take time to send."""
        memory = self.connection.info("memory")
        limit = int(memory.get("maxmemory", 0))
        return not limit or int(memory["used_memory"]) + size_bytes <= limit
