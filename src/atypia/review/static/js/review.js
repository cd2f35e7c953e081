/** Decisions, notes and undo, for all views. The page shows a decision at once; the outbox sends it. */

import { OfflineError, RefusedError, get } from "./api.js";
import { announce, toast } from "./dom.js";
import { decisionOf } from "./names.js";
import { outbox } from "./outbox.js";
import { store } from "./store.js";

/** Largest length of a note in characters; the server refuses longer ones. */
export const NOTE_LENGTH = 2000;
/** Largest length of a rater's name in characters. */
export const NAME_LENGTH = 64;

let askForRater = async () => false;

/** Sets the function that asks for a rater; it resolves to whether there is one now. */
export function setRaterDialog(ask) {
  askForRater = ask;
}

function patch(index, changes) {
  store.emit("figure", { index, patch: changes });
}

async function push(kind, figure, decision, note = undefined) {
  if (!store.rater && !(await askForRater())) return false;
  const { rater } = store;
  const before = { decision: figure.decision ?? null, note: figure.note ?? null };
  if (kind === "arbitration") {
    patch(figure.index, { settled: decision });
  } else {
    patch(figure.index, note === undefined ? { decision } : { decision, note });
    store.count(rater, before.decision, decision);
  }
  outbox.push({
    kind, rater, index: figure.index, figure_id: figure.figure_id, decision, note, blind: store.blind,
    event: "event" in figure ? figure.event ?? 0 : undefined,
    before: kind === "arbitration" ? { settled: figure.settled ?? null } : before,
  });
  return true;
}

/**
 * Decides on a figure for the present rater; asks for one if there is none.
 * @param {Object} figure with index, decision and, if known, note, event and settled
 * @param {?string} decision null clears
 * @param {{settles?: boolean}} [options] `settles`: an arbitration, which settles the figure for all
 * @returns {Promise<boolean>} false if no rater was chosen
 */
export async function decide(figure, decision, { settles = false } = {}) {
  if (((settles ? figure.settled : figure.decision) ?? null) === decision && store.rater) return true;
  const done = await push(settles ? "arbitration" : "decision", figure, decision);
  if (done) announce(
    `${decision ? decisionOf(decision).title : "cleared"}, figure ${figure.figure_id ?? figure.index}`
  );
  return done;
}

/** Sets or removes (empty text) the present rater's note on a figure. */
export async function writeNote(figure, text) {
  const note = text.trim() || null;
  if (note === (figure.note ?? null)) return;
  if (await push("decision", figure, figure.decision ?? null, note)) announce(
    `${note ? "note kept" : "note removed"}, figure ${figure.figure_id ?? figure.index}`
  );
}

/** Undoes the present rater's last decision. */
export async function undo() {
  if (!store.rater && !(await askForRater())) return;
  const item = outbox.takeBack(store.rater);
  if (!item) outbox.push({ kind: "undo", rater: store.rater });
  else {
    if ("decision" in item.before) store.count(store.rater, item.decision, item.before.decision);
    undone(item.index, item.before);
  }
}

function undone(index, changes) {
  patch(index, changes);
  store.emit("undone", { index });
  const [what] = Object.values(changes);
  announce(`undone: ${what ? decisionOf(what)?.title : "undecided"} again`);
}

let counting = 0;

// Reads the server's numbers after a burst of decisions; numbers from before the last of them are outdated.
function recount() {
  clearTimeout(counting);
  counting = setTimeout(async () => {
    if (outbox.items.length) return; // the last one sent triggers a new count
    let isCurrent = true;
    const aged = () => (isCurrent = false);
    outbox.addEventListener("change", aged, { once: true });
    try {
      await store.loadRaters(() => isCurrent);
    } catch (error) {
      if (!(error instanceof OfflineError) && !(error instanceof RefusedError)) throw error;
    } finally {
      outbox.removeEventListener("change", aged);
    }
  }, 800);
}

function sent(item, answer) {
  if (item.kind === "undo" && item.rater === store.rater) {
    const { index, decision, note } = answer;
    const changes = answer.kind === "arbitration" ? { settled: decision } : { decision, note };
    undone(index, { ...changes, ...outbox.pending(item.rater, index) });
  }
  recount();
}

function refused(item, error) {
  if (item.kind === "undo") {
    toast(
      error.status === 409 ? "There is nothing to undo." : `Nothing was undone: ${error.message}`,
      error.status !== 409
    );
    return;
  }
  if (item.rater === store.rater && !outbox.pending(item.rater, item.index)) patch(item.index, item.before);
  const what = item.figure_id ?? item.index;
  toast(
    error.status === 409
      ? `In the meantime, figure ${what} was decided elsewhere under the name ${item.rater}; that decision is shown. Decide again to change it.`
      : `The decision on figure ${what} was not saved: ${error.message}`,
    true,
  );
  recount();
}

/** Adds to a figure from the server what the present rater decided and has not been sent yet. */
export function dress(figure) {
  const pending = store.rater ? outbox.pending(store.rater, figure.index) : null;
  return pending ? { ...figure, ...pending } : figure;
}

/** The current state of a figure for the present rater; null, with a message, if the server does not answer. */
export async function figureNow(index) {
  try {
    return dress(await get(`/figures/${index}`, { rater: store.rater, blind: store.blind }));
  } catch (error) {
    if (!(error instanceof OfflineError) && !(error instanceof RefusedError)) throw error;
    toast(`The figure could not be read: ${error.message}`, true);
    return null;
  }
}

/** Listens to the outbox; once, at the start. */
export function startReview() {
  outbox.addEventListener("sent", ({ detail }) => sent(detail.item, detail.answer));
  outbox.addEventListener("refused", ({ detail }) => refused(detail.item, detail.error));
}
