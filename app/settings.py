"""The API's settings, read once at its start from ``INFILL_*`` and passed down."""

import ipaddress
import math
from functools import cached_property
from typing import Self

from pydantic import Field, field_validator, model_validator

from jobs.settings import QueueSettings

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

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
    trusted_proxies: str | None = Field(
        None, description="addresses or networks, with commas between, whose X-Forwarded-For names the caller"
    )
    max_connections: int = Field(1000, ge=1, description="connections open at once; the next one is answered 503")
    client_timeout_s: float = Field(
        10.0, gt=0, description="time for a request's headers, and the stretch over which a body's rate is measured"
    )
    min_body_rate: int = Field(4096, ge=1, description="bytes a second of a body at least; else 408")
    body_timeout_s: float = Field(300.0, gt=0, description="longest time that a body takes to arrive; then 408")
    send_timeout_s: float = Field(60.0, gt=0, description="who reads nothing of an answer this long is cut off")
    max_inflight_bytes: int = Field(
        512 * MIB, ge=1, description="bytes of bodies held at once; a body beyond is answered 503"
    )

    @property
    def max_body_bytes(self) -> int:
        """Both files, with room for the fields and the multipart framing."""
        return self.max_image_bytes + self.max_mask_bytes + MIB

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str | None) -> str | None:
        for proxy in _split(value):
            ipaddress.ip_network(proxy)
        return value

    @model_validator(mode="after")
    def _one_body_fits(self) -> Self:
        needed = math.ceil(self.max_body_bytes / self.caller_share)
        if self.max_inflight_bytes < needed:
            raise ValueError(
                f"max_inflight_bytes: {self.max_inflight_bytes} hold not even one of the largest bodies; set at least "
                f"{needed} (max_image_bytes + max_mask_bytes + {MIB}, over caller_share)"
            )
        return self

    @property
    def proxies(self) -> list[str]:
        return _split(self.trusted_proxies)

    @cached_property
    def _networks(self) -> tuple[Network, ...]:
        return tuple(ipaddress.ip_network(proxy) for proxy in self.proxies)

    def trusts(self, address: str) -> bool:
        """Whether connections from ``address`` are a trusted proxy's."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._networks)


def _split(value: str | None) -> list[str]:
    return [part.strip() for part in (value or "").split(",") if part.strip()]
