// Where sentences about what went wrong appear.

import {$, element} from "./dom.js";

/** Shows a sentence; the service's own words, a problem's code and the job's address can be unfolded. */
export function tell(sentence, {detail, code, job} = {}) {
  const more = [code, detail, job && `Job: /v1/jobs/${job}`].filter(Boolean).join("\n");
  const [summary, words] = [element("summary", {textContent: "Details"}), element("pre", {textContent: more})];
  $("problem").replaceChildren(sentence, ...(more ? [element("details", {}, summary, words)] : []));
  $("problem").hidden = false;
}
