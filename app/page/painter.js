// A worker: what takes long with a large photo. It decodes pictures and draws the mask at the photo's full size.

import {drawMask, drawn} from "./shapes.js";

const MAX_SIDE = 4096;       // of what is shown; the files themselves are sent
const MAX_MASK_SIDE = 2048;  // of a mask that is shown: one is kept for each step that can be undone

/** A picture to show, at most MAX_SIDE wide or high, and the size of the upright original. */
async function decode({file}) {
  const bitmap = await read(file);
  return {size: {width: bitmap.width, height: bitmap.height}, bitmap: await shrunk(bitmap, MAX_SIDE)};
}

const read = file => createImageBitmap(file, {imageOrientation: "from-image"});

/** In place of a picture, which is closed if it is larger. */
async function shrunk(bitmap, most) {
  const scale = most / Math.max(bitmap.width, bitmap.height);
  if (scale >= 1) return bitmap;
  const [resizeWidth, resizeHeight] = [bitmap.width, bitmap.height].map(side => Math.max(1, Math.round(side * scale)));
  const small = await createImageBitmap(bitmap, {resizeWidth, resizeHeight, resizeQuality: "medium"});
  bitmap.close();
  return small;
}

/** Of a mask's file: opaque where it repaints, as by the service's mask_mode=auto: what is transparent if any is, else
 *  what is white. */
function opaque(bitmap) {
  const {width, height} = bitmap, canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const pixels = context.getImageData(0, 0, width, height), {data} = pixels;
  let transparent = false;
  for (let at = 3; at < data.length && !transparent; at += 4) transparent = data[at] < 255;
  for (let at = 0; at < data.length; at += 4) {
    data[at + 3] = transparent ? 255 - data[at + 3] : Math.round((data[at] + data[at + 1] + data[at + 2]) / 3);
    data[at] = data[at + 1] = data[at + 2] = 255;
  }
  context.putImageData(pixels, 0, 0);
  return canvas.transferToImageBitmap();
}

/** A mask's picture to show, if it has the photo's size. */
async function readMask({file, size: {width, height}}) {
  const bitmap = await read(file), found = {width: bitmap.width, height: bitmap.height};
  if (found.width !== width || found.height !== height) return {found};
  return {found, bitmap: await shrunk(opaque(bitmap), MAX_MASK_SIDE)};
}

/** The mask as a PNG of the photo's size: white is repainted, black stays. */
async function drawFile({shapes, size}) {
  const canvas = new OffscreenCanvas(size.width, size.height), context = canvas.getContext("2d"), files = new Map();
  for (const {id, file} of drawn(shapes).filter(({kind}) => kind === "file")) files.set(id, opaque(await read(file)));
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
