"""A hub on loopback: as much of the Hugging Face hub's HTTP interface as its client needs to download a model."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Self


@dataclass
class Shelf:
    """What the hub holds: repository -> revision -> folder. A revision is called by its name or by its commit.

    Of the repositories in ``gated`` it tells what they hold, and gives none of it. The files in ``stumbles`` break off
    in the middle, once. ``served`` are those that were given whole: repository, commit, path. While ``open`` is not
    set, no file of ``slow`` is given: whoever downloads one waits.
    """

    repositories: Mapping[str, Mapping[str, Path]]
    gated: frozenset[str] = frozenset()
    stumbles: set[str] = field(default_factory=set)
    served: list[tuple[str, str, str]] = field(default_factory=list)
    slow: frozenset[str] = frozenset()
    open: Event = field(default_factory=Event)

    def find(self, repository: str, revision: str) -> tuple[str, Path] | None:
        """The commit and the folder of a revision."""
        for name, folder in self.repositories.get(repository, {}).items():
            if revision in (name, commit(repository, name)):
                return commit(repository, name), folder
        return None

    def paths(self, repository: str) -> set[str]:
        """Of the files that have been served of it."""
        return {path for name, _, path in self.served if name == repository}


class Hub:
    """Serves from ``with`` to its end."""

    def __init__(self, shelf: Shelf) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Answer,), {"shelf": shelf}))
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Self:
        Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def environment(self, cache: Path) -> dict[str, str]:
        """Of a process that downloads from here; the hub's client reads it when it is imported."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        own = {"HF_ENDPOINT": self.url, "HF_HOME": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1"}
        return {**kept, **own, "NO_PROXY": "127.0.0.1"}


class Answer(BaseHTTPRequestHandler):
    """One request. The client asks what a revision is and holds, then for each file's headers, then for the file."""

    protocol_version = "HTTP/1.1"
    shelf: Shelf

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        match self.path.partition("?")[0].strip("/").split("/"):
            case ["api", "models", owner, name]:
                self._tell(f"{owner}/{name}", "main", "revision")
            case ["api", "models", owner, name, "revision" | "tree" as what, revision]:
                self._tell(f"{owner}/{name}", revision, what)
            case [owner, name, "resolve", revision, *path]:
                self._give(f"{owner}/{name}", revision, "/".join(path))
            case _:
                self._refuse(HTTPStatus.NOT_FOUND, "")

    def _tell(self, repository: str, revision: str, what: str) -> None:
        if (found := self.shelf.find(repository, revision)) is None:
            known = repository in self.shelf.repositories
            return self._refuse(HTTPStatus.NOT_FOUND, "RevisionNotFound" if known else "RepoNotFound")
        sha, folder = found
        told = tree(folder) if what == "tree" else info(repository, sha, folder)
        return self._send(HTTPStatus.OK, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def _give(self, repository: str, revision: str, path: str) -> None:
        if repository in self.shelf.gated:
            return self._refuse(HTTPStatus.UNAUTHORIZED, "GatedRepo")
        found = self.shelf.find(repository, revision)
        if found is None or not (found[1] / path).is_file():
            return self._refuse(HTTPStatus.NOT_FOUND, "EntryNotFound")
        if path in self.shelf.slow and self.command == "GET":
            self.shelf.open.wait()
        content = (found[1] / path).read_bytes()
        headers = {"ETag": f'"{blob(content)}"', "X-Repo-Commit": found[0]}
        stumbles = self.command == "GET" and path in self.shelf.stumbles
        if stumbles:
            self.shelf.stumbles.remove(path)
        elif self.command == "GET":
            self.shelf.served.append((repository, found[0], path))
        return self._send(HTTPStatus.OK, content, headers, stumbles)

    def _refuse(self, status: HTTPStatus, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code})

    def _send(self, status: HTTPStatus, content: bytes, headers: dict[str, str], stumbles: bool = False) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: len(content) // 2] if stumbles else content)
            self.close_connection = stumbles


def commit(repository: str, revision: str) -> str:
    return hashlib.sha1(f"{repository}@{revision}".encode()).hexdigest()


def blob(content: bytes) -> str:
    """What git calls these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def files(folder: Path) -> Iterable[tuple[str, bytes]]:
    return [(str(file.relative_to(folder)), file.read_bytes()) for file in sorted(folder.rglob("*")) if file.is_file()]


def info(repository: str, sha: str, folder: Path) -> dict[str, object]:
    return {"id": repository, "sha": sha, "siblings": [{"rfilename": path} for path, _ in files(folder)]}


def tree(folder: Path) -> list[dict[str, object]]:
    return [{"type": "file", "path": path, "size": len(held), "oid": blob(held)} for path, held in files(folder)]
