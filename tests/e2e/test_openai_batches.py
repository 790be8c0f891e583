"""OpenAI's own client sends a batch of edits to the real service, over a socket, and reads what came of it."""

import base64
import json
import time

import openai

from tests.e2e.edits import Pixels, assert_only_the_hole_changed, opened
from tests.e2e.stack import MASK, PHOTO, Stack


def address_of(data: bytes) -> dict[str, str]:
    return {"image_url": f"data:image/png;base64,{base64.b64encode(data).decode()}"}


def test_a_batch_of_edits_is_done_and_its_lines_come_back_by_their_names(
    stack: Stack, photo: Pixels, hole: Pixels
) -> None:
    body = {"model": "gpt-image-1", "prompt": "sea", "num_inference_steps": 1, "mask": address_of(MASK.read_bytes())}
    bodies = {
        "good": body | {"images": [address_of(PHOTO.read_bytes())]},
        "bad": body | {"images": [address_of(b"no picture")]},
    }
    named = {"method": "POST", "url": "/v1/images/edits"}
    rows = [json.dumps(named | {"custom_id": name, "body": body}) for name, body in bodies.items()]
    with openai.OpenAI(base_url=f"{stack.urls[0]}/v1", api_key="unused", max_retries=0) as client:
        file = client.files.create(file=("in.jsonl", "\n".join(rows).encode()), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/images/edits", completion_window="24h")
        deadline = time.monotonic() + 60
        while (batch := client.batches.retrieve(batch.id)).status == "in_progress":
            assert time.monotonic() < deadline, batch
            time.sleep(0.2)
        assert batch.status == "completed" and batch.output_file_id and batch.error_file_id and batch.request_counts
        assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 1)
        (made,) = map(json.loads, client.files.content(batch.output_file_id).text.splitlines())
        (lost,) = map(json.loads, client.files.content(batch.error_file_id).text.splitlines())
    assert (made["custom_id"], made["response"]["status_code"], lost["custom_id"]) == ("good", 200, "bad")
    assert "image" in json.dumps(lost).lower()
    assert_only_the_hole_changed(opened(made["response"]["body"]["data"][0]["b64_json"]), photo, hole)
