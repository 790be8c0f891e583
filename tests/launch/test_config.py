"""Settings at a start: wrong values, misspelt names, ports that are taken; and ``infill config``."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import ApiSettings
from jobs.environment import unknown_names
from jobs.setting_names import NAMES
from launch.settings import LaunchSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
KEY = "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0"


def start(module: str, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """A process that ends at its start; what it says of torch's import would be in its errors."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("INFILL_")}
    command = [sys.executable, "-X", "importtime", "-m", module, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env={**clean, **env}, capture_output=True, text=True, check=False, timeout=60
    )
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert not re.search(r"\| +torch$", done.stderr, re.MULTILINE)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout, "\n".join(said))


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_the_list_of_names_is_that_of_the_settings_classes() -> None:
    kinds = (ApiSettings, WorkerSettings, LaunchSettings)
    assert {f"INFILL_{name.upper()}" for kind in kinds for name in kind.model_fields} == NAMES - {
        "INFILL_URL",
        "INFILL_API_KEY",
    }


def test_a_name_that_nobody_reads_is_named_with_the_nearest_one() -> None:
    environment = {
        "INFILL_QUEU_LIMIT": "1",
        "infill_seats": "2",
        "INFILL_XYZZY\n": "3",
        "PATH": "/",
        "INFILL_SEATS": "1",
    }
    assert unknown_names(environment) == [
        "INFILL_QUEU_LIMIT is not a setting of Infill. Did you mean INFILL_QUEUE_LIMIT?",
        "'INFILL_XYZZY\\n' is not a setting of Infill. `infill config` lists those that are.",
    ]


@pytest.mark.parametrize(
    ("module", "name", "value", "sentence"),
    [
        ("worker", "INFILL_SEATS", "many", "INFILL_SEATS='many': It must be a whole number."),
        ("app", "INFILL_QUEUE_LIMIT", "many", "INFILL_QUEUE_LIMIT='many': It must be a whole number."),
        (
            "app",
            "INFILL_LOG_LEVEL",
            "loud",
            "INFILL_LOG_LEVEL='LOUD': It must be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'.",
        ),
        (
            "app",
            "INFILL_WEBHOOK_SECRET",
            "mine",
            "INFILL_WEBHOOK_SECRET: write whsec_ and base64 of 24 to 64 random bytes",
        ),
        ("app", "INFILL_REDIS_URL", "http://me:hush@x", "INFILL_REDIS_URL: it cannot be read."),
        ("worker", "INFILL_CATALOG", "missing.toml", "INFILL_CATALOG: The catalog missing.toml cannot be used"),
        ("worker", "INFILL_C2PA_KEY", "hush", "INFILL_C2PA_KEY is set without INFILL_C2PA_CERTIFICATES: set both"),
        ("worker", "INFILL_C2PA_CERTIFICATES", "hush", "INFILL_C2PA_CERTIFICATES is set without INFILL_C2PA_KEY: set"),
    ],
)
def test_a_wrong_value_is_one_sentence_before_torch_is_imported(
    module: str, name: str, value: str, sentence: str
) -> None:
    done = start(module, **{name: value, "INFILL_PORT": "0"})
    assert done.returncode == 1
    assert done.stderr.startswith(sentence) and len(done.stderr.splitlines()) == 1
    assert "hush" not in done.stderr


def test_a_port_that_is_taken_is_one_sentence(taken: int, tmp_path: Path) -> None:
    port = str(taken)
    api = start("app", INFILL_PORT=port)
    worker = start("worker", INFILL_METRICS_PORT=port)
    for done in (api, worker):
        assert done.returncode == 1 and f"Port {port} on 127.0.0.1 is taken" in done.stderr.splitlines()[-1]
    up = start("launch", "up", INFILL_PORT=port, INFILL_VAR_DIR=str(tmp_path))
    assert up.returncode == 1 and up.stderr.startswith(f"infill: Port {port} on 127.0.0.1 is taken.")


def test_the_start_warns_of_a_misspelt_name(taken: int, tmp_path: Path) -> None:
    for module in ("app", "worker"):
        done = start(module, INFILL_SEETS="1", INFILL_PORT=str(taken), INFILL_METRICS_PORT=str(taken))
        assert "Did you mean INFILL_SEATS?" in done.stderr.splitlines()[0]
    up = start("launch", "up", INFILL_SEETS="1", INFILL_PORT=str(taken), INFILL_VAR_DIR=str(tmp_path))
    assert "infill: warning: INFILL_SEETS is not a setting of Infill. Did you mean INFILL_SEATS?" in up.stderr


def test_config_shows_what_is_in_force_and_from_where_and_no_secret() -> None:
    done = start(
        "launch", "config", "--port", "9001",
        INFILL_SEATS="3", INFILL_REDIS_URL="redis://me:hush@there:6379/0?password=hush",
        INFILL_C2PA_CERTIFICATES="chain.pem", INFILL_C2PA_KEY="hush", INFILL_WEBHOOK_SECRET=KEY, INFILL_API_KEY="hush", INFILL_URL="http://me:hush@there",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line.split(None, 2) for line in done.stdout.splitlines() if line.startswith("INFILL_")]
    assert {line[0] for line in lines} == NAMES
    assert ["INFILL_PORT", "option", "9001"] in lines and ["INFILL_SEATS", "environment", "3"] in lines
    assert ["INFILL_QUEUE_LIMIT", "default", "256"] in lines
    assert ["INFILL_REDIS_URL", "environment", "redis://there:6379/0"] in lines
    assert ["INFILL_WEBHOOK_SECRET", "environment", "(hidden)"] in lines
    assert "hush" not in done.stdout + done.stderr and KEY not in done.stdout


def test_config_names_a_wrong_value_of_any_process() -> None:
    done = start("launch", "config", INFILL_SEATS="0")
    assert done.returncode == 1 and done.stderr == ("infill: INFILL_SEATS='0': It must be greater than or equal to 1.")
