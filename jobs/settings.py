"""Settings that both sides must agree on. Each process reads them once, at its start, from ``INFILL_*``."""

import base64
import binascii

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from jobs.addresses import Hosts
from jobs.connection import RedisAddress
from jobs.logs import Format, Level


class QueueSettings(BaseSettings):
    """Where Redis is, and how long things live in it. All lifetimes are in seconds."""

    model_config = SettingsConfigDict(env_prefix="INFILL_", frozen=True, extra="ignore")

    redis_url: str = Field("redis://127.0.0.1:6379/0", description="Redis or Valkey, 6.2 or newer")
    redis_sentinels: str | None = Field(None, description="host:port,host:port of the sentinels; none: redis_url")
    redis_service: str | None = Field(None, description="name of the master that the sentinels watch")
    queue_name: str = Field("inpaint", description="name of the RQ queue")
    log_level: Level = Field("INFO", description="DEBUG, INFO, WARNING or ERROR; libraries' lines from WARNING on")
    log_format: Format = Field("json", description="json: an object a line; text: for a terminal")
    catalog: str | None = Field(None, description="TOML file of models; without one, the catalog that ships")
    lora_dir: str | None = Field(None, description="folder of .safetensors adapters for loras; none: there are none")
    root_path: str = Field(
        "", pattern=r"^(/[A-Za-z0-9._~-]+)*$", description="path under which a proxy serves the API, as /infill"
    )
    queue_limit: int = Field(256, ge=1, description="jobs that may wait; the next one is answered 429")
    low_priority_share: float = Field(
        0.5, gt=0, le=1, description="of low-priority jobs: places beside queue_limit, and of pictures' memory"
    )
    caller_share: float = Field(0.95, gt=0, le=1, description="share of a limit that one caller alone can take up")
    caller_jobs: int = Field(0, ge=0, description="jobs of one caller that may wait and run at a time; 0: any number")
    caller_megapixels_per_day: int = Field(
        0, ge=0, description="width x height x n that one caller may ask for in a day (UTC), in millions; 0: any number"
    )
    job_deadline_s: int = Field(300, ge=1, description="a job that runs longer fails with deadline_exceeded")
    max_attempts: int = Field(5, ge=2, description="tries of a job whose worker died, the first included")
    input_ttl_s: int = Field(86_400, ge=1, description="lifetime of uploads whose job has not ended")
    result_ttl_s: int = Field(3_600, ge=1, description="lifetime of result images")
    record_ttl_s: int = Field(86_400, ge=1, description="lifetime of an ended job's record and of idempotency keys")
    output_hosts: str | None = Field(
        None, description="hosts, with commas between, that output_url and webhook_url may name; none: no address"
    )
    webhook_secret: SecretStr | None = Field(
        None, description="signs webhooks: whsec_ and base64 of 24 to 64 random bytes; none: there are no webhooks"
    )
    memory_share: float = Field(0.8, gt=0, le=1, description="share of Redis' maxmemory that pictures may fill")

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("output_hosts")
    @classmethod
    def _are_hosts(cls, value: str | None) -> str | None:
        Hosts(value)
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _is_long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        try:
            length = len(base64.b64decode(value.get_secret_value().removeprefix("whsec_"), validate=True))
        except (binascii.Error, ValueError):
            length = 0
        if not 24 <= length <= 64:
            raise ValueError("write whsec_ and base64 of 24 to 64 random bytes")
        return value

    @property
    def low_priority_limit(self) -> int:
        """Jobs of low priority that may wait, beside ``queue_limit`` others."""
        return max(1, int(self.low_priority_share * self.queue_limit))

    @property
    def redis(self) -> RedisAddress:
        return RedisAddress(self.redis_url, self.redis_sentinels, self.redis_service)
