"""What the web UI keeps for all its users and this service for each caller: the chosen model, and the latest job."""

from typing import cast

from redis import Redis

from jobs import keys

LIFETIME_S = 7 * 86_400


class CallersChoice:
    """In Redis, so that any API process knows it."""

    def __init__(self, connection: Redis, caller: str) -> None:
        self.connection = connection
        self._key = keys.a1111(caller)

    def choose(self, model: str) -> None:
        """For requests that name no model."""
        self._set("model", model)

    def model(self) -> str | None:
        return self._get("model")

    def remember(self, job_id: str) -> None:
        self._set("job", job_id)

    def job(self) -> str | None:
        """The latest job that the caller has made by this API."""
        return self._get("job")

    def _set(self, name: str, value: str) -> None:
        with self.connection.pipeline() as pipeline:
            pipeline.hset(self._key, name, value)
            pipeline.expire(self._key, LIFETIME_S)
            pipeline.execute()

    def _get(self, name: str) -> str | None:
        value = cast("bytes | None", self.connection.hget(self._key, name))
        return value.decode() if value else None
