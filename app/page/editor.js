// The photo and its mask: the stage with its tool bar and keys.

import {$, choice} from "./dom.js";
import {Input} from "./input.js";
import {Mask} from "./mask.js";
import * as paint from "./paint.js";
import * as service from "./service.js";
import {Stage} from "./stage.js";
import {View} from "./view.js";

const sides = ({width, height}) => `${width} × ${height}`;
const TYPING = "input:not([type=range], [type=checkbox]), textarea, select, dialog *";

export class Editor {
  /**
   * `changed()` is called when the mask is another; `locked()`: no painting now; `told(sentence)`: what is wrong;
   * `failed(problem)`: the service did not do what it was asked.
   */
  constructor({changed, locked, told, failed}) {
    Object.assign(this, {changed, told, failed});
    this.finding = false;
    this.locked = () => locked() || this.finding;
    this.mask = new Mask();
    this.stage = new Stage($("stage"), new View(), this.mask);
    this.input = new Input(this.stage, {
      changed: () => this.refresh(), moved: () => this.move(), find: (...at) => this.find(...at), locked: this.locked,
    });
    this.edge = () => [0, 0];
    const act = (id, action) => $(id).addEventListener("click", () => action());
    const edit = (id, action) => act(id, () => { this.edit(action); });
    edit("undo", () => this.mask.undo());
    edit("redo", () => this.mask.redo());
    edit("invert", () => this.mask.add({kind: "invert"}));
    edit("clear", () => this.mask.add({kind: "clear"}));
    act("zoom-in", () => this.input.zoom(1.5));
    act("zoom-out", () => this.input.zoom(1 / 1.5));
    act("zoom-fit", () => this.fit());
    act("load-mask", () => $("mask-file").click());
    act("save-mask", () => this.saveMask());
    $("mask-file").addEventListener("change", ({target}) => {
      if (target.files[0]) this.loadMask(target.files[0]);
      target.value = "";
    });
    $("size").addEventListener("input", () => this.setSize($("size").valueAsNumber));
    this.choose = choice($("tools").querySelector("[role=radiogroup]"), ({dataset}) => this.setTool(dataset.tool));
    addEventListener("keydown", event => this.keydown(event));
  }

  /** Opens a photo with an empty mask, or with that of a file. Throws for what the browser cannot read. */
  async open(file, maskFile) {
    const made = await paint.decode(file);
    this.file = file;
    this.mask.reset(made.size);
    this.input.at = null;
    this.stage.open(made);
    $("facts").textContent = sides(made.size);
    if (maskFile) await this.loadMask(maskFile);
    this.refresh();
  }

  /** Sets the mask to a file's. */
  async loadMask(file) {
    const id = Math.random().toString(36).slice(2), {size} = this.mask;
    try {
      const {found, bitmap} = await paint.readMask(file, id, size);
      if (!bitmap) return this.told(`The mask has ${sides(found)} pixels, and the photo ${sides(size)}.`);
      this.mask.files.set(id, bitmap);
      this.edit(() => this.mask.add({kind: "file", id}));
    } catch {
      this.told("This browser cannot read the mask. Use a PNG.");
    }
  }

  /** Has the service find what lies in a box, or at a point, and adds it to the mask. */
  async find(corners, clicked) {
    const form = new FormData(), {width, height} = this.mask.size;
    const within = (at, length) => Math.min(length, Math.max(0, at));
    const [[ax, ay], [bx, by]] = corners.map(([x, y]) => [within(x, width), within(y, height)]);
    form.set("image", this.file, this.file.name || "photo");
    if (clicked) form.set("mask_points", JSON.stringify([[ax, ay, 1]]));
    else form.set("mask_box", JSON.stringify([Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)]));
    this.setFinding(true);
    try {
      const found = await service.findMask(form);
      this.setFinding(false);
      await this.loadMask(found);
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
  }

  setSize(size) {
    this.input.size = $("size").value = Math.min(200, Math.max(4, size));
  }

  refresh() {
    const {shapes, undone} = this.mask;
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
    if (control && key.toLowerCase() === "z") (event.shiftKey ? $("redo") : $("undo")).click();
    else if (control && key.toLowerCase() === "y") $("redo").click();
    else if (control) return;
    else if (key === "[" || key === "]") this.setSize(this.input.size * (key === "[" ? 0.8 : 1.25));
    else if (key === "+" || key === "=") this.input.zoom(1.5);
    else if (key === "-") this.input.zoom(1 / 1.5);
    else if (key === "0") this.fit();
    else if (key.toLowerCase() === "i") $("invert").click();
    else if (Input.tool(key)) this.setTool(Input.tool(key));
    else return;
    event.preventDefault();
  }
}
