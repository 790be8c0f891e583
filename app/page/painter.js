// A worker: what takes long with a large photo. It decodes pictures and draws the mask at the photo's full size.

import {drawMask} from "./shapes.js";

const MAX_SIDE = 4096;  // of what is shown; the files themselves are sent
const files = new Map();

/** A picture to show, at most MAX_SIDE wide or high, and the size of the upright original. */
async function decode({file}) {
  const bitmap = await createImageBitmap(file, {imageOrientation: "from-image"});
  return {size: {width: bitmap.width, height: bitmap.height}, bitmap: await shrunk(bitmap)};
}

async function shrunk(bitmap) {
  const scale = MAX_SIDE / Math.max(bitmap.width, bitmap.height);
  if (scale >= 1) return bitmap;
  const [resizeWidth, resizeHeight] = [bitmap.width, bitmap.height].map(side => Math.max(1, Math.round(side * scale)));
  const small = await createImageBitmap(bitmap, {resizeWidth, resizeHeight, resizeQuality: "medium"});
  bitmap.close();
  return small;
}

/** Reads a mask as the service's mask_mode=auto does: transparent is repainted if anything is, else white. */
async function readMask({file, id, size}) {
  const bitmap = await createImageBitmap(file, {imageOrientation: "from-image"});
  const found = {width: bitmap.width, height: bitmap.height};
  if (found.width !== size.width || found.height !== size.height) return {found};
  const canvas = new OffscreenCanvas(found.width, found.height);
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(bitmap, 0, 0);
  const pixels = context.getImageData(0, 0, found.width, found.height), {data} = pixels;
  let transparent = false;
  for (let at = 3; at < data.length && !transparent; at += 4) transparent = data[at] < 255;
  for (let at = 0; at < data.length; at += 4) {
    data[at + 3] = transparent ? 255 - data[at + 3] : Math.round((data[at] + data[at + 1] + data[at + 2]) / 3);
    data[at] = data[at + 1] = data[at + 2] = 255;
  }
  context.putImageData(pixels, 0, 0);
  files.set(id, await createImageBitmap(canvas));
  return {found, bitmap: await shrunk(await createImageBitmap(canvas))};
}

/** The mask as a PNG of the photo's size: white is repainted, black stays. */
async function drawFile({shapes, size}) {
  const canvas = new OffscreenCanvas(size.width, size.height), context = canvas.getContext("2d");
  drawMask(context, shapes, size, "#fff", files);
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = "#000";
  context.fillRect(0, 0, size.width, size.height);
  return {blob: await canvas.convertToBlob({type: "image/png"})};
}

const TASKS = {decode, readMask, drawFile};

addEventListener("message", async ({data: {number, task, ...given}}) => {
  try {
    const made = await TASKS[task](given);
    postMessage({number, made}, made.bitmap ? [made.bitmap] : []);
  } catch (error) {
    postMessage({number, error: String(error)});
  }
});
