/** A grid of figures with the decision bar below it and the large view. */

import { OfflineError, RefusedError } from "./api.js";
import { describe } from "./card.js";
import { announce, button, fill, fixed, h, stateBox, toast, whole } from "./dom.js";
import { assignDialog, noteDialog } from "./dialogs.js";
import { Grid } from "./grid.js";
import { decisionButtons, lastNote } from "./parts.js";
import { shownName } from "./names.js";
import { assign, decide, decideSeveral, figureNow, toggleTag, undo } from "./review.js";
import { store } from "./store.js";

/** Most figures that are chosen at once; the server takes no more. */
const MOST_CHOSEN = 5000;
const MOVES = { ArrowLeft: 1, ArrowRight: 1, ArrowUp: 1, ArrowDown: 1 };

/** Events: `moved` (the cursor or its figure changed), `large` (the large view opened or closed). */
export class Workspace extends EventTarget {
  /** The figure just decided and the one shown next, until the cursor moves again: T writes the former's note. */
  #decided = null;

  /**
   * @param {Object} options
   * @param {string} options.label of the grid, for screen readers
   * @param {function(Object, number): (string|Array)} options.line last line of a card
   * @param {import("./large.js").LargeView} options.large
   * @param {boolean} [options.settles] decisions are arbitrations
   * @param {function(): HTMLElement} options.empty shown if the list has no figure
   */
  constructor({ label, line, large, settles = false, empty }) {
    super();
    this.large = large;
    this.settles = settles;
    this.empty = empty;
    this.grid = new Grid(label, line, settles ? "settled" : "decision");
    this.buttons = decisionButtons((decision) => this.decide(decision), settles ? "Settle as" : "");
    this.now = h("div", { class: "now" });
    this.noteHere = button("Note", () => this.note(), { name: "note", key: "t" });
    this.noteLast = button("Note on last", () => this.note(), { name: "note", key: "t" });
    this.advance = h("input", { type: "checkbox" });
    this.advance.addEventListener("change", () => store.prefer({ advance: this.advance.checked }));
    this.choosing = button("Choose", () => this.#choosing(), { title: "Choose several figures by clicks; Shift or Ctrl with a click does the same" });
    this.assigning = button("Assign …", () => this.#assign(), { name: "person", title: "Assign the chosen figures to raters" });
    this.none = button("None", () => this.#unchoose(), { name: "cross", title: "Choose none (Esc)" });
    this.every = button("All", () => this.chooseAll(), { title: "Choose the whole list (Ctrl+A)" });
    this.bar = h(
      "div", { class: "bar deciding", role: "region", "aria-label": "Decide on the current figure" },
      this.now, settles && h("strong", {}, "Settle as"), this.buttons.element,
      button("Undo", () => undo(), { name: "undo", key: "z" }),
      !settles && [this.noteHere, this.noteLast],
      this.choosing, this.every, !settles && this.assigning, this.none,
      button("Large", () => this.openLarge(), { name: "large", title: "Large view (Enter)" }),
      h("label", { title: "Go to the next figure after a decision" }, this.advance, "Go on"),
    );
    this.message = h("div", { class: "view", hidden: true });
    this.element = h("div", { class: "view" }, this.grid.element, this.message, this.bar);
    this.grid.addEventListener("current", () => this.#moved());
    this.grid.addEventListener("open", () => this.openLarge());
    this.grid.addEventListener("chosen", () => this.#show());
    store.addEventListener("figure", ({ detail }) => this.grid.list?.patch(detail.index, detail.patch));
    store.addEventListener("undone", ({ detail }) => this.#goTo(detail.index));
    for (const event of ["preferences", "rater"]) store.addEventListener(event, () => this.#show());
  }

  get list() {
    return this.grid.list;
  }

  get figure() {
    return this.grid.figure;
  }

  /** The figure just decided, if the page has advanced from it automatically; else null. */
  get decided() {
    return this.#decided?.figure ?? null;
  }

  /** Shows a list; closes the previous one. */
  setList(list, position = 0) {
    this.#decided = null;
    this.list?.close();
    this.grid.setList(list, position);
    const state = () => this.list === list && this.#state();
    list.addEventListener("change", state);
    list.addEventListener("error", state);
    this.#state();
    this.#show();
  }

  #state() {
    const { error, total } = this.list;
    const broken = error && total === null;
    const text = error instanceof OfflineError ? "The server does not answer. The figures appear as soon as it does." : error?.message;
    const state = broken ? "broken" : total === null ? "loading" : total === 0 ? "empty" : "";
    // While figures are loading, the grid stays and keeps the focus.
    const isGrid = state === "" || state === "loading";
    this.grid.element.hidden = !isGrid;
    this.grid.element.setAttribute("aria-busy", String(state === "loading"));
    this.bar.hidden = !isGrid;
    this.message.hidden = isGrid;
    if (state === this.message.dataset.state) return;
    this.message.dataset.state = state;
    if (state === "broken") fill(
      this.message,
      stateBox(
        "The figures could not be read", text, button("Try again", () => this.list.retry(), { name: "reload" })
      )
    );
    else if (state === "empty") fill(this.message, this.empty());
    else if (state === "") {
      fill(this.message);
      this.grid.layout();
      this.grid.moveTo(this.grid.position);
      if (document.activeElement === document.body) this.grid.element.focus({ preventScroll: true });
    }
  }

  #goTo(index) {
    this.#decided = null;
    const position = this.list && this.element.isConnected ? this.list.positionOf(index) : -1;
    if (position >= 0) this.grid.moveTo(position);
  }

  #moved() {
    if (this.#decided?.to !== this.grid.position) this.#decided = null;
    this.#show();
    this.dispatchEvent(new Event("moved"));
  }

  #show() {
    if (!this.element.isConnected) return;
    const { figure } = this;
    this.advance.checked = store.preferences.advance;
    const chosen = this.grid.chosen.size;
    this.bar.classList.toggle("several", chosen > 0);
    this.choosing.setAttribute("aria-pressed", String(this.grid.choosing));
    for (const one of [this.every, this.assigning, this.none]) one.hidden = !chosen && !this.grid.choosing;
    this.assigning.disabled = this.none.disabled = !chosen;
    if (chosen) {
      this.buttons.set(null, true);
      fill(this.now, h("div", {}, h("strong", {}, `${whole(chosen)} chosen`)), h("div", { class: "faint" }, "A decision counts for all of them."));
      this.noteHere.hidden = this.noteLast.hidden = true;
      return;
    }
    this.buttons.set((this.settles ? figure?.settled : figure?.decision) ?? null, figure !== null);
    fill(this.now, figure && [
      h("div", { title: figure.figure_id }, h("strong", {}, shownName(figure))),
      h(
        "div", { class: "faint" }, `${whole(this.grid.position + 1)} of ${whole(this.list.total ?? 0)}`,
        figure.case && !String(figure.figure_id).startsWith(figure.case) ? ` · ${figure.case}` : "", figure.call ? ` · model: ${figure.call}${Number.isFinite(figure.p) ? ` ${fixed(figure.p, 2)}` : ""}` : "",
        figure.assigned?.length ? ` · for ${figure.assigned.join(", ")}` : "", figure.note ? ` · ${figure.note}` : ""
      ),
    ]);
    const { decided } = this;
    this.noteHere.hidden = decided !== null;
    this.noteLast.hidden = decided === null;
    this.noteLast.title = decided ? lastNote(decided) : "";
    this.large.refresh();
  }

  /** Restores the view after it was removed from the document. */
  resume() {
    this.#show();
    this.grid.layout();
    if (this.list?.total) this.grid.moveTo(this.grid.position);
    this.grid.element.focus({ preventScroll: true });
  }

  #choosing() {
    this.grid.choosing = !this.grid.choosing;
    if (!this.grid.choosing) this.grid.choose([]);
    this.#show();
    this.grid.element.focus({ preventScroll: true });
  }

  #unchoose() {
    this.grid.choosing = false;
    this.grid.choose([]);
    this.grid.element.focus({ preventScroll: true });
  }

  /** Chooses all figures of the list, also those that are not loaded. */
  async chooseAll() {
    try {
      const { list } = this;
      const figures = await list.first(MOST_CHOSEN);
      if (this.list !== list) return;
      this.grid.choose(figures);
      if (figures.length < list.total) toast(`The first ${whole(figures.length)} of ${whole(list.total)} figures are chosen.`);
    } catch (error) {
      if (!(error instanceof OfflineError) && !(error instanceof RefusedError)) throw error;
      toast(`The figures could not be read: ${error.message}`, true);
    }
  }

  #assign() {
    const figures = [...this.grid.chosen.values()];
    if (figures.length) assignDialog(figures, (to) => assign(figures, to));
  }

  /** Gives a tag to the figure just decided, else to the current one; see {@link note}. */
  async tag(name, isCurrent = false) {
    if (this.settles) return;
    const { decided, figure } = this;
    if (isCurrent || !decided) {
      if (figure) await toggleTag(figure, name);
      return;
    }
    const place = this.list.positionOf(decided.index);
    const now = place >= 0 ? this.list.at(place) : await figureNow(decided.index);
    if (now) await toggleTag(now, name);
  }

  async decide(decision) {
    const { figure } = this;
    if (this.grid.chosen.size) {
      // The present state of each, as decisions may have changed since they were chosen.
      const figures = [...this.grid.chosen.values()].map((one) => this.list.at(this.list.positionOf(one.index)) ?? one);
      if (await decideSeveral(figures, decision, { settles: this.settles })) this.#unchoose();
      return;
    }
    const { position } = this.grid;
    if (!figure) {
      announce("not loaded yet"); // figures cannot be decided before they are shown
      return;
    }
    if (!(await decide(figure, decision, { settles: this.settles }))) return;
    if (!store.preferences.advance || decision === null || this.grid.position !== position) return;
    this.step(1);
    if (this.grid.position === position) return;
    this.#decided = { figure, to: this.grid.position };
    this.#show();
  }

  /**
   * Writes the present rater's note; an arbitration is not a personal opinion and has no note.
   * @param {boolean} [isCurrent] true: for the figure under the cursor, even right after a decision on another
   */
  async note(isCurrent = false) {
    if (this.settles) return;
    const { decided, figure } = this;
    if (isCurrent || !decided) {
      if (figure) noteDialog(figure);
      return;
    }
    // The present note must be known before it is changed.
    const place = this.list.positionOf(decided.index);
    const now = place >= 0 ? this.list.at(place) : await figureNow(decided.index);
    if (now) noteDialog(now, figure);
  }

  step(count) {
    const last = (this.list?.total ?? Infinity) - 1;
    this.grid.moveTo(Math.min(last, Math.max(0, this.grid.position + count)));
  }

  /** Opens the large view over this grid. */
  openLarge() {
    if (!this.figure) return;
    this.large.open(
      {
        figure: () => this.figure,
        place: () => [this.grid.position, this.list?.total ?? 0],
        step: (count) => this.step(count),
        decide: (decision) => this.decide(decision),
        note: (isCurrent) => this.note(isCurrent),
        tag: (name) => this.tag(name, true),
        decided: () => this.decided,
        undo: () => undo(),
        settles: this.settles,
      },
      () => {
        this.grid.element.focus({ preventScroll: true });
        this.dispatchEvent(new Event("large"));
      },
    );
    this.dispatchEvent(new Event("large"));
  }

  /** Keys of the grid; returns whether it used the key. */
  key(key, isShift = false) {
    if (!this.list?.total) return false;
    const taken = this.grid.key(key, isShift);
    // The focus stays on the grid element, so cursor moves are announced to screen readers explicitly.
    if (taken && key in MOVES && document.activeElement !== this.grid.element && this.figure) announce(describe(this.figure));
    return taken;
  }
}
