"""The API's settings, read once at its start from ``INFILL_*`` and passed down."""

from pydantic import Field

from jobs.settings import QueueSettings

MIB = 2**20
PILLOW_LIMIT_PX = 89_000_000
"""Above this Pillow itself warns of a decompression bomb."""


class ApiSettings(QueueSettings):
    """Where the API listens, and what it takes."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65_535, description="port to listen on; 0 takes a free one")
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")
    max_image_bytes: int = Field(32 * MIB, ge=1, description="size of the image file; more is answered 413")
    max_mask_bytes: int = Field(32 * MIB, ge=1, description="size of the mask file; more is answered 413")
    max_pixels: int = Field(
        40_000_000, ge=1, le=PILLOW_LIMIT_PX, description="width times height of an upload; more is answered 413"
    )
    decode_threads: int = Field(2, ge=1, le=64, description="processes that decode uploads")
    decode_cpu_s: float = Field(10.0, gt=0, description="processor time that decoding a file may take")
    decode_wait_s: float = Field(10.0, gt=0, description="longest wait for a free decoder; then 503 decoders_busy")
    max_wait_s: int = Field(60, ge=0, description="longest time that Prefer: wait holds a call")
    max_stream_s: float = Field(3600.0, gt=0, description="longest time that an event stream is held")
    poll_s: float = Field(1.0, gt=0, description="how often a held call looks at its job, should a notice be lost")

    @property
    def max_body_bytes(self) -> int:
        """Both files, with room for the fields and the multipart framing."""
        return self.max_image_bytes + self.max_mask_bytes + MIB
