"""``infill keys``: make, list and revoke the API keys of a running service."""

import fcntl
import re
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from redis.exceptions import RedisError

from jobs.api_keys import ApiKeys, Scope
from jobs.connection import RedisAddress, connect_api
from jobs.errors import InfillError
from launch.errors import LaunchError
from launch.settings import LaunchSettings

T = TypeVar("T")

_SOCKET = re.compile(r'^unixsocket "?([^"\n]+)"?$', re.MULTILINE)


def keys(settings: LaunchSettings, options: Namespace, say: Callable[[str], None]) -> int:
    """Run ``create``, ``list`` or ``revoke``; returns the exit status. Raises LaunchError."""
    match options.action:
        case "create":
            return create(settings, say, options.tenant, options.scope or ["submit", "read"])
        case "revoke":
            return revoke(settings, say, options.id)
        case _:
            return show(settings, say)


def create(settings: LaunchSettings, say: Callable[[str], None], tenant: str, scopes: Sequence[Scope]) -> int:
    """Print a new key, alone on a line, so that a script can take it. Raises LaunchError."""
    text, _ = _ask(settings, lambda keys: keys.create(tenant, scopes))
    say(text)
    return 0


def show(settings: LaunchSettings, say: Callable[[str], None]) -> int:
    """Print all keys but for their secrets."""
    found = _ask(settings, lambda keys: keys.list())
    say(f"{'id':<12}  {'made (UTC)':<16}  {'scopes':<17}  tenant" if found else "There are no keys.")
    for key in found:
        say(f"{key.id}  {key.created_at:%Y-%m-%d %H:%M}  {','.join(key.scopes):<17}  {key.tenant}")
    return 0


def revoke(settings: LaunchSettings, say: Callable[[str], None], key_id: str) -> int:
    """Remove a key. Raises LaunchError where there is none of that id."""
    if not _ask(settings, lambda keys: keys.revoke(key_id)):
        raise LaunchError(f"There is no key {key_id!r}. `infill keys list` shows them.")
    say(f"revoked {key_id}")
    return 0


def _ask(settings: LaunchSettings, question: Callable[[ApiKeys], T]) -> T:
    address = settings.redis or _running(settings.var_dir)
    try:
        with connect_api(address) as connection:
            return question(ApiKeys(connection))
    except InfillError as error:
        raise LaunchError(str(error)) from None
    except (RedisError, OSError, ValueError) as error:
        raise LaunchError(f"Redis at {address} does not answer ({type(error).__name__}).") from error


def _running(var_dir: Path) -> RedisAddress:
    """The Redis of the one ``infill up`` that runs with this ``var_dir``. Raises LaunchError."""
    found = [path for path in sorted(var_dir.glob("up-*")) if _is_held(path / "lock")]
    sockets = [match[1] for path in found if (match := _SOCKET.search((path / "redis.conf").read_text()))]
    if len(sockets) != 1:
        several = f"{len(sockets)} run" if sockets else "none runs"
        raise LaunchError(
            f"infill keys needs the service's Redis: name it in INFILL_REDIS_URL, or have one `infill up` running with "
            f"its folder under {var_dir} ({several})."
        )
    return RedisAddress(f"unix://{sockets[0]}?db=0")


def _is_held(lock: Path) -> bool:
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
