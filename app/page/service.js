// Calls of the service. Addresses are relative to the page's, so that it works below any path.

import {sentenceOf} from "./sentences.js";

const KEY = "infill-key";
const CALL_MS = 30_000;       // a call that has a small answer
const UPLOAD_MS = 330_000;    // the service itself gives a body 300 s to arrive
const SILENT_MS = 40_000;     // an event stream sends a comment every 15 s; a proxy may swallow it

/** Why a call failed: a sentence for people, and what the service, or something before it, answered. */
export class Problem extends Error {
  constructor(answer, status) {
    super(sentenceOf(answer?.code, status, answer?.retryAfter));
    this.code = answer?.code;
    this.detail = answer?.detail;
    this.status = status;
  }

  /** Whether asking again cannot help. */
  get final() {
    return this.status >= 400 && this.status < 500 && ![408, 429].includes(this.status);
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: text => text ? sessionStorage.setItem(KEY, text) : sessionStorage.removeItem(KEY),
};

async function send(address, {timeout = CALL_MS, signal, ...options} = {}) {
  const signals = [signal, timeout && AbortSignal.timeout(timeout)].filter(Boolean);
  const headers = {...options.headers, ...(key.get() && {Authorization: `Bearer ${key.get()}`})};
  try {
    return await fetch(address, {...options, headers, signal: AbortSignal.any(signals)});
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem({detail: String(error)});
  }
}

/** A good answer of this type. All others, a proxy's page included, throw a Problem. */
export async function ask(address, options, type = "application/json") {
  const response = await send(address, options);
  if (response.ok && response.headers.get("content-type")?.startsWith(type)) return response;
  const answer = await response.json().catch(() => null);
  const retryAfter = Number(response.headers.get("retry-after")) || undefined;
  throw new Problem({code: answer?.code, detail: answer?.detail ?? answer?.title, retryAfter}, response.status);
}

export const askJson = async (address, options) => (await ask(address, options)).json();

export const capabilities = () => askJson("v1/capabilities");

export const submit = (form, signal) => askJson("v1/inpaint", {method: "POST", body: form, timeout: UPLOAD_MS, signal});

export const findMask = async form =>
  (await ask("v1/masks", {method: "POST", body: form, timeout: UPLOAD_MS}, "image/png")).blob();

export const cancel = id => askJson(`v1/jobs/${id}`, {method: "DELETE"});

export const picture = async image => (await ask(image.url, {timeout: UPLOAD_MS}, image.content_type)).blob();

/** What a stream of server-sent events brings: {type, data}, and null for a comment. */
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = "";;) {
    const {value, done} = await reader.read();
    if (done) return;
    const blocks = (text + value).replaceAll("\r\n", "\n").split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map(line => /^(\w*): ?(.*)$/.exec(line)?.slice(1) ?? []));
      yield fields.data ? {type: fields.event, data: JSON.parse(fields.data)} : null;
    }
  }
}

/** The job's events, with previews. Ends where the stream ends, breaks or stays silent. */
export async function* stream(id, signal) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENT_MS);
  try {
    const options = {signal: AbortSignal.any([signal, silence.signal]), timeout: 0};
    const response = await ask(`v1/jobs/${id}/events?preview=1`, options, "text/event-stream");
    for await (const event of eventsOf(response)) {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENT_MS);
      if (event) yield event;
    }
  } catch {
    signal.throwIfAborted();
  } finally {
    clearTimeout(timer);
    silence.abort();
  }
}
