// A job from its submission to its end: by events, and by asking where the stream cannot be had or broke.

import {askJson, stream} from "./service.js";

const PAUSE_MS = 1000;
const TRIES = 30;

const pause = () => new Promise(done => setTimeout(done, PAUSE_MS));

/**
 * The job as it ended. `show(view)` is called at each change, `preview(picture)` as it forms, `doubt(problem)` where it
 * cannot be seen for the moment. Throws a Problem once that has lasted, and what `signal` was aborted with.
 */
export async function follow(id, {show, preview, doubt, signal}) {
  for await (const {type, data} of stream(id, signal)) {
    if (type === "end") return data;
    if (type === "progress") show(data);
    if (type === "preview") preview(data);
  }
  for (let failed = 0;;) {
    try {
      const view = await askJson(`v1/jobs/${id}`, {signal});
      if (view.ended_at) return view;
      failed = 0;
      show(view);
    } catch (problem) {
      signal.throwIfAborted();
      if (problem.final) throw problem;
      if (++failed >= TRIES)
        throw Object.assign(problem, {message: `${problem.message} The job may still end well.`, job: id});
      doubt(problem);
    }
    await pause();
    signal.throwIfAborted();
  }
}

function seconds(ms) {
  if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`;
  return ms < 90_000 ? `${Math.round(ms / 1000)} s` : `${Math.round(ms / 60_000)} min`;
}

/** What a job does now, in words. `served`: whether a living worker has its model. */
export function phaseOf(view, served) {
  const {step, steps, eta_ms: eta} = view.progress;
  const left = eta ? `, about ${seconds(eta)} to go` : "";
  const again = view.attempt > 1 ? ` (attempt ${view.attempt}: a worker was lost)` : "";
  if (view.status === "queued") {
    if (!served) return "Waiting: no worker serves this model at the moment";
    return view.queue_position ? `Waiting, ${view.queue_position} ahead${left}` : `Waiting for a worker${left}`;
  }
  if (view.status === "loading") return "The worker loads a model";
  if (!step) return `Reading the photo${left}${again}`;
  return (step < steps ? `Step ${step} of ${steps}` : "Putting it into the photo") + left + again;
}
