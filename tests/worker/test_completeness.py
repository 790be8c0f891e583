"""Lists that must not drift apart: settings, metrics and phases against the docs, names against classes."""

import subprocess
import sys
from pathlib import Path

from jobs.families import FAMILIES as FACTS
from jobs.schedulers import SCHEDULERS
from jobs.schema import Timings
from jobs.settings import QueueSettings
from worker.denoise.sampling import CLASSES
from worker.engine.stopwatch import PHASES
from worker.families.registry import FAMILIES
from worker.metrics import WorkerMetrics
from worker.settings import WorkerSettings

DOCS = Path(__file__).parents[2] / "docs"


def test_every_setting_of_the_worker_is_documented_with_its_default() -> None:
    text = (DOCS / "settings.md").read_text()
    for name in WorkerSettings.model_fields.keys() - QueueSettings.model_fields.keys():
        default = WorkerSettings.model_fields[name].default
        shown = "none" if default is None else f"`{default}`"
        assert f"| `INFILL_{name.upper()}` | {shown} |" in text


def test_every_metric_of_the_worker_is_documented() -> None:
    text = (DOCS / "metrics.md").read_text()
    for metric in WorkerMetrics().registry.collect():
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        assert f"| `{name}` | {metric.type} |" in text


def test_every_phase_is_reported_and_documented() -> None:
    text = (DOCS / "metrics.md").read_text()
    assert set(PHASES) == set(Timings.model_fields) - {"total", "steps", "step_p50", "batch_mean"}
    assert all(f"`{phase}`" in text for phase in PHASES)


def test_every_scheduler_of_noise_has_a_class_and_the_other_way_round() -> None:
    assert SCHEDULERS.keys() - {"none"} == CLASSES.keys()


def test_every_scheduler_and_family_is_documented() -> None:
    text = (DOCS / "models.md").read_text()
    assert [name for name in (*SCHEDULERS, *FACTS) if f"`{name}`" not in text] == []


def test_every_family_of_the_catalog_has_a_class_of_its_noise_law_and_the_other_way_round() -> None:
    assert FAMILIES.keys() == {name for name, facts in FACTS.items() if facts.denoises}
    laws = {name: "flow" if hasattr(kind, "scale_noise") else "diffusion" for name, (kind, _) in CLASSES.items()}
    assert laws | {"none": "none"} == {name: scheduler.law for name, scheduler in SCHEDULERS.items()}


def test_the_worker_loads_neither_the_api_nor_fastapi() -> None:
    code = "import worker.main, sys; print([m for m in ('app', 'fastapi') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"
