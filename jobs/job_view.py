"""The job as the API shows it, put together from RQ's record, the store's progress and the worker's report."""

from datetime import datetime

from pydantic import Field, ValidationError
from rq.exceptions import DeserializationError
from rq.job import Job
from rq.job import JobStatus as RqStatus

from jobs.deliveries import DeliveryReport, deliveries_of
from jobs.errors import Crashed, Undecodable
from jobs.passes import steps_of
from jobs.queue import JobQueue, parameters_of
from jobs.schedulers import SCHEDULERS
from jobs.schema import (
    Approximation,
    Extension,
    InpaintParameters,
    JobProblem,
    JobReport,
    JobStatus,
    MaskReport,
    OutputFormat,
    PictureReport,
    Priority,
    Progress,
    PromptTokens,
    Record,
    RegionReport,
    Timings,
)


class ImageLink(Record):
    url: str
    width: int
    height: int
    content_type: str
    bytes: int


class JobView(Record):
    """The job as the API shows it."""

    id: str
    url: str = Field(description="Its address, without the host.")
    status: JobStatus
    model: str
    instead_of: str | None = Field(
        description="The default model, whose catalog entry leaves this task to `model`; null: it does not."
    )
    priority: Priority = Field(description="low: it waits behind all jobs of normal priority.")
    attempt: int = Field(description="How often a worker has taken the job up; 0 while it has not been.")
    queue_position: int | None = Field(description="Jobs ahead of it in the queue; null once it has left it.")
    progress: Progress
    seeds: list[int]
    uses_seeds: bool = Field(
        description="false: the model draws nothing at random; the picture is the same for any seed."
    )
    output_format: OutputFormat = Field(description="Of the images.")
    approximate: list[Approximation] = Field(description="What the request gave up for speed; empty: nothing.")
    mask: MaskReport
    extend: Extension | None = Field(description="The borders that the photo gets; null: it is no extension.")
    region: RegionReport | None = Field(description="What was run, and at how many pixels; null until it has ended.")
    picture: PictureReport | None = Field(description="How the photo was read; null until it has ended.")
    prompt_tokens: PromptTokens | None = Field(
        description="Of the text encoder that reads least of the prompt; null until it has ended."
    )
    negative_prompt_tokens: PromptTokens | None = Field(description="The same; null where it has no effect.")
    images: list[ImageLink]
    timings: Timings | None
    error: JobProblem | None
    deliveries: list[DeliveryReport] = Field(description="What was asked to be sent out at the end.")
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class JobSummary(Record):
    """A job in a list of many."""

    id: str
    status: JobStatus
    model: str | None = Field(description="null: the job's record cannot be read.")
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


STATUS = {
    RqStatus.STARTED: JobStatus.RUNNING,
    RqStatus.FINISHED: JobStatus.SUCCEEDED,
    RqStatus.FAILED: JobStatus.FAILED,
    RqStatus.CANCELED: JobStatus.CANCELED,
    RqStatus.STOPPED: JobStatus.CANCELED,
}


def status_of(job: Job) -> JobStatus:
    """As RQ has it, which does not know of models that are being loaded."""
    return STATUS.get(job.get_status(refresh=False), JobStatus.QUEUED)


def summary_of(job: Job) -> JobSummary:
    try:
        model = _submitted(job)[0].model
    except Undecodable:
        model = None
    return JobSummary(
        id=job.id,
        status=status_of(job),
        model=model,
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
    )


def view_job(queue: JobQueue, job_id: str) -> JobView:
    """Read one job. Raises JobNotFound, Undecodable."""
    return view_of(queue, queue.job(job_id))


