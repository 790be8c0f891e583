// A job that has succeeded: which of its pictures is shown, what was done, and where the time went.

import {$, element, icon} from "./dom.js";

const APPROXIMATE = {
  fewer_steps: "fewer steps than usual", cached_features: "cached features", shrunk: "painted small and enlarged",
  prompt_cut: "not all of the prompt was read", depth_reduced: "8 bits a channel instead of more",
  tiled: "painted in tiles", lossy_format: "a lossy file format",
};
const PARTS = {
  queue: "Waiting", fetch: "Fetching", decode: "Reading the photo", crop: "Cropping", load: "Loading the model",
  text_encode: "Reading the prompt", vae_encode: "Encoding", denoise: "Denoising", vae_decode: "Decoding",
  paste: "Pasting", png: "Writing the PNG", store: "Storing", wait: "Waiting for others",
};

const percent = share => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
const times = ratio => ratio.toFixed(ratio < 9.5 && Math.round(10 * ratio) % 10 ? 1 : 0);

function sizeOf({run_px: [width, height], scale, tiles}) {
  const painted = `painted at ${width} × ${height} px`;
  if (tiles) return `${painted}, then in ${tiles} tile${tiles > 1 ? "s" : ""} at full size`;
  if (Math.abs(scale - 1) < 0.02) return `${painted}, full size`;
  return scale < 1 ? `${painted}, enlarged ${times(1 / scale)}×` : `${painted}, made smaller ${times(scale)}×`;
}

const SIDES = {prompt_tokens: "prompt", negative_prompt_tokens: "negative prompt"};

/** What the model did not read, as sentences. */
function unread(view) {
  return Object.entries(SIDES).filter(([name]) => view[name]?.cut).map(([name, side]) => {
    const {used, cut} = view[name];
    return `${cut} of the ${side}'s ${used} tokens were not read`;
  });
}

/** What holds of the result, as sentences. */
export function factsOf(view, index) {
  const {mask, region, approximate, seeds, timings} = view;
  const count = mask.changed_outside_mask;
  return [
    `${count} pixels changed outside the mask`,
    `the mask covers ${percent(mask.coverage)}`,
    region && sizeOf(region),
    `seed ${seeds[index]}`,
    timings && `${(timings.total / 1000).toFixed(timings.total < 9950 ? 1 : 0)} s`,
    approximate.length && `approximate: ${approximate.map(each => APPROXIMATE[each] ?? each).join(", ")}`,
    ...unread(view),
  ].filter(Boolean);
}

export function showFacts(view, index) {
  const [exact, ...others] = factsOf(view, index);
  const kept = element("strong", {}, icon("check"), ` ${exact}`);
  kept.className = view.mask.changed_outside_mask ? "" : "kept";
  $("exact").replaceChildren(kept, ...others.flatMap(fact => [" · ", fact]));
}

export function showTimings({timings}) {
  $("timings").hidden = !timings;
  if (!timings) return;
  const {steps, step_p50: median, batch_mean: batch, total, ...parts} = timings;
  const row = (name, ms, bar) => element("tr", {}, element("th", {scope: "row", textContent: name}),
    element("td", {}, bar), element("td", {textContent: `${ms < 100 ? ms.toFixed(1) : Math.round(ms)} ms`}));
  $("parts").replaceChildren(...Object.entries(parts).filter(([, ms]) => ms >= 0.05).map(([name, ms]) => {
    const bar = element("i");
    bar.style.width = `${100 * ms / total}%`;
    return row(PARTS[name] ?? name, ms, bar);
  }));
  $("sum").replaceChildren(row("In all", total, ""));
  $("pace").textContent = `${steps} steps at ${median.toFixed(1)} ms, ${batch.toFixed(1)} images in a batch.`;
}

/** Thumbnails of a job's pictures, of the part that differs; `chosen(index)` is called for one that is chosen. */
export function showVariants({view, urls, index}, chosen) {
  $("variants").hidden = urls.length < 2;
  $("variants").replaceChildren(...urls.map((src, number) => {
    const picture = element("img", {src, alt: ""});
    picture.style.objectViewBox = partOf(view);  // browsers without it show all of the picture
    const state = {ariaLabel: `Variant ${number + 1}`, ariaChecked: String(number === index)};
    const button = element("button", {type: "button", role: "radio", ...state}, picture);
    button.addEventListener("click", () => chosen(number));
    return button;
  }));
}

/** CSS: the mask's box, and as much around it. */
function partOf({mask: {bbox: [left, top, right, bottom]}, images: [{width, height}]}) {
  const side = Math.max(right - left, bottom - top);
  const beyond = (near, far, length) => {
    const margin = Math.max(0, side - (far - near) / 2);
    return [near - margin, length - far - margin].map(inset => `${Math.max(0, 100 * inset / length)}%`);
  };
  const [[west, east], [north, south]] = [beyond(left, right, width), beyond(top, bottom, height)];
  return `inset(${north} ${east} ${south} ${west})`;
}

/** What a result is called: as the photo, so that both lie side by side. */
export function nameOf(photo, index, count) {
  const stem = photo.replace(/\.[^.]*$/, "").replace(/-repainted(-\d+)?$/, "") || "photo";
  return `${stem}-repainted${count > 1 ? `-${index + 1}` : ""}.png`;
}
