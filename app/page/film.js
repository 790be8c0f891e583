// The results of this visit, as thumbnails that bring them back.

import {$, element} from "./dom.js";
import * as history from "./history.js";

export class Film {
  /** `chosen(entry)` is called for one that is chosen. */
  constructor(chosen) {
    this.chosen = chosen;
    $("forget").addEventListener("click", () => history.forget().then(() => this.list()));
  }

  /** Keeps a result, where the browser has a store: a private window may have none. */
  async add(entry) {
    await history.add(entry).catch(() => {});
    await this.list();
  }

  async list() {
    const kept = await history.entries().catch(() => []);
    $("history").hidden = !kept.length;
    for (const picture of $("film").querySelectorAll("img")) URL.revokeObjectURL(picture.src);
    $("film").replaceChildren(...kept.map(entry => this.frame(entry)));
  }

  frame(entry) {
    const picture = element("img", {src: URL.createObjectURL(entry.images[0]), alt: ""});
    const ariaLabel = `${entry.name}, ${new Date(entry.at).toLocaleTimeString()}`;
    const button = element("button", {type: "button", ariaLabel, title: ariaLabel}, picture);
    button.addEventListener("click", () => this.chosen(entry));
    return button;
  }
}
