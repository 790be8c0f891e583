// The page: what is opened, sent, shown and kept.

import {askForKey, onKey} from "./access.js";
import {showCode} from "./code.js";
import {$, element} from "./dom.js";
import {Editor} from "./editor.js";
import {Extension} from "./extension.js";
import {Film} from "./film.js";
import {follow, phaseOf} from "./follow.js";
import {Outcome} from "./outcome.js";
import {offerPhotos} from "./photos.js";
import {fieldsOf, selectionOf} from "./selection.js";
import * as service from "./service.js";
import {Settings} from "./settings.js";
import {tell} from "./tell.js";
import "./theme.js";

let running = null;   // {id, abort, borders}: the job that is on its way
let able = null;      // what the service can do
let frame = "";       // what an extension is to be, as it was last looked at
let said = "";        // what became of the last job, if that is no error

const editor = new Editor({changed: () => { said = ""; refresh(); }, locked: () => running !== null, told: tell,
  failed: complain, framed: (borders, still) => { extension.setBorders(borders); surround(still); refresh(); }});
const {stage} = editor;
const outcome = new Outcome(editor, {changed: () => { surround(); editor.move(); refresh(); }, failed: complain});
const settings = new Settings($("form"), changed);
const extension = new Extension(changed);

// ---- what is said

/** A Problem, or an error that nobody expected. */
function complain(problem) {
  if (problem.code === "unauthorized") askForKey();
  if (problem instanceof service.Problem) tell(problem.message, problem);
  else tell("Something went wrong in this page. Reload it.", {detail: String(problem.stack ?? problem)});
}

/** The form has other values, or another task. */
function changed() {
  const task = $("work").dataset.doing = settings.task, background = task === "replace_background";
  if (background && !editor.background) editor.setTool("find");
  editor.background = background;
  const wanted = task === "extend" ? JSON.stringify(extension.values) : "";
  if (wanted && wanted !== frame) outcome.setMode("paint");
  else surround();
  frame = wanted;
  editor.refresh();
}

/** Shows the borders of an extension: of the one that was made, or is on its way, or that is asked for. */
function surround(still) {
  const asked = settings.task === "extend" ? extension.borders : null;
  stage.setBorders(running ? running.borders : stage.mode === "paint" ? asked : outcome.shown.view.extend, still);
}

function refresh() {
  const {sentence, ready} = (settings.task === "extend" && editor.file ? extension : editor).plan(able?.limits);
  $("go").disabled = !ready || running !== null || editor.finding || !able;
  $("tools").inert = running !== null;
  $("find-subject").disabled = !editor.file || editor.locked();
  $("again").disabled = editor.locked();
  $("hint").textContent = running ? "" : said ? said : editor.finding ? "Looking for it…" : sentence;
}


// ---- photo

async function open(file, mask, selection) {
  $("problem").hidden = true;
  const {image_bytes: bytes = Infinity, pixels = Infinity} = able?.limits ?? {};
  const beyond = (has, most, unit) =>
    `The photo has ${Math.ceil(has / 1e6)} ${unit}; this service takes ${Math.floor(most / 1e6)}.`;
  if (file.size > bytes) return tell(beyond(file.size, bytes, "MB"));
  try {
    $("start").hidden = true;
    $("work").hidden = false;
    outcome.forget();
    await editor.open(file, mask, selection);
    const {width, height} = extension.photo = editor.mask.size;
    changed();
    if (width * height > pixels) tell(beyond(width * height, pixels, "megapixels"));
  } catch {
    $("start").hidden = Boolean(editor.file);
    $("work").hidden = !editor.file;
    tell("This browser cannot show the file. Save it as a PNG, JPEG or WebP.");
  }
}

offerPhotos(choosePhoto, chooseExample);

function choosePhoto(file) {
  if (!editor.locked()) open(file);
}

async function chooseExample({files, values}) {
  try {
    await open(...await files());
    restore(values);
  } catch (problem) {
    complain(problem);
  }
}

/** Sets the form to the fields of a request. */
function restore(values) {
  settings.restore(values);
  extension.set(values);
  changed();
}

// ---- job

/** The fields that are sent; `masked`: and the mask that was painted. */
function asked() {
  const {task, ...others} = settings.values(), {selection} = editor.mask;
  if (task === "extend") return {values: {task, ...extension.values, ...others}, masked: false};
  if (task !== "replace_background") return {values: {...(task && {task}), ...others}, masked: true};
  // a mask that was painted, or painted over, is sent as such, which is a fill: the service finds masks, or takes them
  return selection?.background ? {values: {task, ...fieldsOf(selection), ...others}, masked: false}
    : {values: others, masked: true};
}

$("form").addEventListener("submit", async event => {
  event.preventDefault();
  if (running || $("go").disabled) return;
  const abort = new AbortController(), {values, masked} = asked();
  running = {id: null, abort, borders: settings.task === "extend" ? extension.borders : null};
  said = "";
  $("problem").hidden = true;
  $("working").hidden = false;
  progress("Sending…", null);
  stage.element.scrollIntoView({block: "nearest"});
  outcome.setMode("paint");
  try {
    const mask = values.task === "extend" ? null : await editor.maskFile(), form = new FormData();
    for (const [name, value] of Object.entries(values)) form.set(name, value);
    form.set("image", editor.file, editor.file.name || "photo");
    if (masked) form.set("mask", mask, "mask.png");
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
  await outcome.present(view, images);
  const entry = {name: editor.file.name, photo: editor.file, mask, images, view, values};
  await film.add(entry);
}

// ---- what is kept, and code

const film = new Film(async entry => {
  if (editor.locked()) return;
  const {name, photo, mask, values, view, images} = entry, found = values.task === "replace_background";
  await open(new File([photo], name, {type: photo.type}), mask, found ? selectionOf(values) : undefined);
  restore(values);
  await outcome.present(view, images);
});

$("again").addEventListener("click", () => open(outcome.file()));

showCode(() => ({photo: editor.file?.name || "photo.png", ...asked()}));

// ---- what the service can do

function took(found) {
  able = found;
  $("takes").textContent = `PNG, JPEG or WebP, up to ${Math.floor(able.limits.image_bytes / 2 ** 20)} MB.`;
  editor.limits = able.limits;
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
changed();
await learn();
await film.list();
