"""What is known of models since a worker has loaded them, in Redis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from pydantic import TypeAdapter
from redis import Redis

from jobs import keys
from jobs.lora_layers import Width

WIDTHS = TypeAdapter(dict[str, Width])
NAMES = TypeAdapter(list[str])


@dataclass(frozen=True)
class Known:
    """What is known of a model since a worker has loaded it: what adapters must fit, and which schedulers do."""

    widths: Mapping[str, Width]
    schedulers: Sequence[str]


class KnownModels:
    """By ``source``, as the catalog has it; forgotten ``ttl_s`` after the last worker that knew it."""

    def __init__(self, connection: Redis, ttl_s: int) -> None:
        self.connection = connection
        self.ttl_s = ttl_s

    def put(self, source: str, known: Known) -> None:
        self.put_widths(source, known.widths)
        self.put_schedulers(source, known.schedulers)

    def put_widths(self, source: str, widths: Mapping[str, Width]) -> None:
        self.connection.set(keys.widths(source), WIDTHS.dump_json(dict(widths)), ex=self.ttl_s)

    def put_schedulers(self, source: str, names: Sequence[str]) -> None:
        self.connection.set(keys.schedulers(source), NAMES.dump_json(list(names)), ex=self.ttl_s)

    def keep(self, known: Mapping[str, Known]) -> None:
        """Lengthen the lifetime of what is known of these sources; put what Redis has lost once more."""
        with self.connection.pipeline(transaction=False) as pipeline:
            for source in known:
                pipeline.expire(keys.widths(source), self.ttl_s)
                pipeline.expire(keys.schedulers(source), self.ttl_s)
            kept = cast("list[bool]", pipeline.execute())
        for index, source in enumerate(known):
            if not all(kept[2 * index : 2 * index + 2]):
                self.put(source, known[source])

    def widths(self, source: str) -> dict[str, Width] | None:
        """As put; None while no worker has loaded a model from ``source``."""
        raw = cast("bytes | None", self.connection.get(keys.widths(source)))
        return WIDTHS.validate_json(raw) if raw else None

    def schedulers(self, sources: Sequence[str]) -> dict[str, list[str]]:
        """As put, by source; a source that no worker has loaded a model from is left out."""
        found = cast("list[bytes | None]", self.connection.mget([keys.schedulers(source) for source in sources]))
        return {source: NAMES.validate_json(raw) for source, raw in zip(sources, found, strict=True) if raw}
