"""Whether a request's adapters can be used with its model."""

from app.backend import Backend
from jobs.schema import InpaintParameters


def check_loras(backend: Backend, parameters: InpaintParameters) -> None:
    """Read the adapters' headers, ask Redis how wide the model's layers are.

    Raises UnknownLora, InvalidLora, LoraMismatch. While no worker has loaded the model, its widths are unknown: an
    adapter of the right family is let through then, and the worker fails the job with ``bad_lora`` if it does not fit.
    """
    if not parameters.loras:
        return
    entry = backend.catalog.model(parameters.model)
    files = [backend.loras.file(choice.name) for choice in parameters.loras]
    widths = backend.queue.store.known.widths(entry.source)
    for file in files:
        file.check_fits(parameters.model, entry.family, widths)
