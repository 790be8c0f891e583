// The photo and its mask: the stage with its tool bar and keys.

import {$, choice} from "./dom.js";
import {Input} from "./input.js";
import {Mask} from "./mask.js";
import * as paint from "./paint.js";
import {boxed, fieldsOf, withPoint} from "./selection.js";
import * as service from "./service.js";
import {Stage} from "./stage.js";
import {View} from "./view.js";

export const sides = ({width, height}) => `${width} × ${height}`;
const FIND = "Drag a box around something, or click it.";
const BESIDE = "Alt-click what does not belong to it, or hold a finger there.";
const TYPING = "input:not([type=range], [type=checkbox]), textarea, select, dialog *";

export class Editor {
  /**
   * `changed()` is called when the mask is another; `locked()`: no painting now; `told(sentence)`: what is wrong;
   * `failed(problem)`: the service did not do what it was asked; `framed(borders, still)`: the frame of an extension
   * was dragged.
   */
  constructor({changed, locked, told, failed, framed}) {
    Object.assign(this, {changed, told, failed});
    this.background = false;  // whether all but the subject is to be found, as the whole mask
    this.finding = false;
    this.locked = () => locked() || this.finding;
    this.mask = new Mask();
    this.stage = new Stage($("stage"), new View(), this.mask);
    this.input = new Input(this.stage, {
      changed: () => this.refresh(), moved: () => this.move(), locked: this.locked, framed,
      findIn: corners => this.find(boxed(corners, this.mask.size)), point: (...at) => this.point(...at),
    });
    this.edge = () => [0, 0];
    const act = (id, action) => $(id).addEventListener("click", () => action());
    const edit = (id, action) => act(id, () => { this.edit(action); });
    edit("undo", () => this.mask.undo());
    edit("redo", () => this.mask.redo());
    edit("invert", () => this.mask.add({kind: "invert"}));
    edit("clear", () => this.mask.add({kind: "clear", alone: true}));
    act("zoom-in", () => this.input.zoom(1.5));
    act("zoom-out", () => this.input.zoom(1 / 1.5));
    act("zoom-fit", () => this.fit());
    act("find-subject", () => { if (this.file && !this.locked()) this.find({points: [], box: null}); });
    act("load-mask", () => $("mask-file").click());
    act("save-mask", () => this.saveMask());
    $("mask-file").addEventListener("change", ({target}) => {
      if (target.files[0] && !this.locked()) this.loadMask(target.files[0]);
      target.value = "";
    });
    $("size").addEventListener("input", () => this.setSize($("size").valueAsNumber));
    this.choose = choice($("tools").querySelector("[role=radiogroup]"), ({dataset}) => this.setTool(dataset.tool));
    addEventListener("keydown", event => this.keydown(event));
  }

  /**
   * Opens a photo with an empty mask, or with that of a file, which may have been found by a selection. Throws for what
   * the browser cannot read.
   */
  async open(file, maskFile, selection) {
    const made = await paint.decode(file);
    this.file = file;
    this.mask.reset(made.size);
    this.input.at = null;
    this.stage.open(made);
    $("facts").textContent = sides(made.size);
    if (maskFile) await this.loadMask(maskFile, {selection, alone: Boolean(selection)});
    this.refresh();
  }

  /** Adds a file to the mask; `about`: what else is known of the shape. */
  async loadMask(file, about = {}) {
    const id = Math.random().toString(36).slice(2), {size} = this.mask;
    try {
      const {found, bitmap} = await paint.readMask(file, size);
      if (!bitmap) return this.told(`The mask has ${sides(found)} pixels, and the photo ${sides(size)}.`);
      this.mask.files.set(id, bitmap);
      this.mask.add({kind: "file", id, file, ...about});
      this.stage.redraw();
      this.refresh();
    } catch {
      this.told("This browser cannot read the mask. Use a PNG.");
    }
  }

  /** What is being selected: what was found last, unless it is the subject and now its background is wanted. */
  get selection() {
    const {selection} = this.mask;
    return selection?.background === this.background ? selection : null;
  }

