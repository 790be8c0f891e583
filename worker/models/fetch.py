"""``python -m worker.models.fetch CATALOG NAME...``: what ``infill models fetch`` runs.

It downloads what a worker would at its first load, with the same code, into the hub's cache (``HF_HOME``).
"""

import sys

from jobs.catalog import ModelEntry, load_catalog
from jobs.errors import InfillError
from worker.families.registry import FAMILIES
from worker.models.sources import download


def main() -> int:
    """Returns the exit status; a model that cannot be had does not hold up the next one."""
    catalog, *names = sys.argv[1:]
    failed = False
    try:
        entries = {name: load_catalog(catalog or None).model(name) for name in names}
    except InfillError as error:
        return _fail(str(error))
    for name, entry in entries.items():
        try:
            print(fetch(name, entry), flush=True)
        except InfillError as error:
            failed = bool(_fail(f"{name}: {error}"))
    return int(failed)


def fetch(name: str, entry: ModelEntry) -> str:
    """Download a model, unless it is there, and say where it is. Raises BadModel."""
    if entry.source_kind != "hub":
        return f"{name}: {entry.source} is no hub id; there is nothing to download"
    kind = FAMILIES[entry.family]
    return f"{name}: {download(kind.pipeline_class, entry, kind.load_options)}"


def _fail(sentence: str) -> int:
    print(f"infill: {sentence}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
