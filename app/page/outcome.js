// The result on the stage: which of its pictures is shown, and how beside the photo.

import {$, choice} from "./dom.js";
import * as paint from "./paint.js";
import {nameOf, showFacts, showTimings, showVariants} from "./result.js";

export class Outcome {
  /** `changed()` is called when something else is shown, `failed(problem)` where a picture cannot be. */
  constructor(editor, {changed, failed}) {
    Object.assign(this, {editor, stage: editor.stage, changed, failed});
    this.shown = null;  // {view, images: Blobs, urls, index}
    this.mark = choice($("shows"), ({dataset}) => this.setMode(dataset.show));
    $("split").addEventListener("input", ({target}) => { this.stage.split = target.value / 100; this.stage.redraw(); });
  }

  async present(view, images, index = 0) {
    this.forget();
    this.shown = {view, images, urls: images.map(image => URL.createObjectURL(image)), index};
    $("result").hidden = $("shows").hidden = false;
    showTimings(view);
    await this.pick(index);
    const [left, , right] = view.mask.bbox;
    this.stage.split = (left + right) / 2 / (view.extend ?? this.editor.mask.size).width;
    this.setMode("compare");
  }

  async pick(index) {
    this.shown.index = index;
    const {view, images, urls} = this.shown;
    this.stage.setAfter((await paint.decode(images[index])).bitmap);
    showVariants(this.shown, number => this.pick(number).catch(this.failed));
    showFacts(view, index);
    $("save").href = urls[index];
    $("save").download = nameOf(this.editor.file.name, index, images.length);
  }

  /** The picture that is shown, as a file to go on from. */
  file() {
    const {images, index} = this.shown;
    return new File([images[index]], nameOf(this.editor.file.name, 0, 1), {type: images[index].type});
  }

  forget() {
    this.shown?.urls.forEach(URL.revokeObjectURL);
    this.shown = null;
    $("result").hidden = $("shows").hidden = true;
    this.setMode("paint");
  }

  setMode(mode) {
    const {stage, shown} = this;
    stage.mode = shown ? mode : "paint";
    stage.element.dataset.mode = stage.mode;
    this.mark(stage.mode);
    $("tools").hidden = stage.mode !== "paint";
    $("outcome").hidden = !shown || stage.mode === "paint";
    $("split").hidden = stage.mode !== "compare";
    stage.redraw();
    this.changed();
  }
}
