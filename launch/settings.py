"""The launcher's settings: read once from ``INFILL_*``; the command line overrides them."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from jobs.connection import RedisAddress

SAMPLE = Path(__file__).resolve().parent / "sample"
"""The demo's photo and mask."""

Folder = Annotated[Path, AfterValidator(Path.absolute)]


class LaunchSettings(BaseSettings):
    """Where to listen, how many workers, which Redis, how long to wait."""

    model_config = SettingsConfigDict(env_prefix="INFILL_", frozen=True, extra="ignore", env_ignore_empty=True)

    redis_url: str | None = Field(None, description="a running Redis to use; without one, the launcher starts its own")
    redis_sentinels: str | None = Field(None, description="host:port,host:port of the sentinels of a running Redis")
    redis_service: str | None = Field(None, description="name of the master that the sentinels watch")
    redis_maxmemory: str = Field("1gb", description="memory limit of the Redis that the launcher starts")
    queue_name: str = Field("inpaint", description="name of the RQ queue")
    host: str = Field("127.0.0.1", description="address the API listens on")
    port: int = Field(
        8000, ge=1, le=65_535, description="port of the API; unless it is named, the next free one where 8000 is taken"
    )
    workers: int = Field(1, ge=1, le=64, description="worker processes")
    devices: str = Field("", description="a device for each worker, comma-separated: cuda:0,cuda:1")
    metrics_port: int = Field(
        0, ge=0, le=65_000, description="port of worker-1's /metrics, worker-2's is one above; 0: none"
    )
    var_dir: Folder = Field(
        Path("var"), validate_default=True, description="folder for the launcher's Redis data and its logs"
    )
    demo_dir: Folder = Field(
        Path("demo"), validate_default=True, description="folder that gets the demo's results; it may bring its photo"
    )
    ready_timeout_s: float = Field(180.0, gt=0, description="time that API and workers have to become ready")
    drain_timeout_s: float = Field(90.0, gt=0, description="time after which a worker that still drains is killed")

    @model_validator(mode="after")
    def _one_device_a_worker(self) -> Self:
        named = len(self.device_names)
        if named and (named != self.workers or not all(self.device_names)):
            raise ValueError(
                f"INFILL_DEVICES names {named} devices for {self.workers} workers: name one for each, or set "
                "INFILL_WORKERS."
            )
        return self

    @property
    def device_names(self) -> list[str]:
        """Of worker 1, 2, ...; empty where each worker chooses by INFILL_DEVICE."""
        return [name.strip() for name in self.devices.split(",")] if self.devices else []

    @property
    def redis(self) -> RedisAddress | None:
        """The running Redis to use; None where the launcher starts its own."""
        if not (self.redis_url or self.redis_sentinels or self.redis_service):
            return None
        return RedisAddress(self.redis_url or "redis:///0", self.redis_sentinels, self.redis_service)
