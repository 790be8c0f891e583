"""What the address of Redis may look like. That the clients work is shown with real servers, in ``tests/e2e``."""

from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis
from redis.connection import SSLConnection
from redis.exceptions import RedisError

from jobs.connection import SentinelService, connect_api, connect_worker, is_away
from tests.redis_server import RedisServer


def test_a_sentinel_url_names_the_sentinels_the_service_and_the_database() -> None:
    service = SentinelService.parse("redis+sentinel://one,two:5000,[::1]:26380/main/3")
    assert service.sentinels == [("one", 26379), ("two", 5000), ("::1", 26380)]
    assert (service.name, service.options) == ("main", {"db": 3})


def test_the_login_is_for_redis_and_the_sentinels_have_their_own() -> None:
    url = "redis+sentinel://app:p%40ss@one/main?sentinel_username=s&sentinel_password=q%2Fr"
    service = SentinelService.parse(url)
    assert service.options == {"username": "app", "password": "p@ss"}
    assert (service.asking["username"], service.asking["password"]) == ("s", "q/r")


def test_tls_and_its_options_are_for_redis_and_the_sentinels() -> None:
    service = SentinelService.parse("rediss+sentinel://one/main?ssl_ca_certs=/ca.pem&health_check_interval=7")
    assert service.options == {"ssl": True, "ssl_ca_certs": "/ca.pem", "health_check_interval": 7}
    assert service.asking["ssl"] is True and service.asking["ssl_ca_certs"] == "/ca.pem"
    assert "health_check_interval" not in service.asking


def test_options_of_the_url_come_before_ours() -> None:
    url = "redis+sentinel://one/main?socket_timeout=9"
    assert connect_api(url).connection_pool.connection_kwargs["socket_timeout"] == 9


@pytest.mark.parametrize("connect", [connect_api, connect_worker])
def test_tls_options_of_a_plain_url_reach_the_connection(connect: type) -> None:
    pool = connect("rediss://:secret@host:6380/2?ssl_ca_certs=/ca.pem&ssl_check_hostname=no").connection_pool
    assert pool.connection_class is SSLConnection
    given = {name: pool.connection_kwargs[name] for name in ("password", "db", "ssl_ca_certs", "ssl_check_hostname")}
    assert given == {"password": "secret", "db": 2, "ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False}


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://u:secret@one",
        "redis+sentinel://u:secret@one/",
        "redis+sentinel://u:secret@/main",
        "redis+sentinel://u:secret@one,/main",
        "redis+sentinel://u:secret@one:port/main",
        "redis+sentinel://u:secret@one/main/db",
        "http://u:secret@one",
        "sentinel+redis://u:secret@one/main",
    ],
)
def test_an_address_that_cannot_be_used_stops_the_start_without_showing_the_password(url: str) -> None:
    with pytest.raises(ValueError) as raised:
        connect_api(url)
    assert "secret" not in str(raised.value)


def test_a_redis_that_takes_no_writes_is_away_and_one_that_refuses_a_command_is_not(tmp_path: Path) -> None:
    options = {"min-replicas-to-write": 1}
    with RedisServer(tmp_path, options=options) as server, Redis.from_url(server.url) as client:
        assert is_away(error_of(lambda: client.set("a", 1)))
        assert is_away(error_of(client.pipeline().set("a", 1).execute))
        client.config_set("min-replicas-to-write", 0)
        client.set("a", 1)
        assert not is_away(error_of(lambda: client.lpush("a", 1)))
        client.replicaof("127.0.0.1", server.port)
        assert is_away(error_of(lambda: client.set("a", 1)))
    assert is_away(error_of(lambda: connect_api(server.url).ping()))
    assert not is_away(ValueError("NOREPLICAS"))


def error_of(call: Callable[[], object]) -> RedisError:
    with pytest.raises(RedisError) as raised:
        call()
    return raised.value
