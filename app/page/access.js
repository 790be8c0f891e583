// The field for an API key, which is there only where the service asks for one.

import {$} from "./dom.js";
import {key} from "./service.js";

export function askForKey() {
  $("access").hidden = false;
  $("key").focus();
}

/** `entered()` is called once a key was given. */
export function onKey(entered) {
  const use = () => { key.set($("key").value.trim()); entered(); };
  $("use-key").addEventListener("click", use);
  $("key").addEventListener("keydown", event => {
    if (event.key !== "Enter") return;
    event.preventDefault();  // it would submit the form
    use();
  });
}
