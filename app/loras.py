"""Whether a request's adapters can be used with its model."""

from app.service import Service
from jobs.schema import InpaintParameters


def check_loras(service: Service, parameters: InpaintParameters) -> None:
    """Read the adapters' headers, ask Redis how wide the model's layers are.

    Raises UnknownLora, InvalidLora, LoraMismatch. While no worker has loaded the model, its widths are unknown: an
    adapter of the right family is let through then, and the worker fails the job with ``bad_lora`` if it does not fit.
    """
    if not parameters.loras:
        return
    entry = service.catalog.model(parameters.model)
    files = [service.loras.file(choice.name) for choice in parameters.loras]
    widths = service.queue.store.widths(entry.source)
    for file in files:
        file.check_fits(parameters.model, entry.family, widths)