def view_of(queue: JobQueue, job: Job) -> JobView:
    """A job that has been read, with its progress, position and prediction. Raises Undecodable."""
    job_id = job.id
    parameters, uploaded_mask = _submitted(job)
    status = status_of(job)
    report = job_report(job) if status is JobStatus.SUCCEEDED else None
    progress = queue.store.progress(job_id)
    if status is JobStatus.RUNNING and progress.get("loading"):
        status = JobStatus.LOADING
    waits = status is JobStatus.QUEUED
    eta_ms = queue.eta.eta_ms(job_id) if waits else progress.get("eta_ms")
    return JobView(
        id=job_id,
        url=(url := f"{queue.settings.root_path}/v1/jobs/{job_id}"),
        status=status,
        model=parameters.model,
        instead_of=parameters.instead_of,
        priority=job.meta.get("priority", "normal"),
        attempt=int(progress.get("attempt", 0)),
        queue_position=queue.position(job_id) if waits else None,
        progress=_progress(parameters, progress, report, eta_ms),
        seeds=parameters.seeds,
        uses_seeds=SCHEDULERS[parameters.scheduler].law != "none",
        output_format=parameters.output_format,
        approximate=_approximate(job, report),
        extend=parameters.extend,
        region=report.region if report else None,
        mask=_mask(uploaded_mask, report),
        picture=report.picture if report else None,
        prompt_tokens=report.prompt_tokens if report else None,
        negative_prompt_tokens=report.negative_prompt_tokens if report else None,
        images=image_links(url, report),
        timings=report.timings if report else None,
        error=_problem(job) if status is JobStatus.FAILED else None,
        deliveries=queue.deliveries.reports(job_id, deliveries_of(job.meta)),
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
    )


def _submitted(job: Job) -> tuple[InpaintParameters, MaskReport]:
    """What the job was submitted with."""
    try:
        return parameters_of(job), MaskReport.model_validate(job.meta.get("mask"))
    except (ValidationError, DeserializationError) as error:
        raise Undecodable("The job's record in Redis cannot be read.") from error


def job_report(job: Job) -> JobReport | None:
    """The worker's report of a job that succeeded; None while there is none."""
    value = job.return_value()
    return JobReport.model_validate(value) if value else None


def _mask(uploaded: MaskReport, report: JobReport | None) -> MaskReport:
    """The effective mask once there is one; how the upload was read stays with it."""
    names = {"scale", "threshold", "sources", "subject", "snapped", "prompt", "model"}
    names |= set() if uploaded.prompt else {"score"}  # that of words is the worker's
    read = {name: getattr(uploaded, name) for name in names}
    return report.mask.model_copy(update=read) if report else uploaded


def _approximate(job: Job, report: JobReport | None) -> list[Approximation]:
    """As the worker reports it; until then, what was known at submission."""
    known = report.approximate if report else None
    return job.meta.get("approximate", []) if known is None else known


def image_links(job_url: str, report: JobReport | None) -> list[ImageLink]:
    return [
        ImageLink(
            url=f"{job_url}/images/{index}",
            width=image.width,
            height=image.height,
            content_type=image.content_type,
            bytes=image.size_bytes,
        )
        for index, image in enumerate(report.images if report else [])
    ]


def _progress(
    parameters: InpaintParameters, progress: dict[str, float], report: JobReport | None, eta_ms: float | None
) -> Progress:
    if report:
        return Progress(step=report.timings.steps, steps=report.timings.steps, eta_ms=0.0)
    return Progress(
        step=int(progress.get("step", 0)),
        steps=int(progress.get("steps", steps_of(parameters) if parameters.tiles else parameters.num_inference_steps)),
        eta_ms=eta_ms,
        preview_step=int(progress["preview_step"]) if "preview_step" in progress else None,
    )


def _problem(job: Job) -> JobProblem:
    """The worker leaves a JobProblem as the failure's text; anything else is RQ's word on a worker that died."""
    result = job.latest_result()
    text = (result.exc_string if result else None) or ""
    if text.startswith("{"):
        return JobProblem.model_validate_json(text)
    return JobProblem(code=Crashed.code, message="Every worker that took the job died while it ran.")
