"""A master, a replica and three sentinels, as processes."""

import subprocess
import time
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tests.redis_server import RedisServer, free_port
from tests.tethered import tethered

SERVICE = "infill-test"
PASSWORD = "p@ss"
SENTINEL_PASSWORD = "watch/ful"
DOWN_AFTER_MS = 1500


class SentinelGroup:
    """Two Redis servers that copy one another, and sentinels which say whose turn it is. All want passwords."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers = [self._server(folder / f"redis-{index}") for index in range(2)]
        self.sentinel_ports = [free_port() for _ in range(3)]
        self._sentinels: list[subprocess.Popen[bytes]] = []

    @property
    def settings(self) -> dict[str, str]:
        """What its clients need to know."""
        return {
            "INFILL_REDIS_URL": "redis://default:p%40ss@/0?sentinel_password=watch%2Fful",
            "INFILL_REDIS_SENTINELS": ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports),
            "INFILL_REDIS_SERVICE": SERVICE,
        }

    def _server(self, folder: Path) -> RedisServer:
        return RedisServer(
            folder,
            append_only=True,
            url="redis://:p%40ss@127.0.0.1:{port}/0",
            options={"requirepass": PASSWORD, "masterauth": PASSWORD, "repl-diskless-sync-delay": 0},
        )

    def start(self) -> None:
        """Return when the replica is in step and every sentinel knows of it and of the others."""
        master, replica = self.servers
        master.start()
        replica.options = {**replica.options, "replicaof": f"127.0.0.1 {master.port}"}
        replica.start()
        wait_for(lambda: self.is_replica(replica))
        for index, port in enumerate(self.sentinel_ports):
            self._start_sentinel(self.folder / f"sentinel-{index}", port, master.port)
        for port in self.sentinel_ports:
            wait_for(lambda port=port: self._knows(port, "num-slaves", 1))
            wait_for(lambda port=port: self._knows(port, "num-other-sentinels", 2))

    def _start_sentinel(self, folder: Path, port: int, master_port: int) -> None:
        folder.mkdir()
        lines = [
            f"port {port}",
            "bind 127.0.0.1",
            f"dir {folder}",
            f"requirepass {SENTINEL_PASSWORD}",
            f"sentinel sentinel-pass {SENTINEL_PASSWORD}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {master_port} 2",
            f"sentinel auth-pass {SERVICE} {PASSWORD}",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 6000",
        ]
        config = folder / "sentinel.conf"
        config.write_text("\n".join(lines) + "\n")
        with (folder / "log").open("ab") as log:
            command = tethered([self.servers[0].program, str(config), "--sentinel"])
            self._sentinels.append(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL))

    # ---- what the sentinels say

    def master(self) -> RedisServer:
        port = int(self._ask(self.sentinel_ports[0])["port"])
        return next(server for server in self.servers if server.port == port)

    def other_than(self, server: RedisServer) -> RedisServer:
        return next(other for other in self.servers if other is not server)

    def fail_over(self) -> None:
        """Ask a sentinel to change places, as for maintenance."""
        with self._sentinel(self.sentinel_ports[0]) as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", SERVICE)

    def _knows(self, port: int, what: str, count: int) -> bool:
        try:
            return int(self._ask(port)[what]) == count
        except RedisError:
            return False

    def _ask(self, port: int) -> dict[str, Any]:
        with self._sentinel(port) as sentinel:
            state: dict[str, Any] = sentinel.sentinel_master(SERVICE)
            return state

    def _sentinel(self, port: int) -> Redis:
        return Redis(host="127.0.0.1", port=port, password=SENTINEL_PASSWORD)

    # ---- the servers

    def set_min_replicas(self, count: int) -> None:
        """How many replicas a master must have to take writes."""
        for server in self.servers:
            with Redis.from_url(server.url) as client:
                client.config_set("min-replicas-to-write", count)

    def is_replica(self, server: RedisServer) -> bool:
        """Whether it copies from another one, and has all of it."""
        with Redis.from_url(server.url) as client:
            try:
                return bool(client.info("replication").get("master_link_status") == "up")
            except RedisError:  # its clients are dropped when a sentinel gives it another role
                return False

    def wait_for_replica(self, master: RedisServer) -> None:
        """Return when all that was written to the master so far is on the replica too."""
        with Redis.from_url(master.url) as client:
            client.set("probe", 1, ex=1)
            assert client.wait(1, 30_000) == 1

    def end(self) -> None:
        for sentinel in self._sentinels:
            sentinel.kill()
            sentinel.wait()
        for server in self.servers:
            server.kill()


def wait_for(condition: Any, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
