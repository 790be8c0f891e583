"""The one error tree. Every error has a stable ``code``; ``app/problems.py`` maps the classes to HTTP statuses.

::

    InfillError
    ├── RequestError            what the caller sent cannot be used; nothing was queued
    ├── Refused                 the service cannot take the job now; try again after ``retry_after_s``
    ├── JobError                a question about a job that has no such answer
    └── JobFailure              a job that was accepted has ended without a picture
"""

from typing import ClassVar


class InfillError(Exception):
    """Base of all errors of this project. ``str(error)`` is a sentence for the caller."""

    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"


class RequestError(InfillError):
    """The request cannot be used as it is. Nothing was queued."""

    code = "invalid_request"
    title = "The request cannot be used"


class InvalidField(RequestError):
    """A form field's value is missing, of the wrong type, or out of range."""

    code = "invalid_field"
    title = "A field has a value that is not allowed"


class UnknownField(RequestError):
    """The form has a field that this API does not know."""

    code = "unknown_field"
    title = "The form has an unknown field"


class UnknownModel(RequestError):
    """The catalog has no model of that name."""

    code = "unknown_model"
    title = "There is no such model"


class UnknownLora(RequestError):
    """The folder of adapters has none of that name."""

    code = "unknown_lora"
    title = "There is no such adapter"


class InvalidLora(RequestError):
    """The adapter's file cannot be read, or is no LoRA."""

    code = "invalid_lora"
    title = "The adapter's file cannot be used"


class LoraMismatch(RequestError):
    """The adapter was made for another family, or for layers of other widths than the model's."""

    code = "lora_mismatch"
    title = "The adapter does not fit the model"


class AddressRefused(RequestError):
    """An address that the request names may not be called by this service."""

    code = "address_refused"
    title = "The address may not be called"


class FetchFailed(RequestError):
    """A picture could not be fetched from the address that the request names."""

    code = "fetch_failed"
    title = "The picture could not be fetched"


class InvalidImage(RequestError):
    """The image file cannot be decoded: not a picture, an unsupported format, or truncated."""

    code = "invalid_image"
    title = "The image cannot be read"


class InvalidMask(RequestError):
    """The mask file cannot be decoded, or lacks the channel that ``mask_mode`` names."""

    code = "invalid_mask"
    title = "The mask cannot be read"


class MaskSizeMismatch(RequestError):
    """The upright mask and the upright image differ in size."""

    code = "mask_size_mismatch"
    title = "The mask has another size than the image"


class EmptyMask(RequestError):
    """The mask asks for no pixel to be repainted."""

    code = "empty_mask"
    title = "The mask is empty"


class DoubtfulMask(RequestError):
    """The mask's values leave it open what is meant: as they are, the result would be the upload or nearly so."""

    code = "doubtful_mask"
    title = "The mask's values are doubtful"


class DoubtfulSubject(RequestError):
    """The picture shows no subject there that can be told from what surrounds it; ``score`` is how far it can."""

    code = "doubtful_subject"
    title = "No subject is found with enough certainty"

    def __init__(self, message: str, score: float = 0.0) -> None:
        super().__init__(message)
        self.score = score


class TooLarge(RequestError):
    """An upload has too many bytes or too many pixels."""

    code = "too_large"
    title = "The upload is too large"


class RequestTimeout(RequestError):
    """The request's headers or its body arrive too slowly."""

    code = "request_timeout"
    title = "The request arrives too slowly"


class NotAcceptable(RequestError):
    """The ``Accept`` header names nothing this resource can be."""

    code = "not_acceptable"
    title = "No acceptable representation"


class UnsupportedCharset(RequestError):
    """The body's text is in another charset than UTF-8, or a part's in none that is taken."""

    code = "unsupported_charset"
    title = "The charset is not taken"


class UnsupportedEncoding(RequestError):
    """The body is compressed or encoded in another way (``Content-Encoding``, ``Transfer-Encoding``)."""

    code = "unsupported_encoding"
    title = "The body's encoding is not taken"


class IdempotencyConflict(RequestError):
    """The ``Idempotency-Key`` was used before with another request body."""

    code = "idempotency_conflict"
    title = "The idempotency key was used for another request"


class Unauthorized(InfillError):
    """The call has no API key, one that is not known or was revoked, or several."""

    code = "unauthorized"
    title = "A valid API key is needed"


class Forbidden(InfillError):
    """The API key's scopes do not allow this call; or, without keys, a page of another origin sent it."""

    code = "forbidden"
    title = "This call is not allowed"


class Refused(InfillError):
    """The service cannot take the job now.

    Args:
        message: a sentence for the caller.
        retry_after_s: seconds after which another try makes sense; becomes the ``Retry-After`` header.
    """

    code = "unavailable"
    title = "The service is unavailable"

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFull(Refused):
    """As many jobs wait as are allowed to wait."""

    code = "queue_full"
    title = "The queue is full"


class RateLimited(Refused):
    """The caller's tenant has made as many calls as it may in this minute."""

    code = "rate_limited"
    title = "Too many calls in a minute"


class QuotaExceeded(Refused):
    """The caller has as many unfinished jobs as it may, or would exceed its megapixels of this day."""

    code = "quota_exceeded"
    title = "Your quota is used up"


class StoreFull(Refused):
    """Redis is too near its memory limit to take more pictures."""

    code = "store_full"
    title = "The store is full"


