"""``infill config``: every setting, its value, and where that comes from."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings

from jobs.connection import RedisAddress
from jobs.environment import faults
from jobs.settings import QueueSettings
from launch.errors import LaunchError
from launch.options import URL
from launch.settings import LaunchSettings

HIDDEN = "(hidden)"

Row = tuple[str, str, str]
"""A variable, its value as it is shown, its source."""


def config(settings: LaunchSettings, given: Mapping[str, Any], say: Callable[[str], None]) -> int:
    """Print what is in force; ``given``: what options of the command line set. Raises LaunchError for wrong values."""
    from app.settings import ApiSettings  # these two load no more than pydantic
    from worker.settings import WorkerSettings

    shared = QueueSettings.model_fields.keys()
    api, worker = _read(ApiSettings), _read(WorkerSettings)
    sections = {
        "infill up, infill demo": rows_of(settings, settings.__class__.model_fields.keys(), given),
        "API and workers (infill up gives them its Redis, its queue and the API's address)": rows_of(api, shared),
        "API": rows_of(api, ApiSettings.model_fields.keys() - shared),
        "worker": rows_of(worker, WorkerSettings.model_fields.keys() - shared),
        "commands that call a service": [
            ("INFILL_URL", _without_login(os.environ.get("INFILL_URL") or URL), _source("url", {})),
            ("INFILL_API_KEY", HIDDEN if os.environ.get("INFILL_API_KEY") else "none", _source("api_key", {})),
        ],
    }
    width = max(len(name) for rows in sections.values() for name, _, _ in rows)
    for title, rows in sections.items():
        say(f"# {title}")
        for name, value, source in rows:
            say(f"{name:<{width}}  {source:<11}  {value}".rstrip())
        say("")
    return 0


def rows_of(settings: BaseSettings, names: Any, given: Mapping[str, Any] | None = None) -> list[Row]:
    """The settings called ``names``, in the order in which the class has them."""
    fields = [name for name in type(settings).model_fields if name in names]
    return [
        (f"INFILL_{name.upper()}", shown(name, getattr(settings, name)), _source(name, given or {})) for name in fields
    ]


def shown(name: str, value: object) -> str:
    """A value without what is secret in it, on one line."""
    if value is None:
        return "none"
    if isinstance(value, SecretStr):
        return HIDDEN
    text = str(RedisAddress(str(value))) if name == "redis_url" else str(value)
    return text if text.isprintable() else ascii(text)


def _without_login(url: str) -> str:
    return shown("redis_url", url)


def _source(name: str, given: Mapping[str, Any]) -> str:
    if name in given:
        return "option"
    variable = f"INFILL_{name}".upper()
    set_to = next((value for key, value in os.environ.items() if key.upper() == variable), None)
    return "default" if set_to in (None, "") else "environment"


def _read(kind: type[BaseSettings]) -> BaseSettings:
    try:
        return kind()
    except ValidationError as error:
        raise LaunchError("; ".join(faults(error))) from None
