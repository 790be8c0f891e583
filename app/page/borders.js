// The borders that task=extend adds to a photo, computed as the service does (jobs/extend_fields.py). Sizes are
// {width, height} and borders {left, top, right, bottom}, both in pixels of the photo.

export const SIDES = ["left", "top", "right", "bottom"];
export const NONE = {left: 0, top: 0, right: 0, bottom: 0};

const MILLIONTHS = 1e6;

/** To the nearest whole number, of two that are as near the even one. */
const nearest = number => number % 1 === 0.5 ? 2 * Math.round(number / 2) : Math.round(number);

/** Of a text like "0,25%,0,100". A part of a pixel counts as a whole one; what is no length counts as 0. */
export function bordersOf(extend, {width, height}) {
  const lengths = extend.split(",").map((text, side) => {
    const share = text.endsWith("%"), length = Math.max(0, parseFloat(text) || 0);
    // in millionths, which a fraction of 4 digits has a whole number of, and binary fractions do not
    return share ? Math.ceil(Math.round(length * 1e4) * (side % 2 ? height : width) / MILLIONTHS) : Math.floor(length);
  });
  return Object.fromEntries(SIDES.map((side, index) => [side, lengths[index]]));
}

/** The smallest size of an aspect like "16:9" in which a photo has room. */
export function sizeWith(aspect, {width, height}) {
  const [across, down] = aspect.split(":").map(Number);
  if (width * down < height * across) return {width: Math.max(width, nearest(height * across / down)), height};
  return {width, height: Math.max(height, nearest(width * down / across))};
}

/** The borders that make a photo one of the wanted size; it stands at the anchor. */
export function bordersWithin(wanted, {width, height}, anchor) {
  const names = anchor.split("-");
  const split = (spare, first, last) => names.includes(first) ? [0, spare] : names.includes(last) ? [spare, 0]
    : [Math.floor(spare / 2), Math.ceil(spare / 2)];
  const [left, right] = split(wanted.width - width, "left", "right");
  const [top, bottom] = split(wanted.height - height, "top", "bottom");
  return {left, top, right, bottom};
}

export const sizeBeyond = ({width, height}, {left, top, right, bottom}) =>
  ({width: width + left + right, height: height + top + bottom});
