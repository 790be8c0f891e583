// Which part of the photo, and of the borders around it, the stage shows: `scale` is CSS pixels over the photo's, `x`
// and `y` where the photo's corner lies.

import {NONE, sizeBeyond} from "./borders.js";

const MAX_SCALE = 32;
const MARGIN = 12;
const ROOM = 0.1;  // of the stage's shorter side, around a frame, into which it can be dragged

export class View {
  constructor() {
    this.stage = {width: 1, height: 1};
    this.photo = {width: 1, height: 1};
    this.borders = NONE;
    this.framed = false;
    this.fit();
  }

  /** The size of the photo with its borders. */
  get whole() {
    return sizeBeyond(this.photo, this.borders);
  }

  /** CSS pixels of the stage around the whole. */
  get margin() {
    return this.framed ? ROOM * Math.min(this.stage.width, this.stage.height) : MARGIN;
  }

  get fitting() {
    const {width, height} = this.whole;
    const room = [this.stage.width, this.stage.height].map(side => Math.max(1, side - 2 * this.margin));
    return Math.max(Math.min(room[0] / width, room[1] / height), 1e-3);
  }

  fit() {
    this.scale = this.fitting;
    this.fitted = true;
    this.place(0, 0);
  }

  /** The stage has another size now. */
  resize(stage) {
    this.stage = stage;
    this.fitted ? this.fit() : this.place(this.x, this.y);
  }

  /** Puts the photo's corner there, but not so far that the whole leaves the stage; what is smaller is centred. */
  place(x, y) {
    const along = (at, stage, before, whole) => {
      const length = whole * this.scale, ahead = before * this.scale, {margin} = this;
      if (length <= stage) return (stage - length) / 2 + ahead;
      return Math.min(margin, Math.max(stage - length - margin, at - ahead)) + ahead;
    };
    this.x = along(x, this.stage.width, this.borders.left, this.whole.width);
    this.y = along(y, this.stage.height, this.borders.top, this.whole.height);
  }

  /** The borders around the photo, and whether they are a frame that can be dragged; the whole is seen anew. */
  surround(borders, framed) {
    Object.assign(this, {borders, framed});
    this.fit();
  }

  /** Where a share of the whole's width lies on the stage, and back. */
  toSplit(x) {
    return (this.toPhoto([x, 0])[0] + this.borders.left) / this.whole.width;
  }

  fromSplit(share) {
    return this.toStage([share * this.whole.width - this.borders.left, 0])[0];
  }

  pan(dx, dy) {
    this.place(this.x + dx, this.y + dy);
  }

  /** Zooms so that what is at this place of the stage stays there. */
  zoom(factor, [x, y]) {
    const [photoX, photoY] = this.toPhoto([x, y]);
    const scale = Math.min(Math.max(this.scale * factor, this.fitting), Math.max(MAX_SCALE, this.fitting));
    this.fitted = scale === this.fitting;
    this.scale = scale;
    this.place(x - photoX * scale, y - photoY * scale);
  }

  toPhoto([x, y]) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  toStage([x, y]) {
    return [x * this.scale + this.x, y * this.scale + this.y];
  }

  /** Moves so far that this point of the photo can be seen. */
  reveal(point) {
    const [x, y] = this.toStage(point);
    const beyond = (at, length) => Math.max(0, MARGIN - at) - Math.max(0, at - length + MARGIN);
    this.pan(beyond(x, this.stage.width), beyond(y, this.stage.height));
  }
}
