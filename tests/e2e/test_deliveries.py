"""A real worker sends out a job's image and announces its end; if it is killed before, another one does."""

import io
import signal
from collections.abc import Iterator
from pathlib import Path

import c2pa
import pytest
from PIL import Image
from redis import Redis
from standardwebhooks import Webhook

from jobs import keys
from tests.e2e.stack import Stack, submit, wait_for
from tests.receiver import Receiver, receiver
from tests.redis_server import RedisServer
from tests.worker.certificates import usual, written

SECRET = "whsec_" + "c2VjcmV0" * 4


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def test_what_a_killed_worker_has_not_sent_another_one_sends(tmp_path: Path, there: Receiver) -> None:
    signing = written(tmp_path, *usual())
    settings = {"INFILL_OUTPUT_HOSTS": "127.0.0.1", "INFILL_WEBHOOK_SECRET": SECRET, **signing}
    with (
        RedisServer(tmp_path / "redis") as server,
        Redis.from_url(server.url) as connection,
        Stack(server.url, tmp_path, **settings) as stack,
    ):
        stack.start_api()
        worker = stack.start_worker()
        stack.wait_until_ready()
        with stack.client() as client:
            there.statuses = [503, 200]
            sent = submit(client, output_url=f"{there.url}/put", num_inference_steps=1)
            job = wait_for(client, sent.json()["id"], "succeeded")
            there.wait(1)
            worker.popen.send_signal(signal.SIGKILL)  # between the first try and the next
            worker.popen.wait()
            stack.start_worker()
            connection.zadd(keys.DELIVERIES, {f"{job['id']}:0": 0}, xx=True)  # five seconds have passed
            put = there.wait(2)[1]
            with Image.open(io.BytesIO(put.body)) as image:
                assert image.size == (512, 512)
            assert put.body == client.get(f"/v1/jobs/{job['id']}/images/0").content
            manifest = c2pa.Reader("image/png", io.BytesIO(put.body)).get_active_manifest()
            assert manifest and manifest["signature_info"]["common_name"] == "signer"
            announced = submit(client, webhook_url=f"{there.url}/hook", num_inference_steps=200, n=8).json()["id"]
            wait_for(client, announced, "running")
            client.delete(f"/v1/jobs/{announced}")
            post = there.wait(3)[2]
        event = Webhook(SECRET).verify(post.body, post.headers)
        assert (event["type"], event["data"]["id"]) == ("job.canceled", announced)
        assert "/put" not in stack.logs() and SECRET not in stack.logs() and "PRIVATE" not in stack.logs()
