"""The API's settings, read once at its start from ``INFILL_*`` and passed down."""

import ipaddress
import math
import re
from functools import cached_property
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from jobs.addresses import Hosts
from jobs.settings import QueueSettings

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MIB = 2**20
ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?")
"""As browsers send it (RFC 6454, 6.2): in lower case, without a default port."""
OWN_PATHS = {"controlnet", "docs", "healthz", "images", "internal", "metrics", "openai", "openapi.json"} | {
    *("page", "problems", "readyz", "redoc", "sdapi", "static-offline-docs", "v1")
}
"""How the API's own paths begin."""
PILLOW_LIMIT_PX = 89_000_000
"""Above this Pillow itself warns of a decompression bomb."""


class ApiSettings(QueueSettings):
    """Where the API listens, and what it takes."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65_535, description="port to listen on; 0 takes a free one")
    auth: Literal["auto", "on", "off"] = Field(
        "auto", description="whether callers need an API key; auto: where host is not this machine alone"
    )
    calls_per_minute: int = Field(
        0, ge=0, description="calls that a tenant, or without keys an address, may make in a minute; 0: any number"
    )
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
    input_hosts: str | None = Field(
        None, description="hosts, with commas between, that image_url and mask_url may name; none: no address"
    )
    batch_bytes: int = Field(64 * MIB, ge=1, description="size of a batch's lines; more is answered 413")
    batch_lines: int = Field(10_000, ge=1, le=100_000, description="lines of a batch")
    batch_jobs: int = Field(32, ge=1, le=1000, description="jobs of one batch that wait and run at a time")
    batch_ttl_s: int = Field(
        7 * 86_400,
        ge=60,
        description="time that a batch may take; then lines without a job expire, others are canceled",
    )
    caller_batches: int = Field(10, ge=1, description="batches of one caller that have not ended")
    trusted_proxies: str | None = Field(
        None, description="addresses or networks, with commas between, whose X-Forwarded-For names the caller"
    )
    cors_origins: str | None = Field(
        None, description="origins (scheme://host:port), with commas between, whose pages may call; none: no other page"
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
        """Both files in base64 with a few characters escaped, with room for the fields and the framing."""
        return 3 * (self.max_image_bytes + self.max_mask_bytes) // 2 + MIB

    @property
    def max_batch_body_bytes(self) -> int:
        """With room for a form's framing."""
        return self.batch_bytes + MIB

    @field_validator("root_path")
    @classmethod
    def _is_not_our_own(cls, value: str) -> str:
        """Below such a path nobody could tell a path that the proxy has passed on from one that it has stripped."""
        if value.split("/")[1:2] and value.split("/")[1] in OWN_PATHS:
            raise ValueError(f"root_path: {value!r} begins as paths of the API itself do; take another, as /infill/v1")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str | None) -> str | None:
        for proxy in _split(value):
            ipaddress.ip_network(proxy)
        return value

    @field_validator("input_hosts")
    @classmethod
    def _are_input_hosts(cls, value: str | None) -> str | None:
        Hosts(value)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: str | None) -> str | None:
        for origin in _split(value):
            if not ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin: write it as https://app.example.com, without a path")
        return value

    @model_validator(mode="after")
    def _one_body_fits(self) -> Self:
        needed = math.ceil(max(self.max_body_bytes, self.max_batch_body_bytes) / self.caller_share)
        if self.max_inflight_bytes < needed:
            raise ValueError(
                f"INFILL_MAX_INFLIGHT_BYTES: {self.max_inflight_bytes} hold not even one of the largest bodies; set at "
                f"least {needed} (1.5 times max_image_bytes + max_mask_bytes, or batch_bytes, and {MIB}, over "
                "caller_share)"
            )
        return self

    @property
    def asks_for_keys(self) -> bool:
        """Whether each call needs an API key."""
        return self.auth == "on" or (self.auth == "auto" and not is_loopback(self.host))

    @property
    def origins(self) -> list[str]:
        return _split(self.cors_origins)

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


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _split(value: str | None) -> list[str]:
    return [part.strip() for part in (value or "").split(",") if part.strip()]
