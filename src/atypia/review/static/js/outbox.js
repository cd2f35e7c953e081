/** Unsent decisions: sent in order, stored in the browser until the server has acknowledged them. */

import { OfflineError, RefusedError, connection, get, post } from "./api.js";
import { store } from "./store.js";

const NAME = "unsent";
const RETRY_MS = 3000;
/** Kinds of events that are nobody's own decision. */
export const SHARED = ["arbitration", "assignment", "addition"];

/**
 * @typedef {Object} Item
 * @property {"decision"|"several"|"arbitration"|"undo"} kind
 * @property {string} rater
 * @property {number} [index] @property {string} [figure_id]
 * @property {number[]} [indices] of one decision on several figures
 * @property {boolean} [settles] whether that is an arbitration of each
 * @property {?string} [decision]
 * @property {string[]} [tags] all tags, if they change; without them the tags are kept
 * @property {?string} [note] the whole note, if it changes; without it the note is kept
 * @property {number} [event] id of the rater's latest event stated with the figure, 0 for none
 * @property {boolean} [blind]
 * @property {Object} [before] the figure's previous state, to restore it
 */

/** Events: `change`, `sent` ({item, answer}), `refused` ({item, error}), `idle`. */
class Outbox extends EventTarget {
  items = [];
  /** The error of the last try; null after a success. */
  trouble = null;
  #busy = false;
  #latest = new Map();
  #kept = true;
  #sequence = 0;

  /** Whether the browser keeps unsent decisions across a reload. */
  get isKept() {
    return this.#kept;
  }

  /** Loads what an earlier visit to the same figures could not send. */
  restore() {
    const old = store.stored(NAME, []);
    this.items = Array.isArray(old) ? old.map((item) => ({ ...item, sequence: (this.#sequence += 1) })) : [];
    this.#changed();
    connection.addEventListener("up", () => this.pump());
    this.pump();
  }

  /** @param {Item} item */
  push(item) {
    this.items.push({ ...item, sequence: (this.#sequence += 1) });
    this.#changed();
    this.pump();
  }

  /** Removes the rater's last item if it is an unsent decision; else null. */
  takeBack(rater) {
    const first = this.#busy ? 1 : 0;
    for (let i = this.items.length - 1; i >= first; i -= 1) {
      if (this.items[i].rater !== rater) continue;
      if (this.items[i].kind === "undo") return null;
      const [item] = this.items.splice(i, 1);
      this.#changed();
      return item;
    }
    return null;
  }

  /** A figure's state once everything is sent; null if nothing is waiting. */
  pending(rater, index) {
    const mine = this.items.filter((one) => one.rater === rater && (one.index === index || one.indices?.includes(index)) && one.kind !== "undo");
    return mine.length ? Object.assign({}, ...mine.map(changes)) : null;
  }

  /** Resolves when nothing is waiting, or at once while the server is unreachable. */
  async settled() {
    while (this.items.length && connection.up && !this.trouble) {
      await new Promise((resolve) => this.addEventListener("change", resolve, { once: true }));
    }
  }

  /** Discards everything that waits. */
  discard() {
    this.items = this.#busy ? this.items.slice(0, 1) : [];
    this.trouble = null;
    this.#changed();
  }

  #changed() {
    this.#kept = store.keep(NAME, this.items);
    this.dispatchEvent(new Event("change"));
    if (!this.items.length) this.dispatchEvent(new Event("idle"));
  }

  async pump() {
    if (this.#busy) return;
    this.#busy = true;
    while (this.items.length) {
      const item = this.items[0];
      try {
        const answer = await this.#send(item);
        this.trouble = null;
        this.#finish(item, "sent", { item, answer });
      } catch (error) {
        if (error instanceof RefusedError && error.status < 500 && error.status !== 401) {
          this.trouble = null;
          this.#finish(item, "refused", { item, error });
        } else if (error instanceof RefusedError || error instanceof OfflineError) {
          this.trouble = error;
          // The connection has its own retry timer; a server that answers with an error needs one here.
          if (error instanceof RefusedError) setTimeout(() => this.pump(), RETRY_MS);
          this.dispatchEvent(new Event("change"));
          break;
        } else {
          this.#busy = false;
          throw error;
        }
      }
    }
    this.#busy = false;
  }

  #finish(item, event, detail) {
    const place = this.items.findIndex((one) => one.sequence === item.sequence);
    if (place >= 0) this.items.splice(place, 1);
    this.#changed();
    this.dispatchEvent(new CustomEvent(event, { detail }));
  }

  async #send(item) {
    const { kind, rater, index, decision } = item;
    if (kind === "undo") {
      const answer = await post("/decisions/undo", { rater });
      if (!SHARED.includes(answer.kind)) {
        for (const one of answer.figures) this.#latest.set(`${rater}\n${one.index}`, one.event);
      }
      return answer;
    }
    if (kind === "several") {
      const { indices, settles } = item;
      const answer = await post("/decisions/several", { rater, indices, decision, settles: settles ?? false });
      for (const [one, event] of Object.entries(settles ? {} : answer.events)) this.#latest.set(`${rater}\n${one}`, event);
      return answer;
    }
    if (kind === "arbitration") return post("/arbitration", { rater, index, decision });
    const key = `${rater}\n${index}`;
    const own = this.#latest.get(key);
    // Ids only grow, so the larger one is later; without one, nothing is known about the figure.
    const seen = item.event === undefined ? own ?? null : Math.max(own ?? 0, item.event);
    const note = item.note === undefined ? null : item.note ?? "";
    try {
      const answer = await post(
        "/decisions", { rater, index, decision, note, tags: item.tags ?? null, seen_previous: seen, blind: item.blind ?? false }
      );
      this.#latest.set(key, answer.id);
      return answer;
    } catch (error) {
      if (!(error instanceof RefusedError) || error.status !== 409) throw error;
      // Somebody with the same name has decided in the meantime, or the answer to this decision was lost.
      const now = await get(`/figures/${index}`, { rater, blind: item.blind });
      this.#latest.set(key, now.event ?? 0);
      const wanted = changes(item);
      if (Object.keys(wanted).every((name) => String(now[name] ?? null) === String(wanted[name]))) return now;
      item.before = { decision: now.decision, note: now.note, tags: now.tags };
      throw error;
    }
  }
}

/** A figure's state after an item. */
function changes(item) {
  if (item.kind === "arbitration" || item.settles) return { settled: item.decision };
  const found = { decision: item.decision };
  if (item.note !== undefined) found.note = item.note;
  if (item.tags !== undefined) found.tags = item.tags;
  return found;
}

export const outbox = new Outbox();
