// The ways in which a photo comes to the page.

import {$} from "./dom.js";
import {ask} from "./service.js";

const SAMPLE = {"sample.jpg": "cocktail.jpg", "sample-mask.png": "mask.png"};

const sample = () => Promise.all(Object.entries(SAMPLE).map(async ([file, name]) =>
  new File([await (await ask(`page/${file}`, {}, "image/")).blob()], name)));

/** `chosen(file)` is called for a photo, `tried(files)` for the sample: `files()` fetches it and its mask. */
export function offerPhotos(chosen, tried) {
  const over = entered => $("drop").classList.toggle("over", entered);
  const first = ({files: [file]}) => file && chosen(file);
  $("file").addEventListener("change", ({target}) => { first(target); target.value = ""; });
  $("other").addEventListener("click", () => $("file").click());
  $("sample").addEventListener("click", () => tried(sample));
  addEventListener("dragover", event => { event.preventDefault(); over(true); });
  addEventListener("dragleave", () => over(false));
  addEventListener("drop", event => { event.preventDefault(); over(false); first(event.dataTransfer); });
  addEventListener("paste", event => first(event.clipboardData));
}
