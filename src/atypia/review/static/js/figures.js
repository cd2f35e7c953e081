/** A long list of figures, loaded in windows. */

/** Figures per request. */
export const WINDOW = 200;
/** Windows kept; the least recently used are dropped and fetched again when needed. */
export const KEPT = 40;

/**
 * Positions are stable: a figure that leaves the server's list through a decision of its rater (for example, of
 * the undecided) keeps its place here until the list is reloaded, and requests for other windows
 * are shifted by the figures that have left before them.
 *
 * Events: `change` (something arrived), `error` (detail: the error).
 */
export class FigureList extends EventTarget {
  total = null;
  error = null;
  #load;
  #belongs;
  #settled;
  #windows = new Map();
  #waiting = new Map();
  #places = new Map();
  #left = new Map();
  #version = 0;
  #closed = new AbortController();

  /**
   * @param {Object} options
   * @param {function(number, number, AbortSignal): Promise<{total: number, figures: Object[]}>} options.load by offset and limit
   * @param {?function(Object): boolean} [options.belongs] whether a figure is still in the server's list; null if decisions do not matter
   * @param {function(): Promise} [options.settled] resolves when no decision is being sent
   * @param {function(Object): Object} [options.dress] adds newer values known to the browser to a received figure
   */
  constructor({ load, belongs = null, settled = async () => {}, dress = (figure) => figure }) {
    super();
    this.#load = load;
    this.#belongs = belongs;
    this.#settled = settled;
    this.dress = dress;
  }

  /** A list that is already complete, of at most `WINDOW * KEPT` figures. */
  static of(figures) {
    const list = new FigureList({
      load: async (offset, limit) => ({ total: figures.length, figures: figures.slice(offset, offset + limit) }),
    });
    for (let start = 0; start === 0 || start < figures.length; start += WINDOW) {
      list.#take(start / WINDOW, { total: figures.length, figures: figures.slice(start, start + WINDOW) });
    }
    return list;
  }

  /** The figure at a position; null if it is not loaded (yet). */
  at(position) {
    return this.#left.get(position) ?? this.#windows.get(Math.floor(position / WINDOW))?.[position % WINDOW] ?? null;
  }

  /** Position of a figure among the loaded ones; else -1. */
  positionOf(index) {
    const position = this.#places.get(index);
    return position !== undefined && this.at(position)?.index === index ? position : -1;
  }

  /** Number of figures that no longer pass the filter because of decisions made since the list was loaded. */
  get departed() {
    return this.#left.size;
  }

  /** Loads missing figures between two positions (both inside), and drops requests for windows elsewhere. */
  want(first, last) {
    const from = Math.floor(Math.max(0, first) / WINDOW);
    const to = Math.floor(Math.max(0, this.total === null ? last : Math.min(last, this.total - 1)) / WINDOW);
    for (const [number, request] of this.#waiting) {
      if (number < from - 1 || number > to + 1) {
        request.abort();
        this.#waiting.delete(number);
      }
    }
    for (let number = from; number <= to; number += 1) this.#need(number);
  }

  /** The first figures of the whole list, also those that are not loaded. */
  async first(count) {
    const found = [];
    const step = 1000;
    while (found.length < count) {
      const { total, figures } = await this.#load(found.length, Math.min(step, count - found.length), this.#closed.signal);
      found.push(...figures.map((figure) => this.dress(figure)));
      if (!figures.length || found.length >= total) break;
    }
    return found;
  }

  /** Repeats failed requests. */
  retry() {
    this.error = null;
    this.dispatchEvent(new Event("change"));
  }

  /** Cancels all requests; the list cannot be used afterwards. */
  close() {
    this.#closed.abort();
    for (const request of this.#waiting.values()) request.abort();
    this.#waiting.clear();
  }

  /** Changes a figure, wherever it is; returns its position, or -1. */
  patch(index, changes) {
    const position = this.positionOf(index);
    if (position < 0) return -1;
    const before = this.at(position);
    const after = { ...before, ...changes };
    const window = this.#windows.get(Math.floor(position / WINDOW));
    if (window) window[position % WINDOW] = after;
    if (this.#belongs && this.#belongs(before) !== this.#belongs(after)) {
      this.#version += 1;
      if (this.#belongs(after)) this.#left.delete(position);
      else this.#left.set(position, after);
    } else if (this.#left.has(position)) this.#left.set(position, after);
    this.dispatchEvent(new Event("change"));
    return position;
  }

  #need(number) {
    const window = this.#windows.get(number);
    if (window) {
      this.#windows.delete(number); // marks it as most recently used
      this.#windows.set(number, window);
    } else if (!this.#waiting.has(number) && !this.error && !this.#closed.signal.aborted) {
      const request = new AbortController();
      this.#waiting.set(number, request);
      this.#fetch(number, request.signal).then(
        () => this.#waiting.get(number) === request && this.#waiting.delete(number),
        (error) => {
          if (this.#waiting.get(number) === request) this.#waiting.delete(number);
          if (request.signal.aborted) return;
          this.error = error;
          this.dispatchEvent(new CustomEvent("error", { detail: error }));
        },
      );
    }
  }

  async #fetch(number, signal) {
    const start = number * WINDOW;
    for (;;) {
      if (this.#belongs) await this.#settled();
      const version = this.#version;
      let before = 0;
      let inside = 0;
      for (const position of this.#left.keys()) {
        if (position < start) before += 1;
        else if (position < start + WINDOW) inside += 1;
      }
      const answer = await this.#load(start - before, Math.max(1, WINDOW - inside), signal);
      signal.throwIfAborted();
      if (version === this.#version) {
        this.#take(number, answer);
        return;
      }
    }
  }

  #take(number, { total, figures }) {
    const start = number * WINDOW;
    const arrived = figures.values();
    const window = [];
    for (let position = start; position < start + WINDOW; position += 1) {
      const left = this.#left.get(position);
      const figure = left ?? arrived.next().value;
      if (figure === undefined) break;
      window.push(left ?? this.dress(figure));
      this.#places.set(figure.index, position);
    }
    this.total = total + this.#left.size;
    this.#keepWindow(number, window);
    this.dispatchEvent(new Event("change"));
  }

  #keepWindow(number, window) {
    this.#windows.delete(number);
    this.#windows.set(number, window);
    while (this.#windows.size > KEPT) {
      const [oldest, figures] = this.#windows.entries().next().value;
      for (const figure of figures) {
        if (!this.#left.has(this.#places.get(figure.index))) this.#places.delete(figure.index);
      }
      this.#windows.delete(oldest);
    }
  }
}
