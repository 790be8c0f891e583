// Draws the photo, the mask over it, a preview as it forms, and the result beside or in place of the photo. The
// canvases have the screen's size, not the photo's, so that a large photo costs no more than a small one.

import {NONE, sizeBeyond} from "./borders.js";
import {drawBorders, drawStroke} from "./shapes.js";

export const COLOR = "#e6336b";

export class Stage {
  /** `element` holds the canvases #photo and #mask, #cursor, #divider, #frame and #dots. */
  constructor(element, view, mask) {
    Object.assign(this, {element, view, mask});
    [this.photo, this.over] = element.querySelectorAll("canvas");
    this.cursor = element.querySelector("#cursor");
    this.divider = element.querySelector("#divider");
    this.frame = element.querySelector("#frame");
    this.dots = element.querySelector("#dots");
    this.borders = null;  // that a photo is extended by, while there is no mask
    this.clear();
    new ResizeObserver(() => this.resize()).observe(element);
  }

  /** Nothing but the photo: no result and no preview. */
  clear() {
    this.after = this.preview = null;
    this.mode = "paint";  // "paint", "before", "after" or "compare"
    this.split = 0.5;     // share of the photo's width that shows it as it was before
  }

  open({size, bitmap}) {
    this.before?.close();
    this.after?.close();
    this.before = bitmap;
    this.view.photo = size;
    this.view.fit();
    this.clear();
    this.resize();
  }

  /** Shows the borders that are to be added, or were; null: the photo alone, and its mask. `still`: the view stays. */
  setBorders(borders, still) {
    this.borders = borders;
    const seen = JSON.stringify([borders, this.framing]);
    if (still) this.view.borders = borders;
    else if (seen !== this.seen) this.view.surround(borders ?? NONE, this.framing);
    this.seen = still ? null : seen;
    this.redraw();
  }

  /** Whether the frame can be dragged. */
  get framing() {
    return Boolean(this.borders) && this.mode === "paint";
  }

  /** The points of what is being selected: [x, y, 1] on it and [x, y, 0] beside it. */
  setDots(points) {
    this.dots.replaceChildren(...points.map(([x, y, on]) => {
      const dot = document.createElement("i");
      dot.className = on ? "on" : "off";
      dot.at = [x + 0.5, y + 0.5];
      return dot;
    }));
    this.redraw();
  }

  /** Shows a result, or none. */
  setAfter(bitmap) {
    this.after?.close();
    this.after = bitmap;
    this.redraw();
  }

  resize() {
    const {clientWidth: width, clientHeight: height} = this.element;
    if (!width || !height) return;
    this.density = devicePixelRatio;
    for (const canvas of [this.photo, this.over]) {
      canvas.width = Math.round(width * this.density);
      canvas.height = Math.round(height * this.density);
    }
    this.view.resize({width, height});
    this.draw();
  }

  /** Draws before the next frame, once however often it is asked. */
  redraw() {
    this.asked ??= requestAnimationFrame(() => this.draw());
  }

  /** Sets up a context so that a pixel of the photo is a unit. */
  mapped(canvas) {
    const context = canvas.getContext("2d"), {scale, x, y} = this.view;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.setTransform(scale * this.density, 0, 0, scale * this.density, x * this.density, y * this.density);
    context.imageSmoothingEnabled = scale * this.density < 4;
    context.imageSmoothingQuality = "medium";
    return context;
  }

  draw() {
    cancelAnimationFrame(this.asked);
    this.asked = null;
    if (!this.before || !this.density) return;
    this.drawPhoto();
    const painting = this.mode === "paint";
    this.over.hidden = !painting;
    this.divider.hidden = this.mode !== "compare";
    this.divider.style.left = `${this.view.fromSplit(this.split)}px`;
    if (painting) this.drawChange(this.mapped(this.over), COLOR);
    this.placeFrame();
    this.dots.hidden = !painting || Boolean(this.borders);
    for (const dot of this.dots.children) this.put(dot, this.view.toStage(dot.at));
  }

  /** Shows a ring of this size there, or none, while there is something to paint. */
  showCursor(place, size) {
    const {cursor} = this;
    cursor.hidden = !place || this.framing || this.mode !== "paint";
    if (cursor.hidden) return;
    cursor.style.width = cursor.style.height = `${size}px`;
    this.put(cursor, place);
  }

  put({style}, [x, y]) {
    style.left = `${x}px`;
    style.top = `${y}px`;
  }

  placeFrame() {
    this.frame.hidden = !this.framing;
    if (!this.framing) return;
    const {view, borders: {left, top}} = this, {width, height} = sizeBeyond(view.photo, this.borders);
    this.put(this.frame, view.toStage([-left, -top]));
    this.frame.style.width = `${width * view.scale}px`;
    this.frame.style.height = `${height * view.scale}px`;
  }

  /** What is to be repainted: the borders, or the mask. */
  drawChange(context, color) {
    if (this.borders) drawBorders(context, this.view.photo, this.borders, color);
    else this.mask.draw(context, color);
  }

  drawPhoto() {
    const {width, height} = this.view.photo, context = this.mapped(this.photo);
    const {left, top} = this.borders ?? NONE, {width: wide, height: high} = this.view.whole;
    if (this.mode === "after") return context.drawImage(this.after, -left, -top, wide, high);
    context.drawImage(this.before, 0, 0, width, height);
    if (this.preview) this.drawPreview(context);
    if (this.mode === "compare") {
      const from = this.split * wide;
      context.save();
      context.beginPath();
      context.rect(from - left, -top, wide - from, high);
      context.clip();
      context.clearRect(-left, -top, wide, high);
      context.drawImage(this.after, -left, -top, wide, high);
      context.restore();
    }
  }

  /** What forms, within the mask alone. */
  drawPreview(context) {
    const layer = this.mapped(new OffscreenCanvas(this.photo.width, this.photo.height));
    const {bitmap, box: [left, top, right, bottom]} = this.preview, {left: west, top: north} = this.borders ?? NONE;
    this.drawChange(layer, "#000");
    layer.globalCompositeOperation = "source-in";
    layer.imageSmoothingEnabled = true;
    layer.drawImage(bitmap, left - west, top - north, right - left, bottom - top);
    context.save();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(layer.canvas, 0, 0);
    context.restore();
  }

  /** Adds to what is drawn of a stroke, which is quicker than drawing all of the mask. */
  extend(stroke, from) {
    const context = this.over.getContext("2d"), {width, height} = this.view.photo;
    context.save();
    context.beginPath();
    context.rect(0, 0, width, height);
    context.clip();
    context.strokeStyle = context.fillStyle = COLOR;
    drawStroke(context, stroke, from);
    context.restore();
  }

  /** Shows the mask's edge as it will be: grown, and softened outwards, by pixels of the photo. */
  setEdge(grow, feather) {
    const {scale} = this.view;
    document.querySelector("#grown").setAttribute("radius", (grow + feather / 2) * scale);
    document.querySelector("#feathered").setAttribute("stdDeviation", feather / 4 * scale);
    this.over.style.filter = (grow || feather) && !this.borders ? "url(#edge)" : "";
  }
}
