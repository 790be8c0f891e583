"""Pictures lie in Redis, or in anything else that puts, gets and drops: here in a folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from redis import Redis

from jobs import keys
from jobs.connection import PixelsAway, is_away
from jobs.errors import NotStored, StoreFull
from jobs.pixels import Pixels, RedisPixels
from jobs.queue import JobQueue
from jobs.settings import QueueSettings
from jobs.store import Store
from tests.jobs.submissions import MASK, PARAMETERS


class FolderPixels:
    """Real files; no lifetimes, which a folder does not have by itself."""

    def __init__(self, folder: Path, room_bytes: int = 10**9) -> None:
        self.folder = folder
        self.room_bytes = room_bytes

    def put(self, job_id: str, pictures: Mapping[str, bytes], ttl_s: int) -> None:
        if not self.folder.is_dir():
            raise PixelsAway("the folder is not mounted")
        if sum(map(len, pictures.values())) > self.room_bytes:
            raise NotStored("no room in the folder")
        for name, picture in pictures.items():
            (self.folder / f"{job_id}-{name}").write_bytes(picture)

    def get(self, job_id: str, names: Sequence[str]) -> list[bytes | None]:
        paths = [self.folder / f"{job_id}-{name}" for name in names]
        return [path.read_bytes() if path.exists() else None for path in paths]

    def drop(self, job_id: str, names: Sequence[str]) -> None:
        for name in names:
            (self.folder / f"{job_id}-{name}").unlink(missing_ok=True)

    def keep(self, job_id: str, names: Sequence[str], ttl_s: int) -> None:
        pass


@pytest.fixture(params=["redis", "folder"])
def pixels(request: pytest.FixtureRequest, connection: Redis, tmp_path: Path) -> Pixels:
    return RedisPixels(connection) if request.param == "redis" else FolderPixels(tmp_path)


def test_a_stores_pictures_can_lie_anywhere(connection: Redis, pixels: Pixels) -> None:
    store = Store(connection, QueueSettings(), pixels)
    store.put_inputs("j", {"image": b"i", "mask": b"m"})
    store.put_results("j", [b"r0", b"r1"])
    assert store.inputs("j") == {"image": b"i", "mask": b"m"}
    assert [store.result("j", index) for index in range(3)] == [b"r0", b"r1", None]
    store.record_end("j")
    assert store.inputs("j") == {"image": None, "mask": None}
    assert store.result("j", 1) == b"r1"


def test_a_mask_that_is_to_be_kept_outlives_the_job_as_long_as_its_results(connection: Redis) -> None:
    settings = QueueSettings(input_ttl_s=1000, result_ttl_s=100)
    store = Store(connection, settings)
    for job_id, keep in (("j", True), ("k", False)):
        store.put_inputs(job_id, {"image": b"i", "mask": b"m"}, keep)
        assert store.used_mask(job_id) == (b"m" if keep else None)
    key = keys.picture("j", keys.USED_MASK)
    assert 900 < connection.ttl(key) <= 1000
    store.record_end("j")
    assert store.used_mask("j") == b"m" and 0 < connection.ttl(key) <= 100
    store.drop_submitted("j")
    assert not connection.keys("infill:j:*")


def test_in_a_folder_redis_holds_no_picture(connection: Redis, tmp_path: Path) -> None:
    store = Store(connection, QueueSettings(), FolderPixels(tmp_path))
    store.put_inputs("j", {"image": b"i", "mask": b"m"})
    assert connection.keys("infill:j:*") == []


def test_a_store_of_pictures_that_is_full_or_away_makes_no_job(connection: Redis, tmp_path: Path) -> None:
    queue = JobQueue(connection, QueueSettings())
    for pixels, expected in ((FolderPixels(tmp_path, 1), StoreFull), (FolderPixels(tmp_path / "x"), PixelsAway)):
        queue.store.pixels = pixels
        with pytest.raises(expected) as raised:
            queue.submit(PARAMETERS, MASK, {"image": b"ii", "mask": b"m"})
        assert is_away(raised.value) is (expected is PixelsAway)
    assert queue.depth() == 0
    assert list(tmp_path.iterdir()) == []
