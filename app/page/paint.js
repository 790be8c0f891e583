// The page's end of the worker in painter.js.

const worker = new Worker(new URL("painter.js", import.meta.url), {type: "module"});
const waiting = new Map();
let count = 0;

worker.addEventListener("message", ({data: {number, made, error}}) => {
  const {resolve, reject} = waiting.get(number);
  waiting.delete(number);
  made ? resolve(made) : reject(new Error(error));
});

worker.addEventListener("error", () => {
  for (const {reject} of waiting.values()) reject(new Error("The worker that reads pictures did not start."));
  waiting.clear();
});

const call = (task, given) => new Promise((resolve, reject) => {
  waiting.set(++count, {resolve, reject});
  worker.postMessage({number: count, task, ...given});
});

/** {size, bitmap}: the upright size, and a picture to show. Throws for what the browser cannot read. */
export const decode = file => call("decode", {file});

/** {found, bitmap}: the file's size, and if that is the photo's, a picture that is opaque where it repaints. */
export const readMask = (file, size) => call("readMask", {file, size});

/** The mask as a PNG file of the photo's size. */
export const maskFile = async ({shapes, size}) => (await call("drawFile", {shapes, size})).blob;
