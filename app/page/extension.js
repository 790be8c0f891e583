// The form's part for task=extend: a shape and where the photo stands in it, or borders in pixels or percent.

import {$, choice} from "./dom.js";
import {bordersOf, bordersWithin, SIDES, sizeBeyond, sizeWith} from "./borders.js";

const LONGEST = 9_999_999;  // the service takes lengths of 7 digits

export class Extension {
  /** `changed()` is called when anything is chosen; what is typed is an input event of the form. */
  constructor(changed) {
    this.photo = {width: 0, height: 0};
    this.marks = {
      aspect: choice($("aspects"), ({dataset: {aspect}}) => {
        aspect ? this.setAspect(aspect) : this.setBorders(this.borders);
        changed();
      }),
      anchor: choice($("anchors"), ({dataset}) => { this.anchor = dataset.anchor; changed(); }),
    };
    this.inputs = SIDES.map(side => $(`extend-${side}`));
    $("unit").addEventListener("input", () => {
      const {borders} = this;
      this.setUnit($("unit").value);
      this.write(borders);
    });
    this.set({});
  }

  /** Takes over fields of a request. */
  set({aspect = "", anchor = "center", extend = "0,0,0,0"}) {
    Object.assign(this, {aspect, anchor});
    for (const [name, mark] of Object.entries(this.marks)) mark(this[name]);
    this.setUnit(extend.includes("%") ? "%" : "px");
    extend.split(",").forEach((text, side) => { this.inputs[side].value = parseFloat(text); });
    this.arrange();
  }

  setUnit(unit) {
    this.unit = $("unit").value = unit;
    for (const input of this.inputs) Object.assign(input, {step: unit === "%" ? 0.1 : 1, min: 0, max: LONGEST});
  }

  /** Borders in pixels, as they were dragged, or as a shape made them. */
  setBorders(borders) {
    this.setAspect("");
    this.write(borders);
  }

  setAspect(aspect) {
    this.aspect = aspect;
    this.marks.aspect(aspect);
    this.arrange();
  }

  write(borders) {
    const whole = side => side === "left" || side === "right" ? this.photo.width : this.photo.height;
    SIDES.forEach((side, index) => {
      const share = Math.floor(1000 * borders[side] / whole(side)) / 10 || 0;
      this.inputs[index].value = this.unit === "%" ? share : borders[side];
    });
  }

  arrange() {
    $("borders").hidden = Boolean(this.aspect);
    $("borders").disabled = Boolean(this.aspect);  // what is hidden has no say in whether the form is valid
    $("standing").hidden = !this.aspect;
  }

  get values() {
    const {aspect, anchor, unit} = this;
    if (aspect) return {aspect, ...(anchor !== "center" && {anchor})};
    return {extend: this.inputs.map(({value}) => `${Number(value)}${unit === "%" ? "%" : ""}`).join(",")};
  }

  get borders() {
    const {aspect, extend} = this.values, {photo} = this;
    return aspect ? bordersWithin(sizeWith(aspect, photo), photo, this.anchor) : bordersOf(extend, photo);
  }

  /** {sentence, ready}: what would become of the photo, within the service's limits. */
  plan({pixels = Infinity} = {}) {
    const {width, height} = sizeBeyond(this.photo, this.borders), megapixels = width * height / 1e6;
    if (width === this.photo.width && height === this.photo.height)
      return {sentence: this.aspect ? `The photo is ${this.aspect} already.`
        : "Drag the frame's edges outwards, or choose a shape.", ready: false};
    const size = `${width} × ${height} pixels`;
    if (width * height > pixels)
      return {sentence: `The photo would become ${size}, ${Math.ceil(megapixels)} megapixels; this service takes `
        + `${Math.floor(pixels / 1e6)}.`, ready: false};
    return {sentence: `The photo becomes ${size}.`, ready: true};
  }
}
