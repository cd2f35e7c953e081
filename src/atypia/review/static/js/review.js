/** Decisions, notes and undo, for all views. The page shows a decision at once; the outbox sends it. */

import { OfflineError, RefusedError, get, post } from "./api.js";
import { announce, toast, whole } from "./dom.js";
import { decisionOf } from "./names.js";
import { SHARED, outbox } from "./outbox.js";
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

async function push(kind, figure, decision, { note = undefined, tags = undefined } = {}) {
  if (!store.rater && !(await askForRater())) return false;
  const { rater } = store;
  const before = { decision: figure.decision ?? null, note: figure.note ?? null, tags: figure.tags ?? [] };
  const changed = { decision };
  if (note !== undefined) changed.note = note;
  if (tags !== undefined) changed.tags = tags;
  if (kind === "arbitration") {
    patch(figure.index, { settled: decision });
  } else {
    patch(figure.index, changed);
    store.count(rater, before.decision, decision);
  }
  outbox.push({
    kind, rater, index: figure.index, figure_id: figure.figure_id, decision, note, tags, blind: store.blind,
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
  if (await push("decision", figure, figure.decision ?? null, { note })) announce(
    `${note ? "note kept" : "note removed"}, figure ${figure.figure_id ?? figure.index}`
  );
}

/** Gives the present rater's tag to a figure, or takes it away. */
export async function toggleTag(figure, name) {
  const given = figure.tags ?? [];
  const tags = given.includes(name) ? given.filter((one) => one !== name) : [...given, name].sort();
  if (await push("decision", figure, figure.decision ?? null, { tags })) announce(
    `${given.includes(name) ? "tag removed" : "tag"} ${name}, figure ${figure.figure_id ?? figure.index}`
  );
}

/** One decision on several figures; one undo takes it back. */
export async function decideSeveral(figures, decision, { settles = false } = {}) {
  if (!store.rater && !(await askForRater())) return false;
  const { rater } = store;
  const field = settles ? "settled" : "decision";
  const changed = figures.filter((figure) => (figure[field] ?? null) !== decision);
  for (const figure of changed) {
    patch(figure.index, { [field]: decision });
    if (!settles) store.count(rater, figure.decision ?? null, decision);
  }
  const befores = changed.map((figure) => [figure.index, { [field]: figure[field] ?? null }]);
  if (changed.length) outbox.push({
    kind: "several", rater, indices: changed.map((figure) => figure.index), decision, settles, befores
  });
  const what = decision ? decisionOf(decision).title : "cleared";
  toast(`${whole(changed.length)} figures: ${what.toLowerCase()}. Z undoes all of it.`);
  return true;
}

/** Assigns figures to raters; an empty list to nobody. */
export async function assign(figures, to) {
  if (!store.rater && !(await askForRater())) return;
  try {
    await post("/assignments", { rater: store.rater, indices: figures.map((figure) => figure.index), to });
    for (const figure of figures) patch(figure.index, { assigned: to });
    toast(to.length ? `${whole(figures.length)} figures assigned to ${to.join(", ")}.` : "Assigned to nobody.");
    recount();
  } catch (error) {
    if (!(error instanceof OfflineError) && !(error instanceof RefusedError)) throw error;
    toast(`Nothing was assigned: ${error.message}`, true);
  }
}

/** Adds a mitosis on a slide; returns the new figure, or null with a message. */
export async function addFigure(slide, x_px, y_px) {
  if (!store.rater && !(await askForRater())) return null;
  try {
    const figure = await post("/figures", { rater: store.rater, slide, x_px, y_px });
    store.session.figures += 1;
    store.emit("added", figure);
    recount();
    return figure;
  } catch (error) {
    if (!(error instanceof OfflineError) && !(error instanceof RefusedError)) throw error;
    toast(`Nothing was added: ${error.message}`, true);
    return null;
  }
}

/** Undoes what the present rater did last. */
export async function undo() {
  if (!store.rater && !(await askForRater())) return;
  const item = outbox.takeBack(store.rater);
  if (!item) outbox.push({ kind: "undo", rater: store.rater });
  else if (item.kind === "several") {
    for (const [index, before] of item.befores) {
      if ("decision" in before) store.count(store.rater, item.decision, before.decision);
      undone(index, before, true);
    }
    announce(`undone: ${item.befores.length} figures`);
  } else {
    if ("decision" in item.before) store.count(store.rater, item.decision, item.before.decision);
    undone(item.index, item.before);
  }
}

function undone(index, changes, isSilent = false) {
  patch(index, changes);
  store.emit("undone", { index });
  if (isSilent) return;
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
    const isShared = SHARED.includes(answer.kind);
    if (answer.kind === "assignment" || answer.kind === "addition") {
      if (answer.kind === "addition") store.session.figures -= answer.figures.length;
      toast(answer.kind === "addition" ? "The added figure was withdrawn." : "The assignment was undone.");
      store.emit("imported"); // lists show the figures anew
    } else {
      for (const { index, decision, note, tags } of answer.figures) {
        const changes = isShared ? { settled: decision } : { decision, note, tags };
        undone(index, { ...changes, ...outbox.pending(item.rater, index) }, answer.figures.length > 1);
      }
      if (answer.figures.length > 1) toast(`Undone: ${whole(answer.figures.length)} figures.`);
    }
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
  if (item.kind === "several") {
    for (const [index, before] of item.befores) if (item.rater === store.rater) patch(index, before);
    toast(`The decision on ${whole(item.befores.length)} figures was not saved: ${error.message}`, true);
    recount();
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
