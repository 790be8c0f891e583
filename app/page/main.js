// The page: what is opened, sent, shown and kept.

import {askForKey, onKey} from "./access.js";
import {showCode} from "./code.js";
import {$, choice, element} from "./dom.js";
import {Editor} from "./editor.js";
import {Film} from "./film.js";
import {follow, phaseOf} from "./follow.js";
import * as paint from "./paint.js";
import {offerPhotos} from "./photos.js";
import {nameOf, showFacts, showTimings, showVariants} from "./result.js";
import * as service from "./service.js";
import {Settings} from "./settings.js";
import {tell} from "./tell.js";
import "./theme.js";

const editor = new Editor({changed: () => { said = ""; refresh(); }, locked: () => running !== null, told: tell,
  failed: complain});
const settings = new Settings($("form"), () => { editor.move(); refresh(); });
const {stage} = editor;
const show = choice($("shows"), ({dataset}) => setMode(dataset.show));

let running = null;   // {id, abort}: the job that is on its way
let result = null;    // {view, images: Blobs, urls, index}: what is shown
let able = null;      // what the service can do
let said = "";        // what became of the last job, if that is no error

// ---- what is said

/** A Problem, or an error that nobody expected. */
function complain(problem) {
  if (problem.code === "unauthorized") askForKey();
  if (problem instanceof service.Problem) tell(problem.message, problem);
  else tell("Something went wrong in this page. Reload it.", {detail: String(problem.stack ?? problem)});
}

function refresh() {
  const {coverage} = editor.mask, painted = coverage > 0;
  $("go").disabled = !painted || running !== null || editor.finding || !able;
  $("tools").inert = running !== null;
  $("again").disabled = running !== null;
  $("hint").textContent = running ? "" : said ? said
    : editor.finding ? "Looking for it…"
    : !editor.file ? "Choose a photo to begin."
    : !painted ? "Paint over what is to be repainted."
    : `The mask covers about ${Math.max(1, Math.round(100 * coverage))} % of the photo.`;
}

// ---- photo

async function open(file, mask) {
  $("problem").hidden = true;
  const {image_bytes: bytes = Infinity, pixels = Infinity} = able?.limits ?? {};
  const beyond = (has, most, unit) =>
    `The photo has ${Math.ceil(has / 1e6)} ${unit}; this service takes ${Math.floor(most / 1e6)}.`;
  if (file.size > bytes) return tell(beyond(file.size, bytes, "MB"));
  try {
    $("start").hidden = true;
    $("work").hidden = false;
    forgetResult();
    await editor.open(file, mask);
    const {width, height} = editor.mask.size;
    if (width * height > pixels) tell(beyond(width * height, pixels, "megapixels"));
  } catch {
    $("start").hidden = Boolean(editor.file);
    $("work").hidden = !editor.file;
    tell("This browser cannot show the file. Save it as a PNG, JPEG or WebP.");
  }
}

offerPhotos(choosePhoto, chooseSample);

function choosePhoto(file) {
  if (running === null) open(file);
}

async function chooseSample(files) {
  try {
    await open(...await files());
    settings.setTask("remove");
  } catch (problem) {
    complain(problem);
  }
}

// ---- job

$("form").addEventListener("submit", async event => {
  event.preventDefault();
  if (running || $("go").disabled) return;
  const abort = new AbortController(), values = settings.values();
  running = {id: null, abort};
  said = "";
  $("problem").hidden = true;
  $("working").hidden = false;
  progress("Sending…", null);
  stage.element.scrollIntoView({block: "nearest"});
  setMode("paint");
  refresh();
  try {
    const mask = await editor.maskFile(), form = new FormData();
    for (const [name, value] of Object.entries(values)) form.set(name, value);
    form.set("image", editor.file, editor.file.name || "photo");
    form.set("mask", mask, "mask.png");
    const view = await service.submit(form, abort.signal);
    running.id = view.id;
    service.capabilities().then(took, () => {});  // a worker may have come or gone
    const ended = await follow(view.id, {signal: abort.signal, show: showJob, preview: showPreview,
      doubt: problem => progress(`${problem.message} Asking again…`, null)});
    await finish(ended, mask, values);
  } catch (problem) {
    if (!abort.signal.aborted) {
      complain(problem);
      if (problem.code === "invalid_field") settings.blame(problem.detail);
    } else if (abort.signal.reason instanceof service.Problem) complain(abort.signal.reason);
    else said = "Canceled.";
  } finally {
    running = null;
    $("working").hidden = true;
    stage.preview = null;
    stage.element.classList.remove("forming");
    stage.redraw();
    refresh();
  }
});