  /** A point of the photo lies on the subject, or beside it. */
  point([x, y], on) {
    const {width, height} = this.mask.size, {selection} = this;
    if (x < 0 || y < 0 || x >= width || y >= height) return;
    const wanted = withPoint(selection, [x, y], on), most = this.limits?.subject_points ?? Infinity;
    if (!wanted) this.told("Click something first; then say what does not belong to it.");
    else if (wanted.points.length > most) this.told(`No more than ${most} points. Paint the rest.`);
    else this.find(wanted, selection && wanted.box === selection.box ? this.mask.shapes.at(-1) : undefined);
  }

  /** Has the service find a subject, and adds it to the mask, in place of a shape if it is the same subject. */
  async find(wanted, previous) {
    const form = new FormData(), {background} = this, selection = {...wanted, background};
    form.set("image", this.file, this.file.name || "photo");
    for (const [name, value] of Object.entries(fieldsOf(selection))) form.set(name, value);
    if (background) form.set("mask_subject", "background");
    this.setFinding(true);
    try {
      await this.loadMask(await service.findMask(form), {selection, previous, alone: background});
    } catch (problem) {
      this.failed(problem);
    } finally {
      this.setFinding(false);
    }
  }

  setFinding(finding) {
    this.finding = finding;
    this.stage.element.ariaBusy = String(finding);
    this.changed();
  }

  /** The mask as a PNG, at the photo's size. */
  maskFile() {
    return paint.maskFile(this.mask);
  }

  async saveMask() {
    const url = URL.createObjectURL(await this.maskFile());
    Object.assign(document.createElement("a"), {href: url, download: "mask.png"}).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  /** {sentence, ready}: what would be repainted, or what is to be done first. */
  plan() {
    if (!this.file) return {sentence: "Choose a photo to begin.", ready: false};
    const {coverage} = this.mask, ready = coverage > 0, finds = this.input.tool === "find";
    const covered = `The mask covers about ${Math.max(1, Math.round(100 * coverage))} % of the photo.`;
    if (ready) return {sentence: finds && this.selection ? `${covered} ${BESIDE}` : covered, ready};
    return {sentence: finds ? FIND : "Paint over what is to be repainted.", ready};
  }

  edit(action) {
    if (this.locked() || this.input.painter !== null) return;
    action();
    this.stage.redraw();
    this.refresh();
  }

  fit() {
    this.stage.view.fit();
    this.input.viewed();
  }

  setTool(tool) {
    this.input.tool = tool;
    this.choose(tool);
    this.refresh();
  }

  setSize(size) {
    this.input.size = $("size").value = Math.min(200, Math.max(4, size));
  }

  refresh() {
    const {shapes, undone} = this.mask;
    this.stage.setDots(this.selection?.points ?? []);
    $("undo").disabled = !shapes.length;
    $("redo").disabled = !undone.length;
    $("clear").disabled = !shapes.length || shapes.at(-1).kind === "clear";
    this.move();
    this.changed();
  }

  /** Follows the view. */
  move() {
    $("split").value = 100 * this.stage.split;
    this.stage.setEdge(...this.edge());
  }

  /** Keys that work wherever nothing is typed. */
  keydown(event) {
    if (!this.file || event.altKey || event.target.matches(TYPING)) return;
    const {key} = event, control = event.ctrlKey || event.metaKey;
    if (control && this.stage.framing) return;
    if (control && key.toLowerCase() === "z") (event.shiftKey ? $("redo") : $("undo")).click();
    else if (control && key.toLowerCase() === "y") $("redo").click();
    else if (control) return;
    else if (key === "[" || key === "]") this.setSize(this.input.size * (key === "[" ? 0.8 : 1.25));
    else if (key === "+" || key === "=") this.input.zoom(1.5);
    else if (key === "-") this.input.zoom(1 / 1.5);
    else if (key === "0") this.fit();
    else if (this.stage.framing) return;
    else if (key.toLowerCase() === "i") $("invert").click();
    else if (Input.tool(key)) this.setTool(Input.tool(key));
    else return;
    event.preventDefault();
  }
}
