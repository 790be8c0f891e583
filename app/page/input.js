// What hands do on the stage: paint, box and lasso with mouse, pen, finger or keys; point at what is to be found; drag
// the frame of an extension; zoom and pan by wheel, keys and two fingers; move the divider of a comparison.

import {Frame} from "./frame.js";
import {extentOf} from "./shapes.js";

const KEY_STEP = 8;       // CSS pixels that an arrow key moves the brush; with Shift four times as many
const WHEEL = 0.0015;
const HOLD_MS = 500;      // that a finger stays where it is to point beside a subject
const STILL = 6;          // CSS pixels that a click or a held finger may move
const TOOLS = {b: "brush", e: "eraser", r: "box", l: "lasso", f: "find"};
const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

const distance = ([ax, ay], [bx, by]) => Math.hypot(ax - bx, ay - by);
const middle = ([ax, ay], [bx, by]) => [(ax + bx) / 2, (ay + by) / 2];

export class Input {
  /**
   * `changed()` is called when the mask is another, `moved()` when the view is; `findIn(corners)` and `point(at, on)`
   * where something is to be found in a box, or by a point on it or beside it; `framed(borders, still)` where the frame
   * is dragged, `still` until it is let go; `locked()`: no painting now.
   */
  constructor(stage, {changed, moved, findIn, point, framed, locked}) {
    Object.assign(this, {stage, changed, moved, findIn, point, locked});
    this.tool = "brush";
    this.size = 44;            // of the brush, in CSS pixels
    this.pointers = new Map(); // id -> place on the stage, of those that are down
    this.painter = null;       // id of the pointer that paints, or "keys"
    this.at = null;            // where the keys' brush is, in pixels of the photo
    this.frame = new Frame(stage, framed);
    const {element} = stage;
    for (const name of ["pointerdown", "pointermove", "pointerup", "pointercancel", "pointerleave", "keydown", "blur"])
      element.addEventListener(name, event => this[name](event));
    element.addEventListener("wheel", event => this.wheel(event), {passive: false});
    element.addEventListener("contextmenu", event => event.preventDefault());
  }

  place({clientX, clientY}) {
    const box = this.stage.element.getBoundingClientRect();
    return [clientX - box.left, clientY - box.top];
  }

  // ---- painting: the same for pointers and keys

  begin(painter, place) {
    if (this.stage.mode !== "paint" || this.stage.framing || this.locked()) return;
    const {view, mask} = this.stage, point = view.toPhoto(place);
    this.painter = painter;
    const corner = point.map(Math.round), boxed = this.tool === "box" || this.tool === "find";
    mask.draft = boxed ? {kind: "box", points: [corner, corner]}
      : this.tool === "lasso" ? {kind: "lasso", points: [point]}
      : {kind: "stroke", points: [point], width: this.size / view.scale, erase: this.tool === "eraser"};
    this.drawDraft(0);
  }

  move(places) {
    const {view, mask: {draft}} = this.stage;
    const points = places.map(place => view.toPhoto(place)), from = draft.points.length - 1;
    if (draft.kind === "box") draft.points[1] = points.at(-1).map(Math.round);  // whole pixels have no soft edge
    else draft.points.push(...points);
    this.drawDraft(from);
  }

  drawDraft(from) {
    const {draft} = this.stage.mask;
    if (draft.kind === "stroke" && !this.stage.asked) this.stage.extend(draft, from);
    else this.stage.redraw();
  }

  /** Keeps what was drawn, unless it is a box or lasso around nothing. */
  end(beside = false) {
    const {mask} = this.stage, {draft} = mask, [width, height] = extentOf(draft), clicked = this.still;
    this.drop();
    const flat = width < 1 || height < 1;
    if (this.tool === "find") return flat || clicked ? this.point(draft.points[0], !beside) : this.findIn(draft.points);
    if (draft.kind === "stroke" || !flat) mask.add(draft);
    this.changed();
  }

  /** Whether no more than a place was drawn. */
  get still() {
    return Math.max(...extentOf(this.stage.mask.draft)) * this.stage.view.scale < STILL;
  }

  /** Takes back what was begun. */
  drop() {
    clearTimeout(this.held);
    this.painter = this.stage.mask.draft = null;
    this.stage.redraw();
  }

  /** A finger that stays where it came down points beside the subject. */
  hold() {
    if (this.painter !== null && this.painter !== "keys" && this.still) this.end(true);
  }

  // ---- pointers

