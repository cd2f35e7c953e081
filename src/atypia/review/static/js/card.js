/** A figure as a card: its crop, the model's call and the decision. */

import { cropAddress } from "./api.js";
import { h, fill, fixed, icon } from "./dom.js";
import { CALLS, className, decisionOf, differs, initials } from "./names.js";
import { store } from "./store.js";

/** A decision as a coloured tag with its symbol and title. */
export function decisionTag(name) {
  const decision = decisionOf(name);
  return decision
    ? h("span", { class: `tag is-${decision.name}` }, icon(decision.icon), decision.title)
    : h("span", { class: "tag" }, name ?? "undecided");
}

/** A model's call as a tag: without colour, as colours are those of people's decisions. */
export function callTag(name) {
  const call = CALLS[name];
  return h("span", { class: "tag of-model" }, call && icon(call.icon), call?.title ?? name);
}

/** A model's call as a symbol, without colour. */
export function callSymbol(name, title) {
  return h(
    "span", { class: "symbol of-model", role: "img", "aria-label": title, title },
    icon(CALLS[name]?.icon ?? "question")
  );
}

/** A rater's decision: the rater's short name and the symbol of the decision. */
export function opinion(rater, decision) {
  const entry = decisionOf(decision);
  const names = store.raters.map((one) => one.name);
  const title = `${rater}: ${entry?.title.toLowerCase() ?? decision}`;
  return h(
    "span", { class: `opinion is-${decision}`, role: "img", "aria-label": title, title },
    h("b", {}, initials(rater, names)), icon(entry?.icon ?? "question")
  );
}

/** The mark of a decision that is another class than the model's. */
export const differsTag = () => h("span", { class: "tag differs", title: "another class than the model's" }, "≠ model");

/** A coloured square with only the symbol of a decision or call; `title` gives the text. */
export function symbol(name, title) {
  const entry = decisionOf(name) ?? CALLS[name];
  return h(
    "span", { class: entry ? `symbol is-${name}` : "symbol", role: "img", "aria-label": title, title },
    icon(entry?.icon ?? "question")
  );
}

/** One sentence about a figure, for screen readers. */
export function describe(figure) {
  const parts = [`figure ${figure.figure_id}`];
  if (figure.case !== null && figure.case !== undefined) parts.push(`case ${figure.case}`);
  if (figure.call) parts.push(`called ${figure.call}`);
  if (Number.isFinite(figure.p)) parts.push(`probability of atypical ${fixed(figure.p, 2)}`);
  if (figure.label !== null && figure.label !== undefined) parts.push(`label ${className(figure.label, store.session.task)}`);
  parts.push(figure.decision ? `decided ${decisionOf(figure.decision)?.title ?? figure.decision}` : "undecided");
  if (figure.settled) parts.push(`settled as ${decisionOf(figure.settled)?.title ?? figure.settled}`);
  for (const [rater, decision] of Object.entries(figure.others ?? {})) parts.push(`${rater}: ${decision}`);
  if (figure.tags?.length) parts.push(`tags ${figure.tags.join(", ")}`);
  if (figure.added) parts.push("added by a rater");
  if (figure.beyond) parts.push("reaches beyond the slide");
  if (differs(figure, figure.decision, store.session.threshold)) parts.push("differs from the model");
  if (figure.note) parts.push("has a note");
  return parts.join(", ");
}

/** A crop in a box that shows when it is loading or cannot be read. */
export function cropBox() {
  const image = h("img", { alt: "", decoding: "async", draggable: "false" });
  const box = h("div", { class: "crop" }, image, h("div", { class: "absent" }, "cannot be read"));
  image.addEventListener("load", () => box.classList.add("loaded"));
  image.addEventListener("error", () => image.getAttribute("src") && box.classList.add("broken"));
  return box;
}

/** Shows a crop in a box; null empties it and cancels a running transfer. */
export function showCrop(box, index, view, size) {
  const image = box.firstElementChild;
  const source = index === null ? null : cropAddress(index, view, size);
  if (image.getAttribute("src") === source) return;
  box.classList.remove("loaded", "broken");
  if (source === null) image.removeAttribute("src");
  else image.src = source;
}

/** Most opinions on a card; of more the last place says how many. */
const MOST_OPINIONS = 4;

function opinions(figure) {
  const all = Object.entries(figure.others ?? {});
  const shown = all.length > MOST_OPINIONS ? all.slice(0, MOST_OPINIONS - 1) : all;
  const rest = all.slice(shown.length).map(([rater, decision]) => `${rater}: ${decisionOf(decision)?.title.toLowerCase() ?? decision}`);
  return [
    shown.map(([rater, decision]) => opinion(rater, decision)),
    rest.length > 0 && h("span", { class: "opinion", title: rest.join(", ") }, `+${rest.length}`),
  ];
}

/** An empty card; `updateCard` fills it. */
export function makeCard() {
  return h(
    "div", { class: "card waiting", role: "gridcell" },
    cropBox(), h("div", { class: "mark" }), h(
      "div", { class: "noted" }, icon("note")
    ), h("div", { class: "says" }), h("div", { class: "line" }), h("div", { class: "chips" }),
  );
}

/**
 * Shows a figure on a card.
 * @param {HTMLElement} card
 * @param {?Object} figure null while it is loading
 * @param {{line: string|Array, view: string, size: number, shows?: string, images: boolean}} how `line`: the last line; `shows`: what is marked, `decision` or `settled`; `images`: whether to load the crop now
 */
export function updateCard(card, figure, how) {
  const [box, mark, noted, says, line, chips] = card.children;
  card.classList.toggle("waiting", figure === null);
  card.classList.remove("decided", ...[...card.classList].filter((name) => name.startsWith("is-")));
  const decision = figure === null ? null : figure[how.shows ?? "decision"];
  mark.hidden = !decision;
  noted.hidden = !figure?.note;
  card.classList.toggle("chosen", Boolean(figure && how.chosen));
  fill(chips, (figure?.tags ?? []).map((tag) => h("span", {}, tag)), figure?.added && h("span", {}, "added"));
  if (figure === null) {
    showCrop(box, null);
    fill(says);
    line.textContent = "";
    card.setAttribute("aria-label", "loading");
    return;
  }
  const source = cropAddress(figure.index, how.view, how.size);
  // During fast scrolling the old crop is removed but the new one is not requested.
  if (how.images) showCrop(box, figure.index, how.view, how.size);
  else if (box.firstElementChild.getAttribute("src") !== source) showCrop(box, null);
  if (decision) {
    card.classList.add("decided", `is-${decision}`);
    fill(mark, decisionTag(decision), differs(figure, decision, store.session.threshold) && differsTag());
  }
  fill(
    says,
    figure.call && callSymbol(figure.call, `the model: ${figure.call}`),
    Number.isFinite(figure.p) && h("span", { class: "number", title: "probability of atypical" }, fixed(figure.p, 2)),
    h("span", { class: "rest" }, opinions(figure)),
  );
  says.classList.toggle("many", Object.keys(figure.others ?? {}).length > 2);
  fill(line, typeof how.line === "string" ? h("span", {}, how.line) : how.line);
  line.title = line.textContent;
  card.setAttribute("aria-label", describe(figure));
}
