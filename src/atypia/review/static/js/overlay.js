/** Figures drawn over a slide, on one canvas: fast with tens of thousands. */

import { differs } from "./names.js";
import { store } from "./store.js";

/** Colours of calls and decisions, as in the style sheet. */
const COLOURS = {
  atypical: "#d55e00", normal: "#56b4e9", unsure: "#f0e442", uncertain: "#f0e442", "not-mitosis": "#cc79a7", refused: "#999999", unknown: "#ffffff",
};
const MARK_PX = 7;
/** Smaller than this on the screen (px), a figure is drawn as a mark; larger, as a frame with a mark at its corner. */
const FRAME_FROM_PX = 34;
const HIT_PX = 14;

// Outlines of the marks about a centre, of radius r; the same shapes as the symbols elsewhere.
const SHAPES = {
  atypical: (path, x, y, r) => {
    path.moveTo(x, y - r);
    path.lineTo(x + r, y + 0.8 * r);
    path.lineTo(x - r, y + 0.8 * r);
    path.closePath();
  },
  normal: (path, x, y, r) => {
    path.moveTo(x + r, y);
    path.arc(x, y, r, 0, 2 * Math.PI);
  },
  uncertain: (path, x, y, r) => {
    path.moveTo(x, y - r);
    path.lineTo(x + r, y);
    path.lineTo(x, y + r);
    path.lineTo(x - r, y);
    path.closePath();
  },
  "not-mitosis": (path, x, y, r) => path.rect(x - 0.8 * r, y - 0.8 * r, 1.6 * r, 1.6 * r),
  refused: (path, x, y, r) => {
    for (const [dx, dy] of [[1, 1], [1, -1]]) {
      path.moveTo(x - dx * r, y - dy * r);
      path.lineTo(x + dx * r, y + dy * r);
    }
  },
};
SHAPES.unsure = SHAPES.uncertain;
SHAPES.unknown = SHAPES.normal;

/** How a figure is drawn: its decision if there is one (filled), else the model's call (outline). */
export const kindOf = (figure) => figure.decision ?? (figure.call in SHAPES ? figure.call : "unknown");

/** Draws figures; `view()` gives scale (screen px per slide px) and the slide's origin on the screen. */
export class Overlay {
  figures = [];
  current = null;
  #frame = 0;

  /** @param {HTMLCanvasElement} canvas @param {function(): ?{scale: number, x: number, y: number}} view */
  constructor(canvas, view) {
    this.canvas = canvas;
    this.view = view;
    new ResizeObserver(() => this.plan()).observe(canvas);
  }

  /** Draws at the next frame. */
  plan() {
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.#frame = 0;
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const view = this.view();
    if (!view) return;
    // One path for each kind: the number of strokes does not grow with the figures.
    const paths = new Map();
    const apart = new Path2D();
    const { threshold } = store.session;
    let marked = null;
    for (const figure of this.figures) {
      const side = figure.side_px * view.scale;
      const reach = Math.max(side / 2, MARK_PX) + 3;
      const [x, y] = [view.x + figure.x_px * view.scale, view.y + figure.y_px * view.scale];
      if (x < -reach || y < -reach || x > width + reach || y > height + reach) continue;
      const kind = kindOf(figure);
      const key = `${kind} ${figure.decision ? 1 : 0}`;
      let path = paths.get(key);
      if (!path) paths.set(
        key, (path = { kind, isDecided: Boolean(figure.decision), marks: new Path2D(), frames: new Path2D() })
      );
      if (side < FRAME_FROM_PX) SHAPES[kind](path.marks, x, y, MARK_PX);
      else {
        path.frames.rect(x - side / 2, y - side / 2, side, side);
        SHAPES[kind](path.marks, x - side / 2, y - side / 2, MARK_PX);
      }
      if (figure.decision && differs(figure, figure.decision, threshold)) {
        const [cx, cy] = side < FRAME_FROM_PX ? [x, y] : [x - side / 2, y - side / 2];
        apart.moveTo(cx + MARK_PX + 5, cy);
        apart.arc(cx, cy, MARK_PX + 5, 0, 2 * Math.PI);
      }
      if (figure.index === this.current) marked = { x, y, side: Math.max(side, 3.2 * MARK_PX) };
    }
    for (const { kind, isDecided, marks, frames } of paths.values()) this.#paint(
      context, COLOURS[kind], isDecided, marks, frames
    );
    for (const [style, width] of [["#000000", 4.5], ["#ffffff", 2.5]]) {
      context.strokeStyle = style;
      context.lineWidth = width;
      context.stroke(apart);
    }
    if (marked) this.#point(context, marked);
  }

  #paint(context, colour, isDecided, marks, frames) {
    context.lineJoin = "round";
    for (const [style, width] of [["#000000", 4], [colour, 2]]) {
      context.strokeStyle = style;
      context.lineWidth = width;
      context.stroke(frames);
      if (!isDecided) context.stroke(marks);
    }
    if (isDecided) {
      context.fillStyle = colour;
      context.fill(marks);
      context.strokeStyle = "#000000";
      context.lineWidth = 1.5;
      context.stroke(marks);
    }
  }

  #point(context, { x, y, side }) {
    const half = side / 2 + 6;
    for (const [style, width] of [["#000000", 5], ["#ffffff", 2.5]]) {
      context.strokeStyle = style;
      context.lineWidth = width;
      context.beginPath();
      for (const [dx, dy] of [[-1, -1], [1, -1], [1, 1], [-1, 1]]) {
        context.moveTo(x + dx * half, y + dy * half * 0.5);
        context.lineTo(x + dx * half, y + dy * half);
        context.lineTo(x + dx * half * 0.5, y + dy * half);
      }
      context.stroke();
    }
  }

  /** The figure nearest to a point on the screen, within reach; null where there is none. */
  hit(x, y) {
    const view = this.view();
    let [nearest, least] = [null, Infinity];
    for (const figure of view ? this.figures : []) {
      const [dx, dy] = [
        Math.abs(view.x + figure.x_px * view.scale - x), Math.abs(view.y + figure.y_px * view.scale - y)
      ];
      const reach = Math.max(HIT_PX, (figure.side_px * view.scale) / 2);
      if (dx <= reach && dy <= reach && Math.hypot(dx, dy) < least) [nearest, least] = [figure, Math.hypot(dx, dy)];
    }
    return nearest;
  }
}
