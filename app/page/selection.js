// What the service is asked to find: {points, box, background}. Points are [x, y, 1] on the subject and [x, y, 0]
// beside it, `box` is [left, top, right, bottom] around it or null, all in pixels of the photo; `background`: whether
// the mask is all but the subject.

/** What lies between two corners, within a photo of this size. */
export function boxed(corners, {width, height}) {
  const within = (at, length) => Math.min(length, Math.max(0, at));
  const [xs, ys] = [corners.map(([x]) => within(x, width)), corners.map(([, y]) => within(y, height))];
  return {points: [], box: [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)]};
}

/** A selection with one more point; a point on another subject begins a new one. Null: a point beside no subject. */
export function withPoint(selection, [x, y], on) {
  const point = [Math.floor(x), Math.floor(y), Number(on)], box = selection?.box;
  const inside = !box || (box[0] <= point[0] && point[0] < box[2] && box[1] <= point[1] && point[1] < box[3]);
  if (selection && (inside || !on)) return {...selection, points: [...selection.points, point]};
  return on ? {points: [point], box: null} : null;
}

/** The request's fields. */
export function fieldsOf({points, box}) {
  return {...(points.length && {mask_points: JSON.stringify(points)}), ...(box && {mask_box: JSON.stringify(box)})};
}

/** The selection of a request that replaces the background. */
export const selectionOf = ({mask_points: points = "[]", mask_box: box = "null"}) =>
  ({points: JSON.parse(points), box: JSON.parse(box), background: true});
