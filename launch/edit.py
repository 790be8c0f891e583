"""``infill edit``: repaint photos by a running service."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from infill_client import Client, ClientError, Job, Result
from jobs.outputs import SUFFIXES
from launch.errors import LaunchError
from launch.progress import ProgressLine
from launch.table import timing_table

AT_ONCE = 4
"""Photos that are under way at the same time."""
FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".avif": "avif"}
"""What a file's name asks for."""


def edit(options: Namespace, say: Callable[[str], None]) -> int:
    """Repaint each photo and write its images; returns the exit status. Raises LaunchError.

    A photo that fails is named, and the others are done all the same.
    """
    fields, photos = fields_of(options), [_file(path) for path in options.photos]
    mask = _file(options.mask) if options.mask else None
    if len(photos) > 1 and options.out and not options.out.is_dir():
        raise LaunchError(f"--out {options.out}: several photos need a folder that exists.")
    with closing(Client(options.url, options.key)) as client:

        def one(photo: Path) -> str | None:
            try:
                for line in _edit_one(client, photo, mask, fields, options):
                    say(line)
            except (ClientError, OSError) as error:
                return f"{photo}: {error}"
            return None

        if len(photos) == 1:
            faults = [one(photos[0])]
        else:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                faults = list(pool.map(one, photos))
    for fault in filter(None, faults):
        print(f"infill: {fault}", file=sys.stderr, flush=True)
    return 1 if any(faults) else 0


def fields_of(options: Namespace) -> dict[str, Any]:
    """The request's fields. Raises LaunchError for a ``--set`` that is none, and a name of another format."""
    fields = {name: getattr(options, name) for name in FIELDS if getattr(options, name) is not None}
    for text in options.set or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise LaunchError(f"--set {text}: write it as NAME=VALUE, with a field of POST /v1/inpaint.")
        fields[name.replace("-", "_")] = value
    if options.extend or options.aspect:
        fields.setdefault("task", "extend")
    found = subject_fields(options.box or [], options)
    return fields | found | _format_of(options.out, fields.get("output_format"))


def subject_fields(boxes: Sequence[str], options: Namespace) -> dict[str, Any]:
    """Raises LaunchError."""
    fields: dict[str, Any] = {}
    if boxes:
        fields["mask_box"] = json.dumps([_box(text) for text in boxes])
    if options.point:
        fields["mask_points"] = json.dumps([_point(text) for text in options.point])
    if options.subject:
        fields["mask_subject"] = options.subject
    return fields


def _point(text: str) -> list[float]:
    try:
        x, y, *side = (float(part) for part in text.split(","))
        if side not in ([], [0], [1]):
            raise ValueError(text)
    except ValueError:
        raise LaunchError(f"--point {text}: write it as X,Y or X,Y,0 in pixels; 0 is beside the subject.") from None
    return [x, y, int(side[0]) if side else 1]


FIELDS = (
    *("prompt", "negative_prompt", "prompt_syntax", "model", "preset", "seed", "n", "strength", "extend", "aspect"),
    *("num_inference_steps", "guidance_scale", "hires", "output_format"),
)


def _format_of(out: Path | None, asked: str | None) -> dict[str, str]:
    """The field ``output_format`` where the name of the file says it."""
    if out is None or out.is_dir() or not out.suffix:
        return {}
    named = FORMATS.get(out.suffix.lower())
    if named is None:
        raise LaunchError(f"--out {out}: results are {', '.join(FORMATS)}. Name it so, or name a folder.")
    if asked not in (None, named):
        raise LaunchError(f"--out {out}, --format {asked}: the file's name is of another format. Send one of them.")
    return {"output_format": named}


def _box(text: str) -> list[int]:
    try:
        left, top, right, bottom = (int(part) for part in text.split(","))
    except ValueError:
        raise LaunchError(f"--box {text}: write it as LEFT,TOP,RIGHT,BOTTOM in pixels.") from None
    return [left, top, right, bottom]


def _file(path: Path) -> Path:
    if not path.is_file():
        raise LaunchError(f"{path} is not a file.")
    return path


def _edit_one(
    client: Client, photo: Path, mask: Path | None, fields: Mapping[str, Any], options: Namespace
) -> Iterator[str]:
    """What is to be printed of it."""
    job = client.submit(photo, mask, **fields)
    result = client.result(_followed(client, job, options))
    written = [str(path) for path in _write(result, photo, options.out)]
    if options.json:
        yield json.dumps(result.job.model_dump(mode="json") | {"files": written})
        return
    yield from written
    if options.timings:
        yield f"\n{timing_table(result.job.timings or {})}"


def _followed(client: Client, job: Job, options: Namespace) -> Job:
    """The job as it has ended; one photo alone has a progress bar, on a terminal."""
    if len(options.photos) > 1 or not sys.stderr.isatty():
        return client.wait(job, options.timeout)
    with ProgressLine(sys.stderr) as line:
        for seen in client.follow(job.id):
            line.show(job := seen)
    return job


def _write(result: Result, photo: Path, out: Path | None) -> Sequence[Path]:
    """``--out``, or ``NAME-infill`` beside the photo; several images of a photo are numbered."""
    suffix = SUFFIXES.get(result.job.images[0].content_type, "")
    target = photo.with_name(f"{photo.stem}-infill{suffix}") if out is None else out
    if target.is_dir():
        target /= f"{photo.stem}{suffix}"
    several = len(result.images) > 1
    names = [target.with_stem(f"{target.stem}-{index}") if several else target for index in range(len(result.images))]
    return [result.save(name, index) for index, name in enumerate(names)]
