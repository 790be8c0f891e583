"""API keys: who may call, and what for. Redis holds digests; the key itself is shown once, when it is made.

A key is ``infill_<id>_<secret>``: the id finds the record in one step, the secret of 256 random bits is compared by its
SHA-256 digest in constant time. A slow password hash would protect nothing: such a secret cannot be guessed.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal, cast, get_args

from pydantic import Field, StringConstraints
from redis import Redis

from jobs import keys
from jobs.errors import InvalidField
from jobs.schema import Record

Scope = Literal["submit", "read", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

Tenant = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]

_KEY = re.compile(r"infill_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class ApiKey(Record):
    """What is known of a key, but for its secret. Several keys may belong to one tenant."""

    id: str
    tenant: Tenant = Field(description="Whose key it is: letters, digits, '.', '_' and '-', at most 64.")
    scopes: tuple[Scope, ...] = Field(min_length=1)
    created_at: datetime
    digest: str = Field(description="SHA-256 of the secret, in hexadecimal.")


class ApiKeys:
    """The keys of one service, in a hash in Redis: they are made and revoked while it runs."""

    def __init__(self, connection: Redis) -> None:
        self.connection = connection

    def create(self, tenant: str, scopes: Sequence[Scope] = ("submit", "read")) -> tuple[str, ApiKey]:
        """Make a key. Returns its text, which is nowhere else, and its record. Raises InvalidField."""
        if unknown := sorted(set(scopes) - set(SCOPES)):
            raise InvalidField(f"scopes: there is no {', '.join(unknown)}. The scopes are {', '.join(SCOPES)}.")
        key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        try:
            record = ApiKey(
                id=key_id,
                tenant=tenant,
                scopes=tuple(scope for scope in SCOPES if scope in scopes),
                created_at=datetime.now(UTC),
                digest=_digest(secret),
            )
        except ValueError:
            raise InvalidField(
                f"tenant: {tenant[:100]!r} is no name of a tenant. Use letters, digits, '.', '_' and '-', at most 64, "
                "with a letter or digit first; and name one scope at least."
            ) from None
        self.connection.hset(keys.API_KEYS, key_id, record.model_dump_json())
        return f"infill_{key_id}_{secret}", record

    def list(self) -> list[ApiKey]:
        """All keys, the oldest first."""
        found = cast("dict[bytes, bytes]", self.connection.hgetall(keys.API_KEYS))
        return sorted((ApiKey.model_validate_json(raw) for raw in found.values()), key=lambda key: key.created_at)

    def revoke(self, key_id: str) -> bool:
        """Remove a key by its id, or by its text. Returns whether there was one."""
        whole = _KEY.fullmatch(key_id)
        return bool(self.connection.hdel(keys.API_KEYS, whole.group(1) if whole else key_id))

    def exist(self) -> bool:
        """Whether there is any key."""
        return bool(self.connection.exists(keys.API_KEYS))

    def find(self, text: str) -> ApiKey | None:
        """The record of a key that a caller has sent; None for one that is unknown, revoked or malformed."""
        parts = _KEY.fullmatch(text)
        if not parts:
            return None
        raw = cast("bytes | None", self.connection.hget(keys.API_KEYS, parts.group(1)))
        if raw is None:
            return None
        record = ApiKey.model_validate_json(raw)
        return record if hmac.compare_digest(record.digest, _digest(parts.group(2))) else None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
