import sys
import time
from pathlib import Path

from launch.process import Process, tail
from launch.service import FIRST_DELAY_S, Service


class Failing(Service):
    """Ends at once with status 7."""

    def __init__(self, log: Path) -> None:
        super().__init__("failing")
        self.log = log
        self.lives = 0

    def spawn(self) -> Process:
        self.lives += 1
        return Process([sys.executable, "-c", "print('so it goes'); raise SystemExit(7)"], {}, self.log)

    def bury(self, process: Process) -> str:
        return ", buried"


def test_a_dead_process_is_reported_once_and_started_again_later_each_time(tmp_path: Path) -> None:
    service = Failing(tmp_path / "log")
    service.start()
    first = service.process
    assert first.wait(10)
    died_at = time.monotonic()
    assert service.check() == f"failing (process {first.pid}) ended with status 7, buried; next start in 0.5 s"
    while service.lives == 1:
        assert service.check() is None
    assert time.monotonic() - died_at >= FIRST_DELAY_S
    assert service.process.wait(10)
    report = service.check()
    assert report and report.endswith("next start in 1 s")
    assert tail(tmp_path / "log").splitlines() == ["so it goes", "so it goes"]


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    process = Process([sys.executable, "-c", code], {}, tmp_path / "log")
    while not tail(tmp_path / "log"):
        time.sleep(0.02)
    process.end(0.2)
    assert process.ending == "was killed by SIGKILL"


def test_a_log_that_grows_large_is_put_aside_and_its_process_goes_on_at_the_start(tmp_path: Path) -> None:
    code = "import time; print('x' * 65 * 2**20, flush=True); time.sleep(1); print('on', flush=True)"
    process = Process([sys.executable, "-c", code], {}, tmp_path / "api.log")
    while process.log.stat().st_size <= 65 * 2**20:
        time.sleep(0.02)
    process.bound_log()
    assert (tmp_path / "api.previous.log").stat().st_size == 65 * 2**20 + 1
    assert process.wait(10)
    assert process.log.read_text() == "on\n"
    process.bound_log()
    assert process.log.read_text() == "on\n", "a small one stays"
