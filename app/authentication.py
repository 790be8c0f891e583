"""Who calls, and what for: an API key where the service asks for one, else the address that the call comes from."""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, cast

import anyio.to_thread
from cachetools import TTLCache
from fastapi import Depends, Request, Security
from fastapi.params import Depends as DependsOn
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Scope as AsgiScope

from app.callers import NO_ADDRESS, address_of, normal_address
from app.cross_site import check_site
from app.settings import is_loopback
from jobs.api_keys import SCOPES, ApiKey, ApiKeys, Scope
from jobs.errors import Forbidden, Unauthorized

KNOWN_S = 1.0
"""How long a key that was looked up is taken as it was: a revoked one works for at most so long."""
KNOWN_KEYS = 4096

HEADERS = ("x-api-key", "api-key")
"""Ours, and the one of clients in Azure's form."""

HOW = "Send it as Authorization: Bearer KEY, or as X-API-Key: KEY."

bearer = HTTPBearer(auto_error=False, description="An API key, where the service asks for one.")
header = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same.")


@dataclass(frozen=True)
class Principal:
    """A caller. ``name`` stands for it in Redis: a digest, of its tenant or of its address."""

    name: str
    tenant: str | None
    scopes: tuple[Scope, ...]

    def check(self, scope: Scope) -> None:
        """Raise Forbidden without ``scope``."""
        if scope not in self.scopes:
            raise Forbidden(
                f"This needs an API key with the scope {scope!r}; yours has {', '.join(map(repr, self.scopes))}."
            )


class Authentication:
    """Finds the principal of a call.

    Args:
        keys: the keys that are known; None where the service asks for none.
        auth: the setting: with "auto", a server that asks for none serves this machine alone.
        origins: whose pages may call a server that asks for none.
    """

    def __init__(self, keys: ApiKeys | None, auth: str, origins: Sequence[str] = ()) -> None:
        self.keys = keys
        self.auth = auth
        self.origins = origins
        self._known: TTLCache[bytes, ApiKey | None] = TTLCache(KNOWN_KEYS, KNOWN_S)

    async def principal(self, request: Request) -> Principal:
        """Raises Unauthorized, Forbidden, and Redis' errors."""
        if self.keys is None:
            self._check_is_local(request.scope)
            check_site(request.method, request.headers, self.origins)
            return Principal(digest(address_of(request.scope)), None, SCOPES)
        text = key_in(request.headers)
        if text is None:
            raise Unauthorized(f"This service asks for an API key. {HOW}")
        hashed = hashlib.sha256(text.encode("utf-8", "replace")).digest()
        try:
            key = self._known[hashed]
        except KeyError:
            key = self._known[hashed] = await anyio.to_thread.run_sync(self.keys.find, text)
        if key is None:
            raise Unauthorized(f"The API key is not known, or was revoked. {HOW}")
        return Principal(digest(f"tenant {key.tenant}"), key.tenant, key.scopes)

    def _check_is_local(self, scope: AsgiScope) -> None:
        """Raise Unauthorized where "auto" was decided by INFILL_HOST and the server listens elsewhere all the same."""
        server = scope.get("server") or ("",)
        if self.auth == "auto" and normal_address(server[0]) != NO_ADDRESS and not is_loopback(server[0]):
            raise Unauthorized("This service takes calls from its own machine only. Ask its operator for access.")


def key_in(headers: Mapping[str, str]) -> str | None:
    """The one key that a call brings. Raises Unauthorized for several that differ, and for a scheme nobody knows."""
    found = {value for name in HEADERS if (value := headers.get(name, "").strip())}
    scheme, _, rest = headers.get("authorization", "").strip().partition(" ")
    rest = rest.strip()
    if scheme.lower() == "bearer" and rest:
        found.add(rest)
    elif scheme.lower() == "basic":
        if password := _password(rest):
            found.add(password)
    elif scheme and rest:
        raise Unauthorized(f"Authorization: the scheme {scheme[:50]!r} is not taken. {HOW}")
    if len(found) > 1:
        raise Unauthorized("The call brings several API keys that differ. Send one.")
    return found.pop() if found else None


def _password(credentials: str) -> str:
    """The key in Basic credentials (RFC 7617): the password, or the user where that is empty. "" for none."""
    try:
        text = base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise Unauthorized("Authorization: the Basic credentials are not base64 of user:password.") from None
    user, _, password = text.partition(":")
    return (password or user).strip()


def digest(text: str) -> str:
    """What stands for a caller in Redis."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


async def principal_of(request: Request) -> Principal:
    """The call's principal, found and counted once. Raises Unauthorized, Forbidden, RateLimited."""
    if getattr(request.state, "principal", None) is None:
        backend = request.app.state.backend
        principal = await backend.authentication.principal(request)
        if backend.rate_limit.limit:
            request.state.allowance = await anyio.to_thread.run_sync(backend.rate_limit.take, principal.name)
            request.state.allowance.check()
        request.state.principal = principal
    return cast(Principal, request.state.principal)


def needs(scope: Scope) -> DependsOn:
    """A dependency of a route or router: the caller has ``scope``. Raises Unauthorized, Forbidden."""

    async def check(
        request: Request,
        _bearer: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)],
        _header: Annotated[str | None, Security(header)],
    ) -> None:
        (await principal_of(request)).check(scope)

    return cast(DependsOn, Depends(check))


async def caller_of(request: Request) -> str:
    return (await principal_of(request)).name


Caller = Annotated[str, Depends(caller_of)]
"""What stands for the caller in Redis."""
