"""The engine's thread is at most one pass ahead of a device whose calls return before their work is done."""

import pytest
import torch

from tests.worker import tiny
from tests.worker.tasks import task, uploads
from worker.denoise.device import DeviceLost
from worker.engine.engine import Engine
from worker.engine.passes_ahead import PassesAhead, passes_ahead
from worker.engine.session import Session


class Queue:
    """A device that works off its queue only when it is waited for."""

    def __init__(self) -> None:
        self.queued = self.done = self.most = 0
        self.dead_at = 0

    def event(self) -> "Pass":
        return Pass(self)


class Pass:
    """The end of a pass."""

    def __init__(self, device: Queue) -> None:
        self.device, self.number = device, 0

    def record(self) -> None:
        self.device.queued += 1
        self.number = self.device.queued
        self.device.most = max(self.device.most, self.device.queued - self.device.done)

    def synchronize(self) -> None:
        if self.number == self.device.dead_at:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        self.device.done = max(self.device.done, self.number)


def test_one_pass_is_queued_behind_the_one_that_runs() -> None:
    device = Queue()
    ahead = PassesAhead(device.event)
    for number in range(1, 6):
        ahead.launched()
        assert (device.queued, device.done) == (number, number - 1)
    assert device.most == 2
    ahead.finish()
    assert device.done == 5
    ahead.finish()


def test_jobs_are_prepared_and_decoded_by_an_idle_device() -> None:
    """So their times are their own, not those of their mates' last pass."""
    device = Queue()
    model = tiny.model("sd", "concat")
    engine = Engine({"tiny": model}, max_rows=8)
    engine.ahead = PassesAhead(device.event)
    idle = []
    for part in (model.pipeline.text_encoder, model.vae.decoder):
        part.register_forward_pre_hook(lambda *_: idle.append(device.done == device.queued))
    session = Session(engine, codec_threads=1)
    jobs = [task("sd", seed) for seed in (1, 2)]
    for job in jobs:
        session.take(job, uploads())
    session.run(jobs)
    session.shutdown()
    assert not [job.outcome for job in jobs if isinstance(job.outcome, Exception)]
    assert device.queued >= 4 and device.most <= 2
    assert len(idle) >= 4 and all(idle)


def test_a_device_that_died_in_a_pass_is_found_when_the_pass_is_waited_for() -> None:
    device = Queue()
    device.dead_at = 1
    ahead = PassesAhead(device.event)
    ahead.launched()
    with pytest.raises(DeviceLost):
        ahead.launched()


def test_a_cpu_is_never_behind() -> None:
    ahead = passes_ahead(torch.device("cpu"))
    ahead.launched()
    ahead.finish()