  pointerdown(event) {
    const place = this.place(event), fingers = event.pointerType === "touch" && this.pointers.size;
    this.stage.element.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, place);
    if (fingers) {
      if (this.painter !== null) this.drop();
      this.frame.letGo();
      this.pinched = true;  // until no finger is left: the last one of a pinch does not paint
      return;
    }
    const {mode, framing} = this.stage, touched = event.pointerType === "touch";
    if (!event.button && !this.locked() && this.frame.take(event.pointerId, place, touched)) return;
    if (event.button || framing || mode === "before" || mode === "after") this.panning = event.pointerId;
    else if (mode === "compare") this.slide(place);
    else if (this.painter === null) this.begin(event.pointerId, place);
    if (touched && this.tool === "find" && this.painter !== null) this.held = setTimeout(() => this.hold(), HOLD_MS);
  }

  pointermove(event) {
    const place = this.place(event), before = this.pointers.get(event.pointerId);
    this.follow(event.pointerType === "touch" ? null : place);
    if (!before) return;
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    this.pointers.set(event.pointerId, place);
    if (this.pinched) {
      if (others.length === 1) this.pinch(before, place, others[0]);
    } else if (this.frame.pointer === event.pointerId) this.frame.drag(place);
    else if (this.panning === event.pointerId) this.pan(place[0] - before[0], place[1] - before[1]);
    else if (this.painter === event.pointerId) {
      const moves = event.getCoalescedEvents?.() ?? [];
      this.move((moves.length ? moves : [event]).map(each => this.place(each)));
    } else if (this.stage.mode === "compare") this.slide(place);
  }

  pointerup(event) {
    this.pointers.delete(event.pointerId);
    if (this.painter === event.pointerId) this.end(event.altKey);
    if (this.frame.pointer === event.pointerId) this.frame.letGo();
    if (this.panning === event.pointerId) this.panning = null;
    if (!this.pointers.size) this.pinched = false;
  }

  pointercancel(event) {
    if (this.painter === event.pointerId) this.drop();
    this.pointerup(event);
  }

  pointerleave() {
    this.follow(null);
  }

  /** One finger moved from `before` to `place` while the other one stayed. */
  pinch(before, place, other) {
    const {view} = this.stage, was = middle(before, other), now = middle(place, other);
    view.pan(now[0] - was[0], now[1] - was[1]);
    view.zoom(distance(place, other) / Math.max(1, distance(before, other)), now);
    this.viewed();
  }

  slide([x]) {
    this.stage.split = Math.min(1, Math.max(0, this.stage.view.toSplit(x)));
    this.viewed();
  }

  wheel(event) {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 16 : 1;
    if (event.shiftKey) return this.pan(-(event.deltaX || event.deltaY) * unit, 0);
    const factor = Math.exp(-event.deltaY * unit * WHEEL * (event.ctrlKey ? 6 : 1));
    this.zoom(Math.min(2, Math.max(0.5, factor)), this.place(event));
  }

  // ---- view

  zoom(factor, place) {
    const {width, height} = this.stage.view.stage;
    this.stage.view.zoom(factor, place ?? (this.at ? this.stage.view.toStage(this.at) : [width / 2, height / 2]));
    this.viewed();
  }

  pan(dx, dy) {
    this.stage.view.pan(dx, dy);
    this.viewed();
  }

  viewed() {
    this.stage.redraw();
    this.moved();
  }

  /** Shows the brush there, or nowhere. */
  follow(place) {
    this.stage.showCursor(place, ["brush", "eraser"].includes(this.tool) ? this.size : 9);
    this.stage.element.dataset.grips = place ? this.frame.sidesAt(place).join("-") : "";
  }

  // ---- keys

  keydown(event) {
    const arrow = ARROWS[event.key], {view} = this.stage;
    if (arrow && (event.ctrlKey || event.metaKey)) this.pan(-40 * arrow[0], -40 * arrow[1]);
    else if (event.ctrlKey || event.metaKey || event.altKey) return;
    else if (arrow && this.stage.mode === "compare")
      this.slide([view.fromSplit(this.stage.split + arrow[0] / 50)]);
    else if (this.stage.framing) return;
    else if (arrow) this.step(arrow, event.shiftKey ? 4 * KEY_STEP : KEY_STEP);
    else if (event.key === "Enter" && this.tool === "find" && !event.repeat) this.pointByKeys(!event.shiftKey);
    else if (event.key === " " || event.key === "Enter") this.press(event.repeat);
    else if (event.key === "Escape" && this.painter === "keys") this.drop();
    else return;
    event.preventDefault();
  }

  blur() {
    if (this.painter === "keys") this.end();
    this.follow(null);
  }

  step([dx, dy], by) {
    const {view} = this.stage, {width, height} = view.photo;
    const [x, y] = this.at ?? [width / 2, height / 2];
    const within = (at, length) => Math.min(length, Math.max(0, at));
    this.at = [within(x + dx * by / view.scale, width), within(y + dy * by / view.scale, height)];
    view.reveal(this.at);
    this.follow(view.toStage(this.at));
    if (this.painter === "keys") this.move([view.toStage(this.at)]);
    else this.stage.redraw();
  }

  /** Puts the brush down, or lifts it. */
  press(repeated) {
    const {view} = this.stage;
    if (repeated) return;
    if (this.painter === "keys") return this.end();
    this.at ??= [view.photo.width / 2, view.photo.height / 2];
    this.follow(view.toStage(this.at));
    if (this.painter === null) this.begin("keys", view.toStage(this.at));
  }

  pointByKeys(on) {
    const {mode, view: {photo: {width, height}}} = this.stage;
    if (mode !== "paint" || this.locked()) return;
    if (this.painter === "keys") this.drop();
    this.point(this.at ?? [width / 2, height / 2], on);
  }

  /** The tool of a letter, if it has one. */
  static tool = key => TOOLS[key.toLowerCase()];
}
