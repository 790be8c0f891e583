"""What the address of Redis may look like. That the clients work is shown with real servers, in ``tests/e2e``."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.connection import SSLConnection
from redis.exceptions import ExecAbortError, RedisError

from jobs.connection import RedisAddress, SentinelService, connect_api, connect_worker, is_away, is_full
from tests.redis_server import RedisServer, free_port
from tests.redis_states import EACH_STATE, STATES


def service(url: str = "redis:///0", sentinels: str = "one", name: str = "main") -> SentinelService:
    return SentinelService.of(RedisAddress(url, sentinels, name))


def test_two_settings_name_the_sentinels_and_the_service_and_the_url_the_database() -> None:
    found = service("redis://unused:6379/3", "one,two:5000, [::1]:26380")
    assert found.sentinels == [("one", 26379), ("two", 5000), ("::1", 26380)]
    assert (found.name, found.options) == ("main", {"db": 3})


def test_the_login_is_for_redis_and_the_sentinels_have_their_own() -> None:
    found = service("redis://app:p%40ss@/0?sentinel_username=s&sentinel_password=q%2Fr")
    assert found.options == {"username": "app", "password": "p@ss", "db": 0}
    assert (found.asking["username"], found.asking["password"]) == ("s", "q/r")


def test_tls_and_its_options_are_for_redis_and_the_sentinels() -> None:
    found = service("rediss://?ssl_ca_certs=/ca.pem&health_check_interval=7")
    assert found.options == {"ssl": True, "ssl_ca_certs": "/ca.pem", "health_check_interval": 7}
    assert found.asking["ssl"] is True and found.asking["ssl_ca_certs"] == "/ca.pem"
    assert "health_check_interval" not in found.asking


def test_options_of_the_url_come_before_ours() -> None:
    address = RedisAddress("redis:///0?socket_timeout=9", "one", "main")
    assert connect_api(address).connection_pool.connection_kwargs["socket_timeout"] == 9


def test_empty_settings_are_as_good_as_none() -> None:
    assert connect_api(RedisAddress("redis://host/2", "", "")).connection_pool.connection_kwargs["host"] == "host"


def test_an_address_is_shown_without_what_may_be_secret() -> None:
    url = "rediss://u:secret@host:6380/2?ssl_keyfile=/key"
    assert str(RedisAddress(url)) == "rediss://host:6380/2"
    assert str(RedisAddress(url, "one,two", "main")) == "service main of one,two"


@pytest.mark.parametrize("connect", [connect_api, connect_worker])
def test_tls_options_of_a_plain_url_reach_the_connection(connect: type) -> None:
    pool = connect("rediss://:secret@host:6380/2?ssl_ca_certs=/ca.pem&ssl_check_hostname=no").connection_pool
    assert pool.connection_class is SSLConnection
    given = {name: pool.connection_kwargs[name] for name in ("password", "db", "ssl_ca_certs", "ssl_check_hostname")}
    assert given == {"password": "secret", "db": 2, "ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False}


LOGIN = "redis://u:secret@/0"


@pytest.mark.parametrize(
    ("address", "named"),
    [
        (RedisAddress(LOGIN, "one", None), "INFILL_REDIS_SERVICE"),
        (RedisAddress(LOGIN, "one", ""), "INFILL_REDIS_SERVICE"),
        (RedisAddress(LOGIN, None, "main"), "INFILL_REDIS_SENTINELS"),
        (RedisAddress(LOGIN, "one,", "main"), "INFILL_REDIS_SENTINELS"),
        (RedisAddress(LOGIN, "one:port", "main"), "INFILL_REDIS_SENTINELS"),
        (RedisAddress(LOGIN, "one:99999", "main"), "INFILL_REDIS_SENTINELS"),
        (RedisAddress(LOGIN, "one two", "main"), "INFILL_REDIS_SENTINELS"),
        (RedisAddress(LOGIN, "redis://u:secret@one:26379", "main"), "INFILL_REDIS_SENTINELS"),
        (RedisAddress(LOGIN, "u:secret@one:26379", "main"), "INFILL_REDIS_SENTINELS"),
        (RedisAddress("unix://u:secret@/run/redis.sock", "one", "main"), "INFILL_REDIS_URL"),
        (RedisAddress("redis+sentinel://u:secret@one/main"), "INFILL_REDIS_SENTINELS=.*INFILL_REDIS_SERVICE="),
        (RedisAddress("rediss+sentinel://u:secret@one/main"), "INFILL_REDIS_SENTINELS=.*INFILL_REDIS_SERVICE="),
        (RedisAddress("http://u:secret@one"), "Redis URL"),
        (RedisAddress("sentinel+redis://u:secret@one/main"), "Redis URL"),
    ],
    ids=str,
)
def test_an_address_that_cannot_be_used_stops_the_start_without_showing_the_password(
    address: RedisAddress, named: str
) -> None:
    with pytest.raises(ValueError, match=named) as raised:
        connect_api(address)
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
        pipeline.connection.send_command("MULTI")
        pipeline.connection.read_response()
        pipeline.connection.send_command("SET", "a", "1")
        pipeline.connection.read_response()
        with STATES["OOM"](own_server):
            pipeline.connection.send_command("EXEC")
            error = error_of(pipeline.connection.read_response)
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


@pytest.mark.skipif(sys.platform != "linux", reason="measured through /proc")
def test_what_the_api_sends_is_not_copied(redis_url: str) -> None:
    upload = bytes(8_000_000)
    with connect_api(redis_url) as client:
        client.ping()
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        with client.pipeline(transaction=False) as pipeline:
            pipeline.set("image", upload).set("mask", upload)
            pipeline.execute()
        assert resident("VmHWM") - before < len(upload) / 4
        assert client.get("image") == upload


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
