"""The launcher's settings: read once from ``INFILL_*``; the command line overrides them."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

CHECKOUT = Path(__file__).resolve().parent.parent


class LaunchSettings(BaseSettings):
    """Where to listen, how many workers, which Redis, how long to wait."""

    model_config = SettingsConfigDict(env_prefix="INFILL_", frozen=True, extra="ignore", env_ignore_empty=True)

    redis_url: str | None = Field(None, description="a running Redis to use; without one, the launcher starts its own")
    redis_maxmemory: str = Field("1gb", description="memory limit of the Redis that the launcher starts")
    queue_name: str = Field("inpaint", description="name of the RQ queue")
    host: str = Field("127.0.0.1", description="address the API listens on")
    port: int = Field(8000, ge=1, le=65_535, description="port of the API; the next free one where it is taken")
    workers: int = Field(1, ge=1, le=64, description="worker processes")
    metrics_port: int = Field(
        0, ge=0, le=65_000, description="port of worker-1's /metrics, worker-2's is one above; 0: none"
    )
    var_dir: Path = Field(CHECKOUT / "var", description="folder for the launcher's Redis data and its logs")
    demo_dir: Path = Field(CHECKOUT / "demo", description="folder with photo.png and mask.png; gets the demo's results")
    ready_timeout_s: float = Field(180.0, gt=0, description="time that API and workers have to become ready")
    drain_timeout_s: float = Field(90.0, gt=0, description="time after which a worker that still drains is killed")
