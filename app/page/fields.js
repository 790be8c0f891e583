// The fields of the form: what each is called, what it does, and the words for its choices.

import {element} from "./dom.js";

// name, label, explanation, step
export const NUMBERS = [
  ["num_inference_steps", "Steps", "More take longer. The model's own number is a good one.", 1],
  ["guidance_scale", "Guidance", "How closely the prompt is followed.", "any"],
  ["strength", "Strength", "1 paints anew; less stays nearer to what is there.", 0.01],
  ["seed", "Seed", "The same seed gives the same picture.", 1],
  ["cache_interval", "Cache interval", "Above 1 is faster, and approximate.", 1],
  ["crop_padding", "Surroundings, px", "How much around the mask the model sees.", 1],
];

export const EDGES = [
  ["mask_grow", "Grow mask", 64],
  ["mask_feather", "Soften edge", 64],
];

export const CONTENT = {
  original: "what is there", noise: "noise", fill: "a fill from the surroundings",
};
export const CROP = {auto: "mask and surroundings", off: "the whole photo"};
export const COLOR = {auto: "as the photo", rgb: "always colour"};

export const DEPTH = {8: "8 bits a channel", keep: "as the photo"};

export const option = (value, text) => element("option", {value, textContent: text});
export const usual = text => option("", `${text} (default)`);
export const words = (names, said) => names.map(name => option(name, said[name] ?? name.replaceAll("_", " ")));

export function labelled(input, label, help) {
  input.id = `field-${input.name}`;
  const note = element("small", {id: `help-${input.name}`, textContent: help});
  input.setAttribute("aria-describedby", note.id);
  return element("div", {className: "field"}, element("label", {htmlFor: input.id, textContent: label}), input, note);
}
