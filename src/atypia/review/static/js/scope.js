/** One crop, large: zoom about a point, dragging, a scale bar in µm. */

import { OfflineError, RefusedError, cropAddress, fetchFile } from "./api.js";
import { button, h } from "./dom.js";
import { FIELD_UM } from "./names.js";
import { store } from "./store.js";

const STEPS = [1, 1.5, 2, 3, 4, 6, 8];
/** A pixel of a crop is at first at most this many pixels of the screen: larger is only more blurred. */
const MOST_ENLARGED = 4;
/** Side of what is shown around a figure on a slide, in fields. */
const AROUND = 2.5;
/** The server reduces larger images to this side. */
const LARGEST_PX = 1024;
const BARS_UM = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];
const LONGEST_BAR_PX = 170;

/** The longest round length whose bar fits: {um, px}; null if the scale is unknown. */
export function barLength(pxPerUm, longestPx = LONGEST_BAR_PX) {
  if (!Number.isFinite(pxPerUm) || pxPerUm <= 0) return null;
  const um = BARS_UM.findLast((length) => length * pxPerUm <= longestPx) ?? BARS_UM[0];
  return { um, px: um * pxPerUm };
}

/** A scale bar; `set(pxPerUm)` draws it, or states that the scale is unknown. */
export function scaleBar() {
  const text = h("span");
  const line = h("i");
  const element = h("div", { class: "scale" }, text, line);
  return {
    element,
    set(pxPerUm, isAssumed = false) {
      const bar = barLength(pxPerUm);
      line.hidden = !bar;
      text.textContent = bar ? (bar.um >= 1000 ? `${bar.um / 1000} mm` : `${bar.um} µm`) + (isAssumed ? " (assumed)" : "") : "scale unknown";
      if (bar) line.style.width = `${bar.px}px`;
    },
  };
}

/** Shows the crop of a figure. Zoom 1 is the largest size at which the whole crop is visible. */
export class Scope {
  #figure = null;
  #zoom = 1;
  #shiftX = 0;
  #shiftY = 0;
  #pointers = new Map();

