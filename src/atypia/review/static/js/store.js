/** State shared by the whole page: the session, the rater, preferences. Changes emit events. */

import { OfflineError, RefusedError, get, post, setCropVersion } from "./api.js";

const PREFERENCES = "atypia.prefs";
const DEFAULTS = { theme: "system", tile: "medium", advance: true, brightness: 100, contrast: 100, stain: "rgb", around: true };

function stored(key, fallback) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? fallback;
  } catch {
    return fallback; // blocked or damaged storage: nothing is remembered
  }
}

/** Stores a value across visits; false if the browser refuses. */
export function keep(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

/** Events: `rater`, `imported`, `raters`, `rates`, `blind`, `preferences`, `figure` (detail: {index, patch}). */
class Store extends EventTarget {
  session = null;
  rater = null;
  raters = [];
  /** The rate of all figures by the rater's decisions and the model's other calls; null where it is not known or hidden. */
  whole = null;
  blind = false;
  preferences = { ...DEFAULTS, ...stored(PREFERENCES, {}) };

  emit(name, detail = null) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** Keys contain the figures' fingerprint, so that data sets are never mixed up. */
  key(name) {
    return `atypia.${name}.${this.session.fingerprint}`;
  }

  stored(name, fallback) {
    return stored(this.key(name), fallback);
  }

  keep(name, value) {
    return keep(this.key(name), value);
  }

  /** Opens the session: the figures and the rater. */
  async open() {
    [this.session] = await Promise.all([get("/session"), this.loadRaters()]);
    setCropVersion(this.session.fingerprint);
    this.blind = this.stored("blind", false);
    const known = new Set(this.raters.map((rater) => rater.name));
    // A name given at the start overrides an earlier choice, but not a later one.
    const { rater } = this.session;
    const chosen = this.stored("rater", null);
    this.rater = [chosen?.given === rater ? chosen?.name : null, rater].find((name) => known.has(name)) ?? null;
    this.#showRates();
  }

  /** Reads the raters' progress; answers that `isCurrent` declares outdated are ignored. */
  async loadRaters(isCurrent = () => true) {
    const raters = await get("/raters");
    if (!isCurrent()) return;
    // Of which counts the rate and its interval are.
    for (const one of raters) {
      const [atypical, normal] = [one.counts.atypical ?? 0, one.counts.normal ?? 0];
      one.rated = `${atypical}/${atypical + normal}`;
    }
    this.raters = raters;
    this.emit("raters");
    await this.loadRates(isCurrent);
  }

  /** Reads the rate of all figures; in blind mode it is not asked for, as it tells of the model. */
  async loadRates(isCurrent = () => true) {
    const { rater } = this;
    const isShown = () => this.session?.has.p && !this.blind && rater !== null && rater === this.rater;
    const rated = this.progress(rater).rated;
    const whole = isShown() ? (await get("/rates", { rater })).whole : null;
    if (!isCurrent()) return;
    this.whole = whole && isShown() ? { ...whole, rated } : null;
    this.emit("rates");
  }

  /** The same for changes that nobody waits for. */
  #showRates() {
    this.loadRates().catch((error) => {
      if (!(error instanceof RefusedError) && !(error instanceof OfflineError)) throw error;
    });
  }

  /** Adds a rater; returns the name as stored by the server. */
  async addRater(name) {
    const rater = await post("/raters", { name });
    await this.loadRaters();
    return rater.name;
  }

  setRater(name) {
    this.rater = name;
    this.keep("rater", { name, given: this.session.rater });
    this.emit("rater");
    this.#showRates();
  }

  setBlind(blind) {
    if (blind === this.blind) return;
    this.blind = blind;
    this.keep("blind", blind);
    this.emit("blind");
    this.#showRates();
  }

  prefer(changes) {
    Object.assign(this.preferences, changes);
    keep(PREFERENCES, this.preferences);
    this.emit("preferences");
  }

  /** Progress of a rater: {name, decided, counts}; zeros for a new rater. */
  progress(name) {
    return this.raters.find((rater) => rater.name === name) ?? { name, decided: 0, counts: {} };
  }

  /** Counts a decision at once; the server's numbers follow. */
  count(name, before, after) {
    const rater = this.raters.find((one) => one.name === name);
    if (!rater || before === after) return;
    rater.decided += (after ? 1 : 0) - (before ? 1 : 0);
    if (before) rater.counts[before] = Math.max(0, (rater.counts[before] ?? 0) - 1);
    if (after) rater.counts[after] = (rater.counts[after] ?? 0) + 1;
    this.emit("raters");
  }
}

export const store = new Store();
