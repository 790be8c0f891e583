// Draws the photo, the mask over it, a preview as it forms, and the result beside or in place of the photo. The
// canvases have the screen's size, not the photo's, so that a large photo costs no more than a small one.

import {drawStroke} from "./shapes.js";

export const COLOR = "#e6336b";

export class Stage {
  /** `element` holds the canvases #photo and #mask, #cursor and #divider. */
  constructor(element, view, mask) {
    Object.assign(this, {element, view, mask});
    [this.photo, this.over] = element.querySelectorAll("canvas");
    this.cursor = element.querySelector("#cursor");
    this.divider = element.querySelector("#divider");
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
    this.divider.style.left = `${this.view.toStage([this.split * this.view.photo.width, 0])[0]}px`;
    if (painting) this.mask.draw(this.mapped(this.over), COLOR);
  }

  drawPhoto() {
    const {width, height} = this.view.photo, context = this.mapped(this.photo);
    context.drawImage(this.mode === "after" ? this.after : this.before, 0, 0, width, height);
    if (this.preview) this.drawPreview(context);
    if (this.mode === "compare") {
      const left = this.split * width;
      context.save();
      context.beginPath();
      context.rect(left, 0, width - left, height);
      context.clip();
      context.clearRect(0, 0, width, height);
      context.drawImage(this.after, 0, 0, width, height);
      context.restore();
    }
  }

  /** What forms, within the mask alone. */
  drawPreview(context) {
    const layer = this.mapped(new OffscreenCanvas(this.photo.width, this.photo.height));
    const {bitmap, box: [left, top, right, bottom]} = this.preview;
    this.mask.draw(layer, "#000");
    layer.globalCompositeOperation = "source-in";
    layer.imageSmoothingEnabled = true;
    layer.drawImage(bitmap, left, top, right - left, bottom - top);
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
    this.over.style.filter = grow || feather ? "url(#edge)" : "";
  }
}
