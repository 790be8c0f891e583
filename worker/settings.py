"""Settings of a worker process, read once from ``INFILL_*``."""

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from jobs.settings import QueueSettings


class WorkerSettings(QueueSettings):
    """Seats, leases and the device. Times are in seconds."""

    worker_name: str | None = Field(None, description="name of this worker in Redis; random when absent")
    seats: int = Field(8, ge=1, description="jobs in the running batch at once")
    max_rows: int = Field(16, ge=1, description="images in one forward pass at most")
    device: str = Field(
        "auto",
        description='"auto" (cuda where there is one), "cpu", "cuda", "cuda:1", ...',
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description='"auto": bfloat16 on a GPU (float16 before capability 8.0), float32 on a CPU'
    )
    model_budget_bytes: int = Field(0, ge=0, description="bytes of weights loaded at once at most; 0: no limit")
    lora_budget_bytes: int = Field(2**30, ge=0, description="bytes of loaded adapters at most, but for those in use")
    encoding_budget_bytes: int = Field(
        2**28, ge=0, description="bytes of encoded prompts and pictures that each loaded model keeps at most; 0: none"
    )
    load_limit_s: float = Field(900.0, gt=0, description="a worker that takes longer to load a model ends itself")
    offload: Literal["none", "model", "sequential"] = Field(
        "none", description="weights wait in main memory: a network at a time, or a layer at a time; needs a GPU"
    )
    vae_tiling: bool = Field(False, description="the VAE works tile by tile: large pictures in little memory")
    vae_slicing: bool = Field(False, description="the VAE works image by image: n > 1 in little memory")
    compile: bool = Field(
        False, description="networks and VAE decoders are compiled at the start, for fixed sizes; no adapters then"
    )
    torch_threads: int = Field(0, ge=0, description="CPU threads of torch; 0 leaves torch's own choice")
    codec_threads: int = Field(2, ge=1, description="threads that decode uploads and encode results beside the loop")
    marking: bool = Field(True, description="results say in XMP that a model has changed them")
    c2pa_certificates: str | None = Field(
        None, description="PEM file of the certificates that results are signed with, the signer's own first"
    )
    c2pa_key: SecretStr | None = Field(None, description="PEM file of the first certificate's private key")
    lease_s: int = Field(10, ge=3, description="a job whose worker is silent this long is given to another")
    beat_s: float = Field(2.0, gt=0, description="time between heartbeats; at least three fit into a lease")
    stall_s: float = Field(120.0, gt=0, description="a worker that passes no step boundary this long ends itself")
    grace_s: float = Field(60.0, ge=0, description="time a worker that was asked to stop has to finish its jobs")
    result_patience_s: float = Field(
        60.0, ge=0, description="time that a result without room in Redis is kept and tried again; then its job fails"
    )
    maintenance_s: int = Field(2, ge=1, description="time between looks for jobs of dead workers")
    metrics_host: str = Field("127.0.0.1", description="address the worker's own /metrics listens on")
    metrics_port: int = Field(0, ge=0, le=65535, description="port of the worker's own /metrics; 0: none")

    @model_validator(mode="after")
    def _has_both_or_neither(self) -> Self:
        if (self.c2pa_certificates is None) != (self.c2pa_key is None):
            named, missing = ("CERTIFICATES", "KEY") if self.c2pa_key is None else ("KEY", "CERTIFICATES")
            raise ValueError(f"INFILL_C2PA_{named} is set without INFILL_C2PA_{missing}: set both, or neither.")
        return self
