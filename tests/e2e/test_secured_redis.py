"""Redis with a password, and Redis over TLS, by ``INFILL_REDIS_URL`` alone."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stack import Stack, submit
from tests.programs import program
from tests.redis_server import RedisServer, free_port

CHEAP: dict[str, Any] = {"num_inference_steps": 1}


@dataclass
class Secured:
    server: RedisServer
    refused: dict[str, str]
    """URLs of the same server that it must not let in, by what is wrong with them."""


def with_password(folder: Path) -> Secured:
    """A server that lets nobody in without a login; the password has characters that a URL must escape."""
    server = RedisServer(
        folder, append_only=True, url="redis://:p%40ss%2Fword@127.0.0.1:{port}/0", options={"requirepass": "p@ss/word"}
    )
    bare = server.url.rpartition("@")[2]
    refused = {"no password": f"redis://{bare}", "wrong password": f"redis://:guess@{bare}"}
    return Secured(server, refused)


def over_tls(folder: Path) -> Secured:
    """A server with a certificate of a CA of our own, which speaks nothing but TLS and asks for a password too."""
    redis_server, openssl = program("redis-server"), program("openssl")
    folder.mkdir(parents=True, exist_ok=True)
    make_certificates(openssl, folder)
    port = free_port()
    server = RedisServer(
        folder,
        port,
        append_only=True,
        program=redis_server,
        url=f"rediss://:secret@127.0.0.1:{{port}}/0?ssl_ca_certs={folder}/ca.pem",
        options={
            "port": 0,
            "tls-port": port,
            "tls-cert-file": folder / "server.pem",
            "tls-key-file": folder / "server.key",
            "tls-ca-cert-file": folder / "ca.pem",
            "tls-auth-clients": "no",
            "requirepass": "secret",
        },
    )
    bare, _, _ = server.url.partition("?")
    return Secured(server, {"unknown CA": bare, "no TLS": bare.replace("rediss", "redis")})


def make_certificates(openssl: str, folder: Path) -> None:
    """``ca.pem``, and ``server.pem`` for 127.0.0.1 signed by it."""
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1")
    new = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    for command in (
        f"{new} -x509 -subj /CN=test-ca -days 2 -keyout ca.key -out ca.pem",
        f"{new} -subj /CN=redis -keyout server.key -out server.csr",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile san -days 2 -out server.pem",
    ):
        subprocess.run([openssl, *command.split()], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module", params=[with_password, over_tls], ids=["password", "tls"])
def secured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    make: Callable[[Path], Secured] = request.param
    made = make(tmp_path_factory.mktemp("secured-redis"))
    with made.server:
        yield made


@pytest.fixture(scope="module")
def stack(secured: Secured, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Calls that wait do not look by themselves: they depend on the notices that come over the event loop's client."""
    with Stack(secured.server.url, tmp_path_factory.mktemp("secured"), INFILL_POLL_S="50") as made:
        made.start_worker()
        made.start_api()
        made.wait_until_ready()
        yield made


def test_a_job_runs_and_its_end_is_noticed_at_once(stack: Stack) -> None:
    with stack.client() as client:
        job = submit(client, {"Prefer": "wait=55"}, **CHEAP).json()
        answered_at = datetime.now(UTC)
        assert job["status"] == "succeeded"
        assert (answered_at - datetime.fromisoformat(job["ended_at"])).total_seconds() < 10
        assert client.get(job["images"][0]["url"]).is_success


def test_who_is_not_let_in_is_not_ready_and_says_so_in_the_log(secured: Secured, stack: Stack, tmp_path: Path) -> None:
    with Stack("", tmp_path) as outsiders:
        for url in secured.refused.values():
            outsiders.env["INFILL_REDIS_URL"] = url
            outsiders.start_api()
        outsiders.wait_until_up()
        for index, (reason, process) in enumerate(zip(secured.refused, outsiders.apis, strict=True)):
            with outsiders.client(index) as client:
                answer = client.get("/readyz")
            assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable"), reason
            assert '"changes_lost"' in process.log.read_text(), reason
    with stack.client() as client:
        assert client.get("/readyz").status_code == 200
