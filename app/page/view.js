// Which part of the photo the stage shows: `scale` is CSS pixels over the photo's, `x` and `y` where its corner lies.

const MAX_SCALE = 32;
const MARGIN = 12;

export class View {
  constructor() {
    this.stage = {width: 1, height: 1};
    this.photo = {width: 1, height: 1};
    this.fit();
  }

  get fitting() {
    const [width, height] = [this.stage.width - 2 * MARGIN, this.stage.height - 2 * MARGIN];
    return Math.max(Math.min(width / this.photo.width, height / this.photo.height), 1e-3);
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

  /** Puts the photo's corner there, but not so far that it leaves the stage; what is smaller is centred. */
  place(x, y) {
    const along = (at, stage, photo) => {
      const length = photo * this.scale;
      return length <= stage ? (stage - length) / 2 : Math.min(MARGIN, Math.max(stage - length - MARGIN, at));
    };
    this.x = along(x, this.stage.width, this.photo.width);
    this.y = along(y, this.stage.height, this.photo.height);
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
