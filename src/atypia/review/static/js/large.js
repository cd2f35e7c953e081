/** The large view: one figure in a dialog, with everything known about it. */

import { describe } from "./card.js";
import { button, fill, h, whole } from "./dom.js";
import { decisionButtons, lookControls, modelSection, noteSection, opinionsSection, originSection, tagSection } from "./parts.js";
import { nameParts, shownName } from "./names.js";
import { Scope } from "./scope.js";
import { store } from "./store.js";

/**
 * Opens over a cursor of a view.
 * @typedef {Object} Cursor
 * @property {function(): ?Object} figure the figure under the cursor
 * @property {function(): [number, number]} place its position and the number of all
 * @property {function(number)} step moves by figures
 * @property {function(string)} tag @property {function(string)} decide @property {function(boolean)} note @property {function()} undo
 * @property {function(): ?Object} decided the figure just decided, if the page has advanced from it
 * @property {boolean} [settles] decisions are arbitrations
 */
export class LargeView {
  #cursor = null;

  constructor() {
    this.scope = new Scope();
    this.title = h("h2");
    this.place = h("span", { class: "faint number" });
    this.side = h("div", { class: "side" });
    this.look = h("section", {}, h("h3", {}, "Display"), lookControls());
    this.element = h(
      "dialog", { class: "large", "aria-label": "Large view" },
      h("header", {}, this.title, this.place,
        button("", () => this.#cursor.step(-1), { name: "left", label: "Previous figure (←)" }),
        button("", () => this.#cursor.step(1), { name: "right", label: "Next figure (→)" }),
        button("", () => this.close(), { name: "cross", label: "Close (Esc)" })),
      this.scope.element, this.side,
    );
    this.element.addEventListener("close", () => this.#closed());
    this.onclose = () => {};
    document.body.append(this.element);
    for (const event of ["preferences", "blind"]) store.addEventListener(event, () => this.refresh());
  }

  get isOpen() {
    return this.element.open;
  }

  /** @param {Cursor} cursor @param {function()} onclose */
  open(cursor, onclose = () => {}) {
    this.#closed();
    this.#cursor = cursor;
    this.onclose = onclose;
    this.buttons = decisionButtons((decision) => this.#cursor.decide(decision), cursor.settles ? "Settle as" : "");
    if (!this.element.open) this.element.showModal();
    this.scope.element.focus();
    this.scope.fit();
    this.refresh();
  }

  close() {
    this.element.close();
    this.#closed();
  }

  /** Once for each closing, here or by Esc; the event «close» comes a frame later, when the view may be open again. */
  #closed() {
    if (this.isOpen || !this.#cursor) return;
    this.#cursor = null;
    this.onclose();
  }

  /** Redraws the figure under the cursor. */
  refresh() {
    if (!this.#cursor || !this.isOpen) return;
    const figure = this.#cursor.figure();
    const [position, all] = this.#cursor.place();
    this.place.textContent = all ? `${whole(position + 1)} of ${whole(all)}` : "";
    if (!figure) {
      this.title.textContent = "Loading …";
      return;
    }
    const [head, tail] = nameParts(shownName(figure));
    fill(this.title, h("span", {}, head), h("span", {}, tail));
    this.title.title = figure.figure_id;
    this.scope.show(figure, store.preferences.stain, `Crop of ${describe(figure)}`);
    const { settles } = this.#cursor;
    this.buttons.set(settles ? figure.settled : figure.decision);
    const scrolled = this.side.scrollTop;
    const focused = this.side.contains(document.activeElement) ? document.activeElement : null;
    fill(
      this.side,
      h(
        "section", { class: "first" },
        h("h3", {}, settles ? "Settle as" : store.rater ? `Decision of ${store.rater}` : "Decision"),
        this.buttons.element
      ),
      h("div", { class: "pair first" }, button("Undo", () => this.#cursor.undo(), { name: "undo", key: "z" })),
      !settles && tagSection(figure, (name) => this.#cursor.tag(name)),
      !settles && noteSection(figure, (isCurrent) => this.#cursor.note(isCurrent), this.#cursor.decided()),
      modelSection(figure),
      opinionsSection(figure),
      this.look,
      originSection(figure),
    );
    this.side.scrollTop = scrolled;
    if (focused) (focused.isConnected ? focused : this.scope.element).focus({ preventScroll: true });
  }

  /** Keys of the large view; returns whether it used the key. The page handles the other keys. */
  key(key) {
    const actions = {
      ArrowLeft: () => this.#cursor.step(-1), ArrowUp: () => this.#cursor.step(-1), PageUp: () => this.#cursor.step(-1),
      ArrowRight: () => this.#cursor.step(1), ArrowDown: () => this.#cursor.step(1), PageDown: () => this.#cursor.step(1),
      Home: () => this.#cursor.step(-Infinity), End: () => this.#cursor.step(Infinity),
      Enter: () => this.close(), " ": () => this.close(),
      "+": () => this.scope.zoomBy(1), "=": () => this.scope.zoomBy(1), "-": () => this.scope.zoomBy(-1), 0: () => this.scope.fit(),
      s: () => this.scope.toggleAround(), S: () => this.scope.toggleAround(),
    };
    if (!(key in actions)) return false;
    actions[key]();
    return true;
  }
}
