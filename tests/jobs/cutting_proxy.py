"""A proxy before a real Redis: it cuts the line before an answer comes back, or lets nobody through for a while."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CHUNK_BYTES = 65_536
LOOK_S = 0.02


class CuttingProxy:
    """Takes connections on a port of its own. ``cuts`` counts the answers that it has swallowed."""

    def __init__(self, to_port: int) -> None:
        self.to_port = to_port
        self.cuts = 0
        self.away = False
        """Whether every line is cut, and every new one too."""
        self._awaited: bytes | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def swallow_the_answer_to(self, command: str) -> None:
        """Of the next one only."""
        self._awaited = f"${len(command)}\r\n{command}\r\n".encode()

    def serve(self) -> None:
        """Until the listener is closed."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _relay(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self.to_port))
        with suppress(OSError), client, server:  # whoever is gone is gone
            while True:
                readable, _, _ = select.select([client, server], [], [], LOOK_S)
                if self.away:
                    return
                if server in readable and not _pass_on(server, client):
                    return
                if client in readable and not (data := client.recv(CHUNK_BYTES)):
                    return
                if client in readable:
                    server.sendall(data)
                    if self._awaited is not None and self._awaited in data:
                        self._swallow(server)
                        return

    def _swallow(self, server: socket.socket) -> None:
        """Return when the server has done what it was sent."""
        self._awaited = None
        self.cuts += 1
        server.shutdown(socket.SHUT_WR)
        while server.recv(CHUNK_BYTES):
            pass


def _pass_on(source: socket.socket, sink: socket.socket) -> bool:
    """Once; False at the end."""
    data = source.recv(CHUNK_BYTES)
    sink.sendall(data)
    return bool(data)


@contextmanager
def cutting_proxy(to_port: int) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(to_port)
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join()
