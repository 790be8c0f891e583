"""What the address of Redis may look like. That the clients work is shown with real servers, in ``tests/e2e``."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.connection import SSLConnection
from redis.exceptions import ExecAbortError, RedisError

from jobs.connection import SentinelService, connect_api, connect_worker, is_away, is_full
from tests.redis_server import RedisServer, free_port
from tests.redis_states import EACH_STATE, STATES


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


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("states")) as server:
        yield server


@EACH_STATE
def test_a_redis_that_does_not_serve_now_is_away_whichever_way_it_is_asked(own_server: RedisServer, state: str) -> None:
    with Redis.from_url(own_server.url) as client:
        several = client.pipeline().set("a", 1).set("b", 1)
        one_by_one = client.pipeline(transaction=False).set("a", 1)
        asked: list[Callable[[], object]] = [lambda: client.set("a", 1), several.execute, one_by_one.execute]
        with STATES[state](own_server):
            errors = [error_of(call) for call in asked]
        assert client.set("a", 1)
    assert all(map(is_away, errors)) and [is_full(error) for error in errors] == [state == "OOM"] * 3


def test_what_exec_says_of_a_transaction_that_was_refused_as_a_whole_is_read_too(own_server: RedisServer) -> None:
    with Redis.from_url(own_server.url) as client, client.pipeline() as pipeline:
        pipeline.watch("a")
        pipeline.multi()
        pipeline.connection.send_command("MULTI")  # type: ignore[union-attr]
        pipeline.connection.read_response()  # type: ignore[union-attr]
        pipeline.connection.send_command("SET", "a", "1")  # type: ignore[union-attr]
        pipeline.connection.read_response()  # type: ignore[union-attr]
        with STATES["OOM"](own_server):
            pipeline.connection.send_command("EXEC")  # type: ignore[union-attr]
            error = error_of(pipeline.connection.read_response)  # type: ignore[union-attr]
    assert isinstance(error, ExecAbortError) and is_away(error) and is_full(error)


def test_a_cluster_that_is_down_is_away(tmp_path: Path) -> None:
    options = {"cluster-enabled": "yes", "cluster-port": free_port()}
    with RedisServer(tmp_path, options=options) as server, Redis.from_url(server.url) as client:
        assert is_away(error_of(lambda: client.set("a", 1)))


def test_a_redis_that_nobody_reaches_is_away_and_one_that_refuses_a_command_is_not(
    tmp_path: Path, connection: Redis
) -> None:
    connection.set("a", 1)
    assert not is_away(error_of(lambda: connection.lpush("a", 1)))
    with RedisServer(tmp_path) as server:
        pass
    assert is_away(error_of(lambda: connect_api(server.url).ping()))
    assert not is_away(ValueError("NOREPLICAS"))


def error_of(call: Callable[[], object]) -> RedisError:
    with pytest.raises(RedisError) as raised:
        call()
    return raised.value