class StoreUnavailable(Refused):
    """Redis does not answer, or does not serve for now."""

    code = "store_unavailable"
    title = "The store does not answer"


class DecodersBusy(Refused):
    """Every process that decodes uploads was busy for too long."""

    code = "decoders_busy"
    title = "The decoders are busy"


class TooManyConnections(Refused):
    """As many connections are open as may be, or the caller has its share of them."""

    code = "too_many_connections"
    title = "Too many connections are open"


class TooManyUploads(Refused):
    """As many bytes of uploads are on their way as may be, or the caller has its share of them."""

    code = "too_many_uploads"
    title = "Too many uploads are on their way"


class SpoolFull(Refused):
    """The upload cannot be kept while it arrives: the temporary folder is full, or too many files are open."""

    code = "spool_full"
    title = "There is no room for the upload"


class Stopping(Refused):
    """The process stops, and the upload has not arrived in time."""

    code = "stopping"
    title = "The process stops"


class NoWorker(Refused):
    """A model has no living worker that could take its jobs up; they wait."""

    code = "no_worker"
    title = "A model has no worker"


class JobError(InfillError):
    """A question about a job that has no such answer."""

    code = "job_error"
    title = "The job cannot answer that"


class JobNotFound(JobError):
    """No job has this id, or its record has expired."""

    code = "job_not_found"
    title = "There is no such job"


class UploadedFileNotFound(JobError):
    """No uploaded file has this id, or it has expired."""

    code = "file_not_found"
    title = "There is no such file"


class BatchNotFound(JobError):
    """No batch has this id, or its record has expired."""

    code = "batch_not_found"
    title = "There is no such batch"


class ImageNotFound(JobError):
    """The job exists but has no image of that index."""

    code = "image_not_found"
    title = "There is no such image"


class MaskNotKept(JobError):
    """The job's mask was a file of the caller's, which is kept only until the job has ended."""

    code = "mask_not_kept"
    title = "The job's mask is not kept"


class JobNotFinished(JobError):
    """The job has no images yet."""

    code = "job_not_finished"
    title = "The job has not finished"


class StillRunning(JobError):
    """The call waits for an image and takes nothing else, and the job has not ended in time. It goes on."""

    code = "still_running"
    title = "The job is still running"


class JobAlreadyFinished(JobError):
    """The job has ended, so it cannot be canceled."""

    code = "job_already_finished"
    title = "The job has already finished"


class JobCanceled(JobError):
    """The job was canceled, so it has no images."""

    code = "job_canceled"
    title = "The job was canceled"


class ResultExpired(JobError):
    """The job succeeded, but its images have outlived their lifetime."""

    code = "result_expired"
    title = "The result has expired"


class JobFailure(InfillError):
    """An accepted job ended without a picture. ``retryable``: whether another attempt could end better."""

    code = "internal_error"
    title = "The job failed"
    retryable: ClassVar[bool] = True


class Crashed(JobFailure):
    """Every worker that took the job died with it."""

    code = "crashed"
    title = "The job took its workers down"


class DeadlineExceeded(JobFailure):
    """The job ran longer than its deadline."""

    code = "deadline_exceeded"
    title = "The job ran longer than its deadline"
    retryable = False


class OutOfMemory(JobFailure):
    """The job does not fit into the device's memory, even alone."""

    code = "out_of_memory"
    title = "The job does not fit into the device's memory"
    retryable = False


class Undecodable(JobFailure):
    """The job's record or its inputs in Redis cannot be read."""

    code = "undecodable_job"
    title = "The job's record cannot be read"
    retryable = False


class NoSurroundings(JobFailure):
    """The mask leaves nothing of the picture known, and the model paints from what surrounds a hole."""

    code = "no_surroundings"
    title = "Nothing around the hole is known"
    retryable = False


class MaskNotFound(JobFailure):
    """What ``mask_prompt`` names is not found in the photo with enough certainty; the sentence has the score."""

    code = "mask_not_found"
    title = "The words are not found in the photo"
    retryable = False


class ModelUnavailable(JobFailure):
    """The worker that took the job cannot load its model."""

    code = "model_unavailable"
    title = "The model cannot be loaded"
    retryable = False


class BadLora(JobFailure):
    """The worker cannot load one of the job's adapters, or it does not fit the model."""

    code = "bad_lora"
    title = "An adapter cannot be used with the model"
    retryable = False


class UnfitScheduler(JobFailure):
    """The job's noise scheduler ruins its model's pictures, which only the worker that loaded the model could tell."""

    code = "unfit_scheduler"
    title = "The noise scheduler does not fit the model"
    retryable = False


class NotStored(StoreFull, JobFailure):
    """The result found no room in Redis for as long as its worker kept it. Its code is ``store_full`` too."""

    title = "The result found no room in the store"
    retryable = False


class NotFinite(JobFailure):
    """The job's latents or pixels are infinite or no numbers."""

    code = "not_finite"
    title = "The picture's values are not finite"
    retryable = False


class SigningFailed(JobFailure):
    """The result could not be signed, and the operator has it that results are."""

    code = "signing_failed"
    title = "The result could not be signed"
    retryable = False


class BadCredentials(InfillError):
    """The operator's key and certificates cannot sign; raised when the worker starts."""

    code = "bad_credentials"
    title = "Results cannot be signed with this key"


class BadModel(InfillError):
    """The parts of a model do not fit together; raised when it is loaded."""

    code = "bad_model"
    title = "The model's parts do not fit together"
