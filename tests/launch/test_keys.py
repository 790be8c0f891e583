"""``infill keys`` in the service's Redis, found by its address or by the folder of a running ``infill up``."""

from pathlib import Path

import pytest

from jobs.api_keys import ApiKeys
from jobs.connection import connect_api
from launch.cli import main
from launch.folder import claim
from launch.redis_server import RedisServer


@pytest.fixture
def named(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("INFILL_REDIS_URL", redis_url)
    return redis_url


def test_a_key_is_printed_alone_listed_without_its_secret_and_revoked(
    named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "create", "acme", "--scope", "read", "--scope", "admin"]) == 0
    key = capsys.readouterr().out.strip()
    with connect_api(named) as connection:
        record = ApiKeys(connection).find(key)
    assert record and (record.tenant, record.scopes) == ("acme", ("read", "admin"))
    assert main(["keys", "list"]) == 0
    listed = capsys.readouterr().out
    assert record.id in listed and "read,admin" in listed and key.rpartition("_")[2] not in listed
    assert main(["keys", "revoke", record.id]) == 0
    assert main(["keys", "revoke", record.id]) == 1
    assert "There is no key" in capsys.readouterr().err
    with connect_api(named) as connection:
        assert ApiKeys(connection).find(key) is None


def test_a_key_may_submit_and_read_unless_scopes_are_named(named: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["keys", "create", "acme"])
    with connect_api(named) as connection:
        record = ApiKeys(connection).find(capsys.readouterr().out.strip())
    assert record and record.scopes == ("submit", "read")


@pytest.mark.usefixtures("named")
def test_a_name_that_is_none_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "create", "a b"]) == 1
    assert capsys.readouterr().err.startswith("infill: tenant: 'a b' is no name of a tenant.")


def test_the_redis_of_a_running_infill_up_is_found_by_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INFILL_VAR_DIR", str(tmp_path))
    monkeypatch.delenv("INFILL_REDIS_URL", raising=False)
    assert main(["keys", "list"]) == 1
    assert "INFILL_REDIS_URL" in capsys.readouterr().err
    folder = claim(tmp_path, "up")
    server = RedisServer(folder, "64mb")
    try:
        server.start()
        server.wait(lambda: None, print)
        capsys.readouterr()
        assert main(["keys", "create", "acme"]) == 0
        with connect_api(server.url) as connection:
            assert ApiKeys(connection).find(capsys.readouterr().out.strip())
    finally:
        server.end(10)
        server.release()
        folder.release()
