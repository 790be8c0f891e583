"""Debian's nginx with the file of ``deploy/nginx``, in front of API processes of the test."""

import os
import subprocess
import time
from pathlib import Path

import httpx

from tests.e2e.stack import ROOT
from tests.programs import program
from tests.redis_server import free_port

MAIN = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
{user}
events {{ worker_connections 512; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/infill.conf;
}}
"""


class Nginx:
    """One nginx. Of the file in ``deploy/`` only addresses are changed: where it listens, and the two API processes."""

    def __init__(self, folder: Path, api_urls: list[str]) -> None:
        self.folder, self.program = folder, program("nginx")
        self.url = f"http://127.0.0.1:{free_port()}"
        servers = [f"server {url.removeprefix('http://')} max_fails=2 fail_timeout=5s;" for url in api_urls]
        text = (ROOT / "deploy" / "nginx" / "infill.conf").read_text()
        text = _replaced(text, "server 127.0.0.1:8000 max_fails=2 fail_timeout=5s;", "\n    ".join(servers))
        text = _replaced(text, "listen 80;", f"listen {self.url.removeprefix('http://')};")
        (folder / "infill.conf").write_text(text)
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user=user))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def _command(self) -> list[str]:
        return [
            self.program,
            "-p",
            str(self.folder),
            "-c",
            str(self.folder / "nginx.conf"),
            "-e",
            str(self.folder / "log"),
        ]

    def check(self) -> subprocess.CompletedProcess[str]:
        """What ``nginx -t`` says of the file."""
        return subprocess.run([*self._command, "-t"], capture_output=True, text=True, check=False)

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                httpx.get(f"{self.url}/healthz", trust_env=False)
                return
            except httpx.TransportError:
                assert time.monotonic() < deadline and self._process.poll() is None, self.check().stderr
                time.sleep(0.05)

    def end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)


def _replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"the file in deploy/ has no single {old!r}"
    return text.replace(old, new)
