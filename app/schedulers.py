"""Which noise schedulers a request may name, by what the workers have found of each model."""

from app.backend import Backend
from jobs.schedulers import check_scheduler
from jobs.schema import InpaintParameters


def offered_schedulers(backend: Backend) -> dict[str, list[str]]:
    """Names of the schedulers by model. While no worker has loaded a model: those that its catalog entry lets hope."""
    models = backend.catalog.models
    found = backend.queue.store.known.schedulers([entry.source for entry in models.values()])
    return {name: entry.offered(found.get(entry.source)) for name, entry in models.items()}


def check_found_scheduler(backend: Backend, parameters: InpaintParameters) -> None:
    """Raise InvalidField for a scheduler that a worker has found not to fit the model.

    While none has loaded it, that is not known: the worker that does fails the job with ``unfit_scheduler``. Redis is
    not asked where the catalog has the answer: a model does not load with a scheduler of its entry that does not fit.
    """
    entry = backend.catalog.model(parameters.model)
    if parameters.scheduler == entry.scheduler or entry.schedulers is not None:
        return
    found = backend.queue.store.known.schedulers([entry.source]).get(entry.source)
    check_scheduler(parameters.scheduler, entry.family, parameters.num_inference_steps, found)
