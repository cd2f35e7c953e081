/** A grid of any number of figures, of which only the visible rows are in the document. */

import { h } from "./dom.js";
import { makeCard, updateCard } from "./card.js";
import { store } from "./store.js";

const GAP_PX = 10;
const CAPTION_PX = 48;
const EXTRA_ROWS = 2;
/** Browsers limit the height of elements to somewhere above 15 million px; beyond this, scrolling is scaled. */
const TALLEST_PX = 12_000_000;
/** Above this speed, in screens per second, crops are loaded only when scrolling slows down. */
const FLYING = 8;
const SETTLE_MS = 90;

/** Smallest width of a card and side of the requested crop, by name. */
export const TILES = {
  small: { title: "Small", px: 92, size: 128 }, medium: { title: "Medium", px: 136, size: 192 },
  large: { title: "Large", px: 208, size: 320 }
};

/** Events: `current` (the cursor moved or its figure arrived), `open` (Enter, double click), `chosen` (the choice changed). */
export class Grid extends EventTarget {
  list = null;
  /** Position of the cursor. */
  position = 0;
  /** Figures chosen to be decided at once, by index. */
  chosen = new Map();
  /** Whether a click chooses figures (for touch), as with Ctrl. */
  choosing = false;
  #anchor = null;
  #rows = new Map();
  #pool = [];
  #columns = 1;
  #tile = 100;
  #frame = 0;
  #dirty = true;
  #top = 0;
  #time = 0;
  #flying = false;
  #settle = 0;
  #shown = null;
  #line;
  #shows;

