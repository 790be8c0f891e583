"""The naive server on a thread of the test's own process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from bench.baselines.naive import create_app
from bench.baselines.pipeline import Pipeline
from bench.throughput.sides import Naive


@contextmanager
def naive_server(painter: Pipeline) -> Iterator[Naive]:
    server = uvicorn.Server(uvicorn.Config(create_app(painter), host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    yield Naive(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
    server.should_exit = True
    thread.join()