  constructor() {
    this.image = h("img", { alt: "", draggable: "false" });
    this.absent = h("div", { class: "absent", hidden: true });
    this.bar = scaleBar();
    this.field = h("div", { class: "field", hidden: true }, h("span", {}, "what the model sees"));
    this.around = button("", () => this.toggleAround(), { name: "around", label: "What is around the figure (S)" });
    const controls = h(
      "div", { class: "zooming" },
      button("", () => this.zoomBy(1), { name: "plus", label: "Zoom in (+)" }),
      button("", () => this.zoomBy(-1), { name: "minus", label: "Zoom out (−)" }),
      button("", () => this.fit(), { name: "fit", label: "Fit (0)" }),
      this.around,
    );
    this.element = h("div", { class: "scope", tabindex: "-1" }, this.image, this.field, this.absent, this.bar.element, controls);
    this.image.addEventListener("load", () => this.#place());
    this.image.addEventListener("error", () => this.#failed());
    this.element.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.#zoomAt(this.#zoom * Math.exp(-event.deltaY / 400), event);
    }, { passive: false });
    this.element.addEventListener("pointerdown", (event) => {
      if (event.target.closest("button")) return;
      this.#pointers.set(event.pointerId, event);
      this.element.setPointerCapture(event.pointerId);
    });
    this.element.addEventListener("pointermove", (event) => this.#moved(event));
    for (const end of ["pointerup", "pointercancel"]) {
      this.element.addEventListener(end, (event) => this.#pointers.delete(event.pointerId));
    }
    new ResizeObserver(() => this.#place()).observe(this.element);
  }

  // One pointer drags; two zoom about the point between them.
  #moved(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const [other] = [...this.#pointers.values()].filter((one) => one.pointerId !== event.pointerId);
    this.#pointers.set(event.pointerId, event);
    if (other) {
      const apart = (one) => Math.max(1, Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY));
      const between = { clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 };
      this.#zoomAt((this.#zoom * apart(event)) / apart(before), between);
    } else {
      this.#shiftX += event.clientX - before.clientX;
      this.#shiftY += event.clientY - before.clientY;
      this.#place();
    }
  }

  /** Shows a figure; the zoom does not change, so that figures can be compared. */
  show(figure, stain, alt) {
    const isOnSlide = Number.isFinite(figure.x_px) && figure.slide !== null && figure.slide !== undefined;
    this.around.hidden = !isOnSlide;
    this.around.setAttribute("aria-pressed", String(store.preferences.around));
    this.fields = isOnSlide && store.preferences.around ? AROUND : 1;
    const source = cropAddress(figure.index, stain, null, this.fields > 1 ? this.fields : null);
    if (figure.index !== this.#figure?.index) this.#shiftX = this.#shiftY = 0;
    this.#figure = figure;
    this.image.alt = alt;
    if (this.image.getAttribute("src") !== source) {
      this.image.hidden = true;
      this.absent.hidden = true;
      this.image.src = source;
    }
    this.#place();
  }

  /** Shows a figure on a slide with what is around it, or its crop alone. */
  toggleAround() {
    if (!this.around.hidden) store.prefer({ around: !store.preferences.around });
  }

  /** Zooms by steps about the centre. */
  zoomBy(steps) {
    const at = STEPS.findLastIndex((step) => step <= this.#zoom + 1e-6);
    this.#zoomAt(STEPS[Math.min(STEPS.length - 1, Math.max(0, at + steps))]);
  }

  fit() {
    this.#shiftX = this.#shiftY = 0;
    this.#zoomAt(1);
  }

  #zoomAt(zoom, event = null) {
    const wanted = Math.min(STEPS.at(-1), Math.max(1, zoom));
    const ratio = wanted / this.#zoom;
    if (event) {
      // The point under the pointer stays there.
      const box = this.element.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
      this.#shiftX = x - (x - this.#shiftX) * ratio;
      this.#shiftY = y - (y - this.#shiftY) * ratio;
    } else {
      this.#shiftX *= ratio;
      this.#shiftY *= ratio;
    }
    this.#zoom = wanted;
    this.#place();
  }

  #place() {
    const { naturalWidth: width, naturalHeight: height } = this.image;
    const { clientWidth, clientHeight } = this.element;
    if (!width || !this.image.complete || !clientWidth || !this.#figure) return;
    this.image.hidden = false;
    this.absent.hidden = true;
    const scale = this.#zoom * Math.min(clientWidth / width, clientHeight / height, MOST_ENLARGED);
    const reach = (size, room) => Math.max(0, (size * scale - room) / 2);
    this.#shiftX = Math.min(reach(width, clientWidth), Math.max(-reach(width, clientWidth), this.#shiftX));
    this.#shiftY = Math.min(reach(height, clientHeight), Math.max(-reach(height, clientHeight), this.#shiftY));
    this.image.style.transform = `translate(${this.#shiftX - (width * scale) / 2}px, ${this.#shiftY - (height * scale) / 2}px) scale(${scale})`;
    this.element.dataset.zoom = this.#zoom.toFixed(2);
    this.bar.element.hidden = false;
    const { width_um: own, mpp, mpp_assumed: isAssumed } = this.#figure;
    // Of crops of unknown size only the µm/px are known: the image says how many pixels there are.
    const across = own ? own * this.fields : Number.isFinite(mpp) && width < LARGEST_PX ? mpp * width : NaN;
    this.bar.set((width * scale) / across, isAssumed);
    const side = (FIELD_UM / across) * width * scale;
    this.field.hidden = !(across > 1.02 * FIELD_UM);
    if (!this.field.hidden) {
      this.field.style.width = this.field.style.height = `${side}px`;
      this.field.style.left = `${clientWidth / 2 + this.#shiftX - side / 2}px`;
      this.field.style.top = `${clientHeight / 2 + this.#shiftY - side / 2}px`;
    }
  }

  async #failed() {
    const source = this.image.getAttribute("src");
    if (!source) return;
    this.image.hidden = true;
    this.bar.element.hidden = this.field.hidden = true;
    this.absent.hidden = false;
    this.absent.textContent = "The crop cannot be read.";
    // An image element does not report the reason; a request to the URL does.
    try {
      await fetchFile(source);
    } catch (error) {
      if (!(error instanceof RefusedError) && !(error instanceof OfflineError)) throw error;
      if (this.image.getAttribute("src") === source) this.absent.textContent = error.message;
    }
  }
}