$("cancel").addEventListener("click", async () => {
  const {id, abort} = running;
  if (!id) return abort.abort();
  progress("Canceling…", null);
  try {
    await service.cancel(id);
  } catch (problem) {
    if (problem.code === "job_already_finished") return;
    abort.abort(Object.assign(problem, {message: `${problem.message} The job may go on.`, job: id}));
  }
});

function progress(text, share) {
  $("state").textContent = text;
  if (share === null) $("bar").removeAttribute("value");
  else $("bar").value = share;
}

function showJob(view) {
  const {step, steps} = view.progress;
  const model = able.models.find(({name}) => name === view.model);
  progress(phaseOf(view, !model || model.workers.length > 0), view.status === "running" && steps ? step / steps : null);
}

async function showPreview({image, box}) {
  const bitmap = element("img", {src: image});
  await bitmap.decode().catch(() => {});
  if (!running || !bitmap.naturalWidth) return;
  stage.preview = {bitmap, box};
  stage.element.classList.add("forming");
  stage.redraw();
}

async function finish(view, mask, values) {
  if (view.status === "canceled") return void (said = "Canceled.");
  if (view.status === "failed")
    return complain(new service.Problem({code: view.error.code, detail: view.error.message}));
  const images = await Promise.all(view.images.map(service.picture));
  await present(view, images);
  const entry = {name: editor.file.name, photo: editor.file, mask, images, view, values};
  await film.add(entry);
}

// ---- result

async function present(view, images, index = 0) {
  forgetResult();
  result = {view, images, urls: images.map(image => URL.createObjectURL(image)), index};
  $("result").hidden = $("shows").hidden = false;
  showTimings(view);
  await pick(index);
  const [left, , right] = view.mask.bbox;
  stage.split = (left + right) / 2 / editor.mask.size.width;
  editor.move();
  setMode("compare");
}

async function pick(index) {
  result.index = index;
  const {view, images, urls} = result;
  stage.setAfter((await paint.decode(images[index])).bitmap);
  showVariants(result, number => pick(number).catch(complain));
  showFacts(view, index);
  $("save").href = urls[index];
  $("save").download = nameOf(editor.file.name, index, images.length);
}

function forgetResult() {
  result?.urls.forEach(URL.revokeObjectURL);
  result = null;
  $("result").hidden = $("shows").hidden = true;
  setMode("paint");
}

function setMode(mode) {
  stage.mode = result ? mode : "paint";
  stage.element.dataset.mode = stage.mode;
  show(stage.mode);
  $("tools").hidden = stage.mode !== "paint";
  $("outcome").hidden = !result || stage.mode === "paint";
  $("split").hidden = stage.mode !== "compare";
  stage.redraw();
  refresh();
}

$("split").addEventListener("input", ({target}) => { stage.split = target.value / 100; stage.redraw(); });
$("again").addEventListener("click", async () => {
  const {images, index} = result;
  await open(new File([images[index]], nameOf(editor.file.name, 0, 1), {type: images[index].type}));
});

// ---- what is kept, and code

const film = new Film(async entry => {
  if (running) return;
  await open(new File([entry.photo], entry.name, {type: entry.photo.type}), entry.mask);
  await present(entry.view, entry.images);
});

showCode(() => ({photo: editor.file?.name || "photo.png", values: settings.values()}));

// ---- what the service can do

function took(found) {
  able = found;
  $("takes").textContent = `PNG, JPEG or WebP, up to ${Math.floor(able.limits.image_bytes / 2 ** 20)} MB.`;
  settings.take(able);
  refresh();
}

async function learn() {
  try {
    took(await service.capabilities());
  } catch (problem) {
    problem.code === "unauthorized" && !service.key.get() ? askForKey() : complain(problem);
  }
}

onKey(() => { $("problem").hidden = true; learn(); });
editor.edge = () => settings.edge;
editor.refresh();
await learn();
await film.list();
