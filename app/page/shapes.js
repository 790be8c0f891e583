// What a mask is made of, and how it is drawn: at any scale, on the page and in a worker. Coordinates are pixels of the
// photo. A shape is one of
//   {kind: "stroke", points: [[x, y], ...], width, erase}    {kind: "box", points: [corner, corner]}
//   {kind: "lasso", points: [[x, y], ...]}                   {kind: "file", id, file}: a picture of the photo's size
//   {kind: "invert"}                                         {kind: "clear"}
// One with `alone` is the whole mask: what was painted before it has no effect. A picture that was found has the
// `selection` that it was found by, and the `previous` shape whose place it takes.

const WHOLE = 2 * Math.PI;

/** How wide and how high the points of a shape lie apart. */
export const extentOf = ({points}) => [0, 1].map(axis => {
  const along = points.map(point => point[axis]);
  return Math.max(...along) - Math.min(...along);
});

/** Adds points to a stroke's path on the canvas, from the point `from` on. */
export function drawStroke(context, {points, width, erase}, from = 0) {
  context.globalCompositeOperation = erase ? "destination-out" : "source-over";
  context.lineWidth = width;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  if (points.length === 1) {
    context.arc(...points[0], width / 2, 0, WHOLE);
    context.fill();
    return;
  }
  points.slice(from).forEach(([x, y], index) => index ? context.lineTo(x, y) : context.moveTo(x, y));
  context.stroke();
}

function fillShape(context, {kind, points}) {
  context.globalCompositeOperation = "source-over";
  context.beginPath();
  if (kind === "box") {
    const [[left, top], [right, bottom]] = points;
    context.rect(left, top, right - left, bottom - top);
  } else {
    points.forEach(([x, y]) => context.lineTo(x, y));
    context.closePath();
  }
  context.fill();
}

/** Fills the borders around a photo. */
export function drawBorders(context, {width, height}, {left, top, right, bottom}, color) {
  context.globalCompositeOperation = "source-over";
  context.fillStyle = color;
  context.beginPath();
  context.rect(-left, -top, left + width + right, top + height + bottom);
  context.rect(0, 0, width, height);
  context.fill("evenodd");
}

/** The shapes that have an effect. */
export const drawn = shapes => shapes.slice(Math.max(0, shapes.findLastIndex(({alone}) => alone)));

/**
 * Draws a mask into a context whose transform maps the photo's pixels to its own: `color` where it repaints, nothing
 * elsewhere. `files` has the picture of each shape of the kind "file", opaque where it repaints.
 */
export function drawMask(context, shapes, {width, height}, color, files) {
  context.save();
  context.beginPath();
  context.rect(0, 0, width, height);
  context.clip();
  context.fillStyle = context.strokeStyle = color;
  for (const shape of drawn(shapes)) {
    if (shape.kind === "clear") continue;
    if (shape.kind === "stroke") drawStroke(context, shape);
    else if (shape.kind === "invert") {
      context.globalCompositeOperation = "xor";
      context.fillRect(0, 0, width, height);
    } else if (shape.kind === "file") {
      context.globalCompositeOperation = "source-over";
      if (files.has(shape.id)) context.drawImage(files.get(shape.id), 0, 0, width, height);
    } else fillShape(context, shape);
  }
  if (shapes.some(({kind}) => kind === "file")) {  // its own colour is white
    context.globalCompositeOperation = "source-in";
    context.fillRect(0, 0, width, height);
  }
  context.restore();
}
