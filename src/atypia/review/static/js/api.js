/** All requests to the server are made here. */

/** The server refused the request. */
export class RefusedError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** No answer: the server or the network is down. */
export class OfflineError extends Error {}

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 15000;
const PATIENCE_MS = 20000;
const LONG_MS = 600000;

/** Whether the server answers; events `down` and `up`. */
class Connection extends EventTarget {
  up = true;
  #wait = FIRST_WAIT_MS;
  #timer = 0;

  /** Records an outcome. */
  mark(up) {
    if (up) this.#wait = FIRST_WAIT_MS;
    if (up !== this.up) {
      this.up = up;
      this.dispatchEvent(new Event(up ? "up" : "down"));
    }
    if (!up) this.#plan();
  }

  /** Checks now whether the server is back. */
  async probe() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    try {
      await get("/health");
    } catch (error) {
      if (!(error instanceof OfflineError) && !(error instanceof RefusedError)) throw error;
    }
  }

  #plan() {
    if (this.#timer) return;
    this.#timer = setTimeout(() => this.probe(), this.#wait);
    this.#wait = Math.min(2 * this.#wait, LONGEST_WAIT_MS);
  }
}

export const connection = new Connection();

function address(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "" && one !== false) query.append(name, String(one));
    }
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

async function detailOf(response) {
  try {
    const { detail } = await response.json();
    if (typeof detail === "string") return detail;
    if (Array.isArray(detail)) return detail.map((one) => one.msg ?? String(one)).join("; ");
  } catch {
    // No JSON: use the status only.
  }
  return `the server answered ${response.status} ${response.statusText}`.trim();
}

async function ask(path, options) {
  const limit = AbortSignal.timeout(options.patience ?? PATIENCE_MS);
  let response;
  try {
    response = await fetch(path, {
      credentials: "same-origin",
      ...options,
      signal: options.signal ? AbortSignal.any([options.signal, limit]) : limit,
    });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    connection.mark(false);
    throw new OfflineError("the server does not answer");
  }
  connection.mark(true);
  if (!response.ok) throw new RefusedError(response.status, await detailOf(response));
  return response;
}

const json = async (response) => (await response).json();

/**
 * Reads. Parameters that are null, false or empty are left out; arrays are repeated.
 * @throws {RefusedError} @throws {OfflineError} @throws {DOMException} AbortError, where `signal` was used.
 */
export const get = (path, parameters = {}, signal = undefined) => json(ask(address(path, parameters), { signal }));

/** Reads something that takes the server long to compute. */
export const getSlowly = (path, parameters, signal) =>
  json(ask(address(path, parameters), { signal, patience: LONG_MS }));

/** Reads a file; may take long. */
export const fetchFile = async (path) => (await ask(path, { patience: LONG_MS })).blob();

const OWN = { "X-Atypia": "1" };

/** Writes JSON. */
export const post = (path, body) =>
  json(
    ask(path, { method: "POST", headers: { ...OWN, "Content-Type": "application/json" }, body: JSON.stringify(body) })
  );

/** Sends a form with files; may take long. */
export const send = (path, form) => json(ask(path, { method: "POST", headers: OWN, body: form, patience: LONG_MS }));

let cropVersion = null;

/** Sets the fingerprint of the figures that is sent with crop requests; only then may the browser cache crops. */
export function setCropVersion(version) {
  cropVersion = version;
}

/** URL of a figure's crop. */
export const cropAddress = (index, view, size = null, around = null) => address(
  `/figures/${index}/crop`, { view, size, around, v: cropVersion }
);
