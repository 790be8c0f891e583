// The frame around a photo that is extended: its sides follow the pointer that holds them.

import {SIDES} from "./borders.js";

const GRIP = 14;  // CSS pixels between a pointer and the side that it takes hold of; for a finger twice as many

export class Frame {
  /** `framed(borders, still)` is called where the frame is another, `still` until it is let go. */
  constructor(stage, framed) {
    Object.assign(this, {stage, framed, pointer: null, sides: []});
  }

  /** The sides that a pointer there would take hold of. */
  sidesAt([x, y], finger = false) {
    if (!this.stage.framing) return [];
    const {view, borders: {left, top, right, bottom}} = this.stage, {width, height} = view.photo;
    const [west, north] = view.toStage([-left, -top]), [east, south] = view.toStage([width + right, height + bottom]);
    const reach = finger ? 2 * GRIP : GRIP;
    if (x < west - reach || x > east + reach || y < north - reach || y > south + reach) return [];
    const near = {left: x - west, top: y - north, right: east - x, bottom: south - y};
    return SIDES.filter(side => near[side] < reach);
  }

  /** Whether the pointer took hold of a side. */
  take(pointer, place, finger) {
    this.sides = this.sidesAt(place, finger);
    if (this.sides.length) this.pointer = pointer;
    return this.sides.length > 0;
  }

  /** Moves the sides that are held to where the pointer is, but not into the photo. */
  drag(place) {
    const {view, borders} = this.stage, [x, y] = view.toPhoto(place), {width, height} = view.photo;
    const beyond = {left: -x, top: -y, right: x - width, bottom: y - height};
    const held = this.sides.map(side => [side, Math.max(0, Math.round(beyond[side]))]);
    this.framed({...borders, ...Object.fromEntries(held)}, true);
  }

  letGo() {
    if (this.pointer !== null) this.framed(this.stage.borders, false);
    this.pointer = null;
  }
}
