"""``infill jobs``, ``models``, ``loras`` and ``mask``: calls of a running service that edit nothing."""

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

from infill_client import Client, ClientError, Job
from infill_client.records import JobSummary
from launch import models
from launch.edit import subject_fields
from launch.errors import LaunchError
from launch.table import columns

Say = Callable[[str], None]


def call(options: Namespace, say: Say) -> int:
    """Run one of these commands; returns the exit status. Raises LaunchError."""
    action = getattr(options, "action", None)
    match options.command, action:
        case "models", "check":
            return models.check(options.catalog, say)
        case "models", "add":
            return models.add(options, say)
        case "models", "fetch":
            return models.fetch(options)
    try:
        with closing(Client(options.url, options.key)) as client:
            ACTIONS[options.command, action](client, options, say)
    except ClientError as error:
        raise LaunchError(str(error)) from None
    return 0


def _jobs(client: Client, options: Namespace, say: Say) -> None:
    for job in islice(client.jobs(options.status, min(max(options.limit, 1), 100)), options.limit):
        say(_line(job))


def _show(client: Client, options: Namespace, say: Say) -> None:
    say(client.job(options.id).model_dump_json(indent=2))


def _cancel(client: Client, options: Namespace, say: Say) -> None:
    for job_id in options.ids:
        say(_line(client.cancel(job_id)))


def _line(job: Job | JobSummary) -> str:
    return f"{job.id}  {job.status:<9}  {job.created_at:%Y-%m-%d %H:%M:%S}  {job.model or ''}"


def _mask(client: Client, options: Namespace, say: Say) -> None:
    try:
        found = client.mask(options.photo, **subject_fields([options.box] if options.box else [], options))
        target = options.out or options.photo.with_name(f"{options.photo.stem}-mask.png")
        target.write_bytes(found.png)
    except OSError as error:
        raise LaunchError(str(error)) from None
    say(f"{target}  score {found.score:g}  box {','.join(map(str, found.box))}")


def _models(client: Client, _: Namespace, say: Say) -> None:
    say(
        columns(
            ("name", "family", "steps", "workers", "loaded", "description"),
            [
                (
                    f"{model['name']}{' (default)' if model['default'] else ''}",
                    *(model["family"], model["num_inference_steps"], len(model["workers"]), len(model["loaded_by"])),
                    model["description"],
                )
                for model in client.models()
            ],
        )
    )


def _loras(client: Client, _: Namespace, say: Say) -> None:
    found: Sequence[Mapping[str, Any]] = client.loras()
    rows = [(lora["name"], lora["rank"] or "", ", ".join(lora["models"]), lora["problem"] or "") for lora in found]
    say(columns(("name", "rank", "models", "problem"), rows) if rows else "There are no adapters.")


ACTIONS: Mapping[tuple[str, str | None], Callable[[Client, Namespace, Say], None]] = {
    ("mask", None): _mask,
    ("jobs", "list"): _jobs,
    ("jobs", "show"): _show,
    ("jobs", "cancel"): _cancel,
    ("models", "list"): _models,
    ("loras", "list"): _loras,
}
