"""Settings that both sides must agree on. Each process reads them once, at its start, from ``INFILL_*``."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class QueueSettings(BaseSettings):
    """Where Redis is, and how long things live in it. All lifetimes are in seconds."""

    model_config = SettingsConfigDict(env_prefix="INFILL_", frozen=True, extra="ignore")

    redis_url: str = Field("redis://127.0.0.1:6379/0", description="Redis or Valkey, 6.2 or newer")
    queue_name: str = Field("inpaint", description="name of the RQ queue")
    catalog: str | None = Field(None, description="TOML file of models; without one, the catalog that ships")
    lora_dir: str | None = Field(None, description="folder of .safetensors adapters for loras; none: there are none")
    queue_limit: int = Field(256, ge=1, description="jobs that may wait; the next one is answered 429")
    caller_share: float = Field(0.95, gt=0, le=1, description="share of a limit that one caller alone can take up")
    job_deadline_s: int = Field(300, ge=1, description="a job that runs longer fails with deadline_exceeded")
    max_attempts: int = Field(5, ge=2, description="tries of a job whose worker died, the first included")
    input_ttl_s: int = Field(86_400, ge=1, description="lifetime of uploads that no worker has settled")
    result_ttl_s: int = Field(3_600, ge=1, description="lifetime of result images")
    record_ttl_s: int = Field(86_400, ge=1, description="lifetime of an ended job's record and of idempotency keys")
    memory_share: float = Field(0.8, gt=0, le=1, description="share of Redis' maxmemory that pictures may fill")
