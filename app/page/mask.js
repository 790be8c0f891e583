// The mask that is being painted: shapes, and what was undone of them.

import {drawMask} from "./shapes.js";

const SIDE = 256;  // of the picture that is looked at to see how much is covered

export class Mask {
  constructor() {
    this.size = {width: 0, height: 0};
    this.files = new Map();
    this.reset(this.size);
  }

  /** An empty mask for a photo of this size. */
  reset(size) {
    this.size = size;
    this.shapes = [];
    this.undone = [];
    this.draft = null;  // the shape that is being drawn
    this.files.clear();
  }

  /** Adds a shape, in place of the one before where that is its `previous`. */
  add(shape) {
    this.undone = [shape];
    this.redo();
    this.undone = [];
  }

  undo() {
    if (!this.shapes.length) return;
    const shape = this.shapes.pop();
    if (shape.previous) this.shapes.push(shape.previous);
    this.undone.push(shape);
  }

  redo() {
    if (!this.undone.length) return;
    const shape = this.undone.pop();
    if (shape.previous) this.shapes.pop();
    this.shapes.push(shape);
  }

  /** What was found last, if nothing was painted since. */
  get selection() {
    return this.shapes.at(-1)?.selection ?? null;
  }

  draw(context, color) {
    drawMask(context, this.draft ? [...this.shapes, this.draft] : this.shapes, this.size, color, this.files);
  }

  /** The share of the photo that is covered, roughly; 0 only if nothing is. */
  get coverage() {
    const {width, height} = this.size;
    if (!this.shapes.length) return 0;
    const scale = SIDE / Math.max(width, height);
    const canvas = new OffscreenCanvas(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
    const context = canvas.getContext("2d", {willReadFrequently: true});
    context.scale(canvas.width / width, canvas.height / height);
    this.draw(context, "#000");
    const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
    let sum = 0;
    for (let at = 3; at < data.length; at += 4) sum += data[at];
    return sum / 255 / (canvas.width * canvas.height);
  }
}
