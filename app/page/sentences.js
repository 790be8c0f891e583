// What went wrong, for people. Keys are the codes of docs/api.md, "Problems".

const SENTENCES = {
  // the photo and the mask
  too_large: "The photo is too large for this service, in bytes or in pixels. Try a smaller one.",
  invalid_image: "The service cannot read this photo. Save it as a PNG or JPEG and try again.",
  invalid_mask: "The service cannot read this mask. Save it as a PNG and try again.",
  mask_size_mismatch: "The mask has another size than the photo.",
  empty_mask: "Nothing is painted over yet, so there is nothing to repaint.",
  doubtful_mask: "The mask is so faint that hardly anything would change. Paint it more strongly.",
  doubtful_subject: "Nothing there stands out clearly enough. Drag a box around it, or paint over it.",
  mask_not_kept: "The service has not kept this mask.",
  file_not_found: "The file is not there any more.",
  mask_not_found: "Those words are not found clearly enough. Send other words, or paint over it.",
  no_surroundings: "All of the photo is painted over, and this model paints from what surrounds a hole. Leave a part.",
  fetch_failed: "The picture could not be fetched.",
  address_refused: "This service does not fetch pictures from there.",
  // the settings
  invalid_field: "One of the settings has a value that does not work here.",
  unknown_field: "This service does not have one of the settings. Reload the page.",
  unknown_model: "The model is not there any more. Reload the page.",
  unknown_lora: "The adapter is not there any more. Reload the page.",
  invalid_lora: "The adapter's file cannot be used.",
  lora_mismatch: "The adapter does not fit this model. Choose another one.",
  bad_lora: "The adapter does not fit this model. Choose another one.",
  unfit_scheduler: "The noise scheduler does not fit this model. Choose another one.",
  invalid_request: "The service cannot use this request.",
  // the caller
  unauthorized: "The service asks for an API key. Enter one in the settings.",
  forbidden: "The API key does not allow this.",
  rate_limited: "Too many calls in a minute.",
  too_many_requests: "Too many calls at once.",
  quota_exceeded: "Your quota is used up.",
  // the service is busy
  queue_full: "Too many jobs are waiting already.",
  store_full: "The service has no room for another photo now.",
  store_unavailable: "The service cannot take jobs at the moment. Jobs that it has taken are safe.",
  decoders_busy: "The service is busy reading other photos.",
  too_many_uploads: "Too many photos are on their way to the service.",
  too_many_connections: "Too many callers are connected to the service.",
  spool_full: "The service has no room for the upload.",
  stopping: "The service is being restarted.",
  unavailable: "The service cannot take the job now.",
  no_worker: "No worker serves this model at the moment.",
  // the job
  crashed: "The workers that took the job broke down. It may be too large for them: try a smaller mask.",
  model_unavailable: "The model could not be loaded. Choose another one, or ask whoever runs this service.",
  deadline_exceeded: "It took longer than this service allows. Try fewer steps or a smaller mask.",
  out_of_memory: "It does not fit into the worker's memory. Try a smaller mask.",
  not_finite: "The model's result is not a picture. Try other settings: less guidance, another noise scheduler.",
  undecodable_job: "The worker cannot read the photo. Save it as a PNG or JPEG and try again.",
  signing_failed: "The result could not be signed, so it is not shown. Ask whoever runs this service.",
  bad_credentials: "The service's key does not work. Ask whoever runs this service.",
  bad_model: "The model's files do not fit together. Ask whoever runs this service.",
  internal_error: "Something went wrong inside the service.",
  job_not_found: "The job is not there any more.",
  batch_not_found: "The batch is not there any more.",
  job_error: "The job cannot do that.",
  job_not_finished: "The job has not ended yet.",
  job_canceled: "The job was canceled.",
  job_already_finished: "The job has ended already.",
  still_running: "The job is still running.",
  image_not_found: "The job has no such picture.",
  result_expired: "The result is not kept any longer. Press Repaint to make it again.",
  idempotency_conflict: "The service has seen this request with other content.",
  // the page's own mistakes
  malformed_request: "The upload did not arrive as it was sent. Try again.",
  request_timeout: "The upload was too slow for this service. Try a smaller photo, or a better connection.",
  headers_too_large: "The request was too large for this service.",
  not_found: "There is nothing at this address. Reload the page.",
  method_not_allowed: "The service does not know this call. Reload the page.",
  not_acceptable: "The service cannot answer in this form. Reload the page.",
  unsupported_media_type: "The service cannot read this form. Reload the page.",
  unsupported_charset: "The service cannot read this text.",
  unsupported_encoding: "The service cannot read this form.",
  range_not_satisfiable: "The service has no such part of the file.",
};

const STATUSES = {
  401: "Something before the service asks for a login.",
  403: "Something before the service does not allow this.",
  413: "The photo is too large for a server on the way to the service. Try a smaller one.",
  429: "Too many calls at once. Wait a little and try again.",
  502: "The service is not running, or cannot be reached.",
  503: "The service is not running, or is too busy.",
  504: "The service took too long to answer.",
};

/** A sentence for a code of the service, or for a bare status; neither: nothing answered. */
export function sentenceOf(code, status, retryAfter) {
  if (SENTENCES[code]) return SENTENCES[code] + (retryAfter ? ` Try again in ${retryAfter} s.` : "");
  if (!status) return "The service does not answer.";
  return `${STATUSES[status] ?? "The service, or something on the way to it, answered with an error."} (${status})`;
}