  /**
   * @param {string} label for screen readers
   * @param {function(Object, number): (string|Array)} line the last line of a card
   * @param {"decision"|"settled"} [shows] value marked on cards
   */
  constructor(label, line, shows = "decision") {
    super();
    this.#line = line;
    this.#shows = shows;
    this.space = h("div", { class: "space", role: "presentation" });
    this.element = h("div", { class: "grid", role: "grid", tabindex: "0", "aria-multiselectable": "true", "aria-label": label }, this.space);
    this.element.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.element.addEventListener("click", (event) => this.#clicked(event, "current"));
    this.element.addEventListener("dblclick", (event) => this.#clicked(event, "open"));
    new ResizeObserver(() => this.layout()).observe(this.element);
    store.addEventListener("preferences", () => this.layout());
  }

  /** The figure under the cursor; null while it is loading. */
  get figure() {
    return this.list?.at(this.position) ?? null;
  }

  get columns() {
    return this.#columns;
  }

  /** Rows that fit on the screen. */
  get screenful() {
    return Math.max(1, Math.floor(this.element.clientHeight / this.#rowPx));
  }

  get #rowPx() {
    return this.#tile + CAPTION_PX + GAP_PX;
  }

  get #all() {
    return this.list?.total ?? 0;
  }

  /** Shows a list, with the cursor at a position. */
  setList(list, position = 0) {
    this.list = list;
    this.position = position;
    this.choose([]);
    this.#shown = null;
    const changed = () => this.list === list && this.refresh();
    list.addEventListener("change", changed);
    list.addEventListener("error", changed);
    for (const row of this.#rows.values()) this.#release(row);
    this.#rows.clear();
    this.element.scrollTop = 0;
    this.layout();
    if (list.total === null) list.want(position, position + 1);
    else this.moveTo(position);
  }

  /** Redraws the visible part. */
  refresh() {
    this.#dirty = true;
    if (this.list.total !== null && this.position >= this.list.total) this.position = Math.max(0, this.list.total - 1);
    this.#plan();
    if (this.figure !== this.#shown) {
      this.#shown = this.figure;
      this.dispatchEvent(new Event("current"));
    }
  }

  /** Moves the cursor and brings it into view. */
  moveTo(position) {
    if (this.list?.total === null) this.position = Math.max(0, position); // limited to the end once that is known
    if (this.#all === 0) return;
    this.position = Math.min(Math.max(0, position), this.#all - 1);
    this.#reveal();
    this.#shown = this.figure;
    this.#dirty = true;
    this.#plan();
    this.dispatchEvent(new Event("current"));
  }

  /** Chooses these figures and no others. */
  choose(figures) {
    this.chosen = new Map(figures.map((figure) => [figure.index, figure]));
    if (!figures.length) this.#anchor = null;
    this.#dirty = true;
    this.#plan();
    this.dispatchEvent(new Event("chosen"));
  }

  /** Chooses the loaded figures from the anchor to the cursor. */
  #chooseTo(from) {
    this.#anchor ??= from;
    const [first, last] = [Math.min(this.#anchor, this.position), Math.max(this.#anchor, this.position)];
    const figures = [];
    for (let at = first; at <= last; at += 1) if (this.list.at(at)) figures.push(this.list.at(at));
    const anchor = this.#anchor;
    this.choose(figures);
    this.#anchor = anchor;
  }

  #toggle(figure) {
    const { chosen } = this;
    if (!figure) return;
    if (chosen.has(figure.index)) chosen.delete(figure.index);
    else chosen.set(figure.index, figure);
    this.choose([...chosen.values()]);
  }

  /** Moves by a key; returns whether the grid uses this key. With Shift, the figures passed are chosen. */
  key(key, isShift = false) {
    const from = this.position;
    const page = this.#columns * this.screenful;
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.#columns, ArrowDown: this.#columns, PageUp: -page, PageDown: page
    };
    if (key in steps) {
      const wanted = this.position + steps[key];
      // Up and down never leave their column at the ends; the others stop at the first and last figure.
      if ((key === "ArrowUp" && wanted < 0) || (
        key === "ArrowDown" && wanted >= this.#all && this.#rowOf(this.position) === this.#rowOf(this.#all - 1)
      )) return true;
      this.moveTo(wanted);
      if (isShift) this.#chooseTo(from);
    } else if (key === "Home") this.moveTo(0);
    else if (key === "End") this.moveTo(this.#all - 1);
    else if (key === "Escape" && this.chosen.size) this.choose([]);
    else if (key === "Enter" || key === " ") this.dispatchEvent(new Event("open"));
    else return false;
    return true;
  }

  /** Measures and draws, keeping the cursor in view where it was. */
  layout() {
    const width = this.space.clientWidth;
    if (!width) return;
    const top = this.#virtualTop();
    const seen = this.#rowOf(this.position) * this.#rowPx - top;
    const { px } = TILES[store.preferences.tile] ?? TILES.medium;
    const columns = Math.max(2, Math.floor((width + GAP_PX) / (px + GAP_PX)));
    const tile = Math.floor((width - GAP_PX * (columns - 1)) / columns);
    const changed = columns !== this.#columns || tile !== this.#tile;
    const wasVisible = seen > -this.#rowPx && seen < this.element.clientHeight;
    this.#columns = columns;
    this.#tile = tile;
    if (changed) {
      for (const row of this.#rows.values()) row.remove();
      this.#rows.clear();
      this.#pool = [];
      this.#stretch();
      if (wasVisible) this.#reveal();
    }
    this.#dirty = true;
    this.#plan();
  }

  #rowOf(position) {
    return Math.floor(position / this.#columns);
  }

  #stretch() {
    const rows = Math.ceil(this.#all / this.#columns);
    const height = `${Math.min(rows * this.#rowPx, TALLEST_PX)}px`;
    if (this.space.style.height !== height) this.space.style.height = height;
    this.element.setAttribute("aria-rowcount", String(rows));
    this.element.setAttribute("aria-colcount", String(this.#columns));
  }

  // Where the grid is taller than a browser allows, scrolled pixels stand for more pixels of the grid.
  #scaled() {
    const full = Math.ceil(this.#all / this.#columns) * this.#rowPx;
    const screen = this.element.clientHeight;
    return full > TALLEST_PX ? (full - screen) / (TALLEST_PX - screen) : 1;
  }

  #virtualTop() {
    return this.element.scrollTop * this.#scaled();
  }

  #reveal() {
    this.#stretch();
    const top = this.#rowOf(this.position) * this.#rowPx;
    const now = this.#virtualTop();
    const room = this.element.clientHeight - this.#rowPx - GAP_PX;
    if (top < now) this.element.scrollTop = top / this.#scaled();
    else if (top > now + room) this.element.scrollTop = (top - Math.max(0, room)) / this.#scaled();
  }

  #scrolled() {
    const now = performance.now();
    const moved = Math.abs(this.element.scrollTop - this.#top) * this.#scaled();
    const screens = moved / Math.max(1, this.element.clientHeight);
    // A jump (End, a click on the track) is one event long after the previous one, not fast scrolling.
    this.#flying = now - this.#time < 200 && screens / Math.max(8, now - this.#time) > FLYING / 1000;
    this.#top = this.element.scrollTop;
    this.#time = now;
    clearTimeout(this.#settle);
    if (this.#flying) {
      this.#settle = setTimeout(() => {
        this.#flying = false;
        this.#dirty = true;
        this.#plan();
      }, SETTLE_MS);
    }
    this.#plan();
  }

  #plan() {
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = 0;
    if (!this.list || !this.space.clientWidth) return;
    this.#stretch();
    const rowPx = this.#rowPx;
    const top = this.#virtualTop();
    const rows = Math.ceil(this.#all / this.#columns);
    const first = Math.max(0, Math.floor(top / rowPx) - EXTRA_ROWS);
    const last = Math.min(rows - 1, Math.ceil((top + this.element.clientHeight) / rowPx) + EXTRA_ROWS);
    for (const [number, row] of this.#rows) {
      if (number < first || number > last) {
        this.#release(row);
        this.#rows.delete(number);
      }
    }
    const shift = this.element.scrollTop - top;
    for (let number = first; number <= last; number += 1) {
      let row = this.#rows.get(number);
      const isNew = !row;
      if (isNew) {
        row = this.#pool.pop() ?? this.#makeRow();
        row.hidden = false;
        this.#rows.set(number, row);
        if (!row.isConnected) this.space.append(row);
      }
      row.style.transform = `translateY(${number * rowPx + shift}px)`;
      if (isNew || this.#dirty) this.#fillRow(row, number);
    }
    this.#dirty = false;
    if (!this.#flying && rows) this.list.want(first * this.#columns, (last + 1) * this.#columns - 1);
    const card = document.getElementById(this.#cardId(this.position));
    if (card && this.element.contains(card)) this.element.setAttribute("aria-activedescendant", card.id);
    else this.element.removeAttribute("aria-activedescendant");
  }

  #cardId(position) {
    return `card-${position}`;
  }

  #makeRow() {
    const row = h("div", { class: "cards", role: "row" });
    row.style.gridTemplateColumns = `repeat(${this.#columns}, ${this.#tile}px)`;
    for (let i = 0; i < this.#columns; i += 1) {
      const card = makeCard();
      card.style.height = `${this.#tile + CAPTION_PX}px`;
      row.append(card);
    }
    return row;
  }

  #release(row) {
    row.hidden = true;
    for (const card of row.children) {
      card.removeAttribute("id");
      updateCard(card, null, null);
    }
    this.#pool.push(row);
  }

  #fillRow(row, number) {
    row.setAttribute("aria-rowindex", String(number + 1));
    const view = store.preferences.stain;
    const { size } = TILES[store.preferences.tile] ?? TILES.medium;
    for (let column = 0; column < this.#columns; column += 1) {
      const card = row.children[column];
      const position = number * this.#columns + column;
      const figure = this.list.at(position);
      card.hidden = position >= this.#all;
      card.id = this.#cardId(position);
      card.setAttribute("aria-colindex", String(column + 1));
      card.setAttribute("aria-selected", String(position === this.position));
      card.classList.toggle("current", position === this.position);
      updateCard(
        card, card.hidden ? null : figure,
        { line: figure ? this.#line(figure, position) : "", view, size, shows: this.#shows, images: !this.#flying, chosen: figure && this.chosen.has(figure.index) }
      );
    }
  }

  #clicked(event, what) {
    const card = event.target.closest(".card");
    if (!card?.id) return;
    const position = Number(card.id.slice("card-".length));
    const from = this.position;
    if (what === "current" && (event.shiftKey || event.ctrlKey || event.metaKey || this.choosing)) {
      this.moveTo(position);
      if (event.shiftKey) this.#chooseTo(from);
      else this.#toggle(this.list.at(position));
      this.element.focus({ preventScroll: true });
      return;
    }
    if (what === "current" && this.chosen.size) this.choose([]);
    if (position !== this.position) this.moveTo(position);
    this.element.focus({ preventScroll: true });
    if (what === "open") this.dispatchEvent(new Event("open"));
  }
}
