"""``INFILL_MARKING`` reaches the files that a worker stores."""

from pathlib import Path

import pytest
from redis import Redis

from tests.worker.office import Office, named
from worker.settings import WorkerSettings


@pytest.mark.parametrize("text", ["on", "off"])
def test_a_worker_marks_its_results_unless_its_operator_has_it_not(
    text: str, connection: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFILL_MARKING", text)
    office = Office(connection, tmp_path, named, marking=WorkerSettings().marking)
    job_id = office.submit("a", steps=1)
    office.run()
    result = office.queue.store.result(job_id, 0)
    assert result and (b"compositeWithTrainedAlgorithmicMedia" in result) == (text == "on")
