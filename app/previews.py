"""A job's previews for a caller who follows it: asked of its worker, and read as they come."""

from collections.abc import AsyncIterator

import anyio.to_thread

from app.backend import Backend
from app.feeds import Seen
from app.follow import watch
from jobs.previews import PREVIEWS, Preview, due


async def watch_with_previews(
    backend: Backend, job_id: str, count: int = PREVIEWS
) -> AsyncIterator[Seen | Preview | None]:
    """What ``watch`` yields, and the previews of a job that has not ended: ``count``, evenly spaced over its steps.

    One that its worker makes after that many steps may be late, or missed if the job is quick. An attempt that follows
    a worker's death has its own.
    """
    previews, asked, shown = backend.queue.store.previews, False, 0
    async for seen in watch(backend, job_id):
        if seen is None:
            yield None
            continue
        progress, ended = seen.view.progress, seen.view.status.ended
        if not (asked or ended):
            await anyio.to_thread.run_sync(previews.ask, job_id)
            asked = True
        number = 0 if progress.preview_step is None else due(progress.preview_step, progress.steps, count)
        if number not in (0, shown) and not ended and (text := await anyio.to_thread.run_sync(previews.latest, job_id)):
            yield Preview.model_validate_json(text)
        shown = number
        yield seen
