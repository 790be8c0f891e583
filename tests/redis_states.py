"""Real servers that answer and do not serve, each in a way of its own; all of them recover."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from tests.redis_server import RedisServer

SPIN = "while true do end"


@contextmanager
def full(server: RedisServer) -> Iterator[None]:
    """OOM."""
    with Redis.from_url(server.url) as client:
        client.set("filler", bytes(20_000_000))
        client.config_set("maxmemory", client.info("memory")["used_memory"] - 10_000_000)
        yield
        client.config_set("maxmemory", 0)
        client.delete("filler")


@contextmanager
def without_replicas(server: RedisServer) -> Iterator[None]:
    """NOREPLICAS."""
    with Redis.from_url(server.url) as client:
        client.config_set("min-replicas-to-write", 1)
        yield
        client.config_set("min-replicas-to-write", 0)


@contextmanager
def read_only(server: RedisServer) -> Iterator[None]:
    """READONLY."""
    with Redis.from_url(server.url) as client:
        client.replicaof("127.0.0.1", 1)
        yield
        client.replicaof("no", "one")


@contextmanager
def without_master(server: RedisServer) -> Iterator[None]:
    """MASTERDOWN."""
    with Redis.from_url(server.url) as client:
        client.config_set("replica-serve-stale-data", "no")
        with read_only(server):
            yield
        client.config_set("replica-serve-stale-data", "yes")


@contextmanager
def unable_to_save(server: RedisServer) -> Iterator[None]:
    """MISCONF: a folder stands where the snapshot goes."""
    in_the_way: Path = server.folder / "dump.rdb" / "x"
    in_the_way.mkdir(parents=True)
    with Redis.from_url(server.url) as client:
        client.config_set("save", "3600 1000000")
        client.bgsave()
        while client.info("persistence")["rdb_last_bgsave_status"] == "ok":
            time.sleep(0.02)
        yield
        client.config_set("save", "")
    in_the_way.rmdir()
    in_the_way.parent.rmdir()


@contextmanager
def busy(server: RedisServer) -> Iterator[None]:
    """BUSY: a script does not end."""
    with Redis.from_url(server.url, socket_timeout=60) as spinning, Redis.from_url(server.url) as client:
        client.config_set("busy-reply-threshold", 1)
        script = threading.Thread(target=_spin, args=(spinning,), daemon=True)
        script.start()
        while not _refuses(client):
            time.sleep(0.02)
        yield
        client.script_kill()
        script.join()


@contextmanager
def forbidding(server: RedisServer) -> Iterator[None]:
    """NOPERM: the rights of the user have been taken away."""
    with Redis.from_url(server.url) as client:
        client.acl_setuser("operator", enabled=True, passwords="+secret", keys="*", channels="*", categories=["+@all"])
    address = server.url.replace("://", "://operator:secret@")
    with Redis.from_url(address) as operator:
        operator.acl_setuser("default", enabled=True, nopass=True, keys="*", channels="*", categories=["-@all"])
        yield
        operator.acl_setuser("default", enabled=True, nopass=True, keys="*", channels="*", categories=["+@all"])
        operator.acl_deluser("operator")


STATES: dict[str, Callable[[RedisServer], AbstractContextManager[None]]] = {
    "OOM": full,
    "NOREPLICAS": without_replicas,
    "READONLY": read_only,
    "MASTERDOWN": without_master,
    "MISCONF": unable_to_save,
    "BUSY": busy,
    "NOPERM": forbidding,
}

EACH_STATE = pytest.mark.parametrize("state", list(STATES))


def _spin(client: Redis) -> None:
    with suppress(RedisError):  # it is killed
        client.eval(SPIN, 0)


def _refuses(client: Redis) -> bool:
    try:
        client.get("a")
    except RedisError as error:
        return "BUSY" in str(error)
    return False
