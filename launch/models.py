"""``infill models check``, ``add`` and ``fetch``: the catalog file, without a service."""

import json
import os
import re
import sys
from argparse import Namespace
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from jobs.catalog import FILE_SUFFIXES, Catalog, load_catalog
from jobs.errors import BadModel
from jobs.families import FAMILIES
from launch.errors import LaunchError
from launch.table import columns

Say = Callable[[str], None]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")

PUBLISHED: dict[str, dict[str, Any]] = {"FluxFillPipeline": {"num_inference_steps": 50, "guidance_scale": 30.0}}
"""Defaults of published pipelines that are not those of their family: ``docs/models.md``."""


def check(catalog: Path | None, say: Say) -> int:
    """Read a catalog file and list its models. Raises LaunchError with the fault."""
    found = _load(str(catalog) if catalog else None)
    rows: list[tuple[str, str, str]] = [(name, model.family, model.source) for name, model in found.models.items()]
    rows += [(name, entry.network, entry.source) for name, entry in found.segmenters.items()]
    say(columns(("name", "family", "source"), rows))
    return 0


def add(options: Namespace, say: Say) -> int:
    """Append a model to a catalog file, which is made if need be. Raises LaunchError; the file is then as it was."""
    file = _catalog_of(options)
    if not NAME.fullmatch(options.name):
        raise LaunchError(f"{options.name!r}: a model's name has letters, digits, - and _, up to 100.")
    entry = _entry(options.source, options.family)
    before = file.read_text() if file.exists() else ""
    if before and options.name in _load(str(file)).models:
        raise LaunchError(f"{file} has a model {options.name!r} already. Take another name, or change the file.")
    text = before + ("\n" if before else "") + _toml(options.name, entry)
    catalog = _replace(file, text)
    say(f"{file}: added {options.name} (family {entry['family']}, {entry['source']})")
    if catalog.default == options.name:
        say("It is the default model, as the first in the file.")
    if os.environ.get("INFILL_CATALOG") != str(file):
        say(f"Set INFILL_CATALOG={file} for the API and the workers, and start them again.")
    return 0


def fetch(options: Namespace) -> int:
    """Become the worker's own download of models. Raises LaunchError."""
    if find_spec("diffusers") is None:
        raise LaunchError("fetching a model needs diffusers: pip install 'infill[worker]'")
    catalog = str(options.catalog or os.environ.get("INFILL_CATALOG") or "")
    sys.stdout.flush()
    return os.execv(
        sys.executable, [sys.executable, "-P", "-m", "worker.models.fetch", catalog, *options.names]
    )  # its progress bars, Ctrl-C and exit status are then its own


def _catalog_of(options: Namespace) -> Path:
    named = options.catalog or os.environ.get("INFILL_CATALOG")
    if not named:
        raise LaunchError("Which catalog file? Name it with --catalog FILE or INFILL_CATALOG; it is made if need be.")
    return Path(named).expanduser().resolve()


def _entry(source: str, family: str | None) -> dict[str, Any]:
    """What the catalog says of a source. Raises LaunchError where it is not there, or no model."""
    path = Path(source).expanduser()
    if path.is_dir():
        return _folder(path.resolve(), family)
    if path.suffix.lower() in FILE_SUFFIXES:
        if family == "feedforward":
            raise LaunchError(
                f"{path}: a network that paints in one call needs its convention and allow_pickle too. Write its entry "
                "by hand, as docs/models.md shows."
            )
        if path.suffix.lower() != ".safetensors":
            raise LaunchError(f"{path}: files of this kind are not read. Convert it to .safetensors.")
        _check_file(path)
        return {"family": _named(family, "a single file"), "source": str(path.resolve())}
    if HUB_ID.fullmatch(source):
        return {"family": _named(family, f"{source} on the hub"), "source": source}
    raise LaunchError(f"{source} is neither a folder, nor a .safetensors file, nor org/name on the hub.")


def _folder(folder: Path, family: str | None) -> dict[str, Any]:
    try:
        kind = str(json.loads((folder / "model_index.json").read_text())["_class_name"])
    except (OSError, ValueError, TypeError, KeyError):
        raise LaunchError(
            f"{folder} is no diffusers folder: it has no model_index.json that names a pipeline."
        ) from None
    prefixes = {facts.class_prefix: name for name, facts in FAMILIES.items() if facts.class_prefix}
    found = next(
        (prefixes[prefix] for prefix in sorted(prefixes, key=len, reverse=True) if kind.startswith(prefix)), None
    )
    if found is None or (family and family != found):
        asked = f"not {family}" if family and found else f"known families: {', '.join(FAMILIES)}"
        raise LaunchError(f"{folder} holds a {kind}, of {f'family {found}' if found else 'no known family'}; {asked}.")
    return {"family": found, "source": str(folder), **PUBLISHED.get(kind, {})}


def _check_file(path: Path) -> None:
    """Raise LaunchError for what is no safetensors file by its first bytes: the header's length, then the header."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            begins = file.read(1)
        whole = 8 + length <= path.stat().st_size
    except OSError as error:
        raise LaunchError(f"{path} cannot be read: {error.strerror}.") from None
    if begins != b"{" or not whole:
        raise LaunchError(f"{path} is no safetensors file, or is cut off.")


def _named(family: str | None, what: str) -> str:
    if family is None:
        raise LaunchError(f"The family of {what} is not known: name it with --family ({', '.join(FAMILIES)}).")
    return family


def _toml(name: str, entry: dict[str, Any]) -> str:
    lines = [f"{field} = {json.dumps(value, ensure_ascii=False)}" for field, value in entry.items()]
    return "\n".join([f"[models.{name}]", *lines, ""])


def _replace(file: Path, text: str) -> Catalog:
    """Put ``text`` in the file's place, once it has been read as a catalog. Raises LaunchError."""
    try:
        with NamedTemporaryFile("w", dir=file.parent, prefix=f".{file.name}.", delete=False) as new:
            written = Path(new.name)
            new.write(text)
    except OSError as error:
        raise LaunchError(f"{file.parent} cannot be written to: {error.strerror}.") from None
    try:
        catalog = _load(str(written))
        written.chmod(file.stat().st_mode if file.exists() else 0o644)
        written.replace(file)
    finally:
        written.unlink(missing_ok=True)
    return catalog


def _load(path: str | None) -> Catalog:
    try:
        return load_catalog(path)
    except BadModel as error:
        raise LaunchError(str(error)) from None
