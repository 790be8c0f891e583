// The dialog with the request as code.

import {$, choice, radio} from "./dom.js";
import {nameOf} from "./result.js";
import {key} from "./service.js";
import {LANGUAGES} from "./snippets.js";

const COPIED_MS = 2000;

/** `request()` returns {photo, values, masked}: the photo's name, the fields, and whether a mask would be sent. */
export function showCode(request) {
  const write = language => {
    const {photo, values, masked} = request(), url = new URL(".", document.baseURI).href.replace(/\/$/, "");
    const given = {url, photo, values, masked, keyed: Boolean(key.get()), result: nameOf(photo, 0, 1)};
    $("with-mask").hidden = !masked;
    $("listing").textContent = LANGUAGES[language](given);
  };
  $("languages").replaceChildren(...Object.keys(LANGUAGES).map((name, index) => radio(name, {name}, !index)));
  const choose = choice($("languages"), ({dataset}) => write(dataset.name));
  $("code").addEventListener("click", () => {
    const [first] = Object.keys(LANGUAGES);
    choose(first);
    write(first);
    $("snippet").showModal();
  });
  $("close").addEventListener("click", () => $("snippet").close());
  $("copy").addEventListener("click", copy);
}

async function copy() {
  getSelection().selectAllChildren($("listing"));
  const copied = await navigator.clipboard?.writeText($("listing").textContent).then(() => true, () => false);
  $("copy").textContent = copied ? "Copied" : "Selected: press Ctrl-C";  // without https there is no clipboard
  setTimeout(() => { $("copy").textContent = "Copy"; }, COPIED_MS);
}
