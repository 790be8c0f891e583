"""The names of RQ that the worker overrides or calls without RQ documenting them. Pinned: rq 3.0."""

import inspect
from collections.abc import Callable

import pytest
from rq import Queue, SimpleWorker
from rq.executions import Execution
from rq.intermediate_queue import IntermediateQueue

from worker.queue.inpaint_queue import InpaintQueue
from worker.queue.rq_worker import BatchWorker

SIGNATURES: dict[Callable[..., object], list[str]] = {
    SimpleWorker.execute_job: ["self", "job", "queue"],
    SimpleWorker.get_heartbeat_ttl: ["self", "job", "working_time"],
    SimpleWorker.dequeue_job_and_maintain_ttl: ["self", "timeout", "max_idle_time"],
    SimpleWorker.clean_registries: ["self"],
    SimpleWorker.run_maintenance_tasks: ["self"],
    SimpleWorker.request_stop: ["self", "signum", "frame"],
    SimpleWorker.request_stop_execution: ["self", "execution_id"],
    SimpleWorker.handle_payload: ["self", "message"],
    SimpleWorker.heartbeat: ["self", "timeout", "pipeline"],
    SimpleWorker.prepare_execution: ["self", "job"],
    SimpleWorker.prepare_job_execution: ["self", "job", "remove_from_intermediate_queue"],
    SimpleWorker.set_state: ["self", "state", "pipeline"],
    SimpleWorker.check_for_suspension: ["self", "burst"],
    SimpleWorker.push_exc_handler: ["self", "handler_func"],
    SimpleWorker.cleanup_execution: ["self", "job", "pipeline", "execution"],
    SimpleWorker.handle_job_failure: ["self", "job", "queue", "started_job_registry", "exc_string", "execution"],
    SimpleWorker._finalize_success: ["self", "job", "queue", "execution", "return_value"],
    Queue.acquire_maintenance_lock: ["self"],
    Queue.push_job_id: ["self", "job_id", "pipeline", "at_front"],
    Execution.heartbeat: ["self", "started_job_registry", "ttl", "pipeline"],
    IntermediateQueue.remove: ["self", "job_id"],
}


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: function.__qualname__)
def test_signature_is_the_one_we_were_written_for(function: Callable[..., object]) -> None:
    assert list(inspect.signature(function).parameters) == SIGNATURES[function]


def test_every_override_still_overrides_something() -> None:
    for own, base, new in ((BatchWorker, SimpleWorker, set()), (InpaintQueue, Queue, {"pop", "put_back", "clean"})):
        ours = {name for name in vars(own) if not name.startswith("_") and callable(getattr(own, name))}
        assert {name for name in ours if not hasattr(base, name)} == new


def test_private_state_we_read_exists() -> None:
    source = inspect.getsource(SimpleWorker) + inspect.getsource(SimpleWorker.__mro__[1])
    for name in ("_stopped_job_id", "_stop_requested", "_shutdown_requested_date", "last_cleaned_at"):
        assert f"self.{name}" in source
