// The ways in which a photo comes to the page: chosen, dropped, pasted, or as an example with what is to be done to it.

import {$, element} from "./dom.js";
import {ask} from "./service.js";

const EXAMPLES = [
  {name: "Remove", text: "The straw is painted over.",
    photo: ["sample.jpg", "cocktail.jpg"], mask: "sample-mask.png", values: {task: "remove"}},
  {name: "Fill", text: "The drink becomes bright green.",
    photo: ["sample.jpg", "cocktail.jpg"], mask: "example-drink.png",
    values: {prompt: "bright green", preset: "colour"}},
  {name: "Extend", text: "A square becomes 16:9.",
    photo: ["example-shuttle.jpg", "shuttle.jpg"], values: {task: "extend", aspect: "16:9"}},
];

const load = async (file, name) => new File([await (await ask(`page/${file}`, {}, "image/")).blob()], name);

function card({name, text, photo: [file], mask, values}) {
  const picture = element("span", {className: "picture", dataset: {frame: values.aspect ?? ""}},
    element("img", {src: `page/${file}`, alt: ""}));
  if (mask) {
    const over = element("i");
    over.style.maskImage = `url(page/${mask})`;
    picture.append(over);
  }
  const words = element("span", {}, element("strong", {textContent: name}), ` ${text}`);
  return element("button", {type: "button", className: "example", dataset: {example: values.task ?? "fill"}}, picture,
    words);
}

/** `chosen(file)` is called for a photo, `tried({files, values})` for an example: `files()` fetches photo and mask. */
export function offerPhotos(chosen, tried) {
  const over = entered => $("drop").classList.toggle("over", entered);
  const first = ({files: [file]}) => file && chosen(file);
  $("examples").replaceChildren(...EXAMPLES.map(example => {
    const {photo, mask, values} = example, button = card(example);
    const files = () => Promise.all([load(...photo), mask && load(mask, "mask.png")]);
    button.addEventListener("click", () => tried({files, values}));
    return button;
  }));
  $("file").addEventListener("change", ({target}) => { first(target); target.value = ""; });
  $("other").addEventListener("click", () => $("file").click());
  addEventListener("dragover", event => { event.preventDefault(); over(true); });
  addEventListener("dragleave", () => over(false));
  addEventListener("drop", event => { event.preventDefault(); over(false); first(event.dataTransfer); });
  addEventListener("paste", event => first(event.clipboardData));
}
