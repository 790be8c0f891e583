"""A queue in Redis, and a job that it takes."""

from redis import Redis

from jobs.queue import Idempotency, JobQueue
from jobs.schema import InputName
from jobs.settings import QueueSettings
from tests.factories import inpaint_parameters, mask_report

PARAMETERS = inpaint_parameters(prompt="ein Bär 🐻", model="pocket", seed=7, num_inference_steps=20, strength=0.5)
MASK = mask_report()


def queue_with(connection: Redis, **settings: object) -> JobQueue:
    return JobQueue(connection, QueueSettings.model_validate(settings))


def submitted_by(queue: JobQueue, caller: str, pixels: int = 0, key: str | None = None) -> str:
    """The id of a job of ``caller``; a repeated one where ``key`` came before."""
    idempotency = Idempotency(key, "fingerprint") if key else None
    inputs: dict[InputName, bytes] = {"image": b"image", "mask": b"mask"}
    return queue.submit(PARAMETERS, MASK, inputs, idempotency, caller, pixels=pixels).job_id
