/** Names used everywhere: decisions, calls, sorts, views. The server's spelling is the key. */

/** Decisions of a rater, in the order of the buttons: name, key, title and symbol. */
export const DECISIONS = [
  { name: "atypical", key: "a", title: "Atypical", icon: "triangle" },
  { name: "normal", key: "n", title: "Normal", icon: "circle" },
  { name: "unsure", key: "u", title: "Unsure", icon: "question" },
  { name: "not-mitosis", key: "x", title: "Not a mitosis", icon: "barred" },
];

/** A model's calls: title and symbol by name. */
export const CALLS = {
  atypical: { title: "atypical", icon: "triangle" },
  normal: { title: "normal", icon: "circle" },
  uncertain: { title: "uncertain", icon: "question" },
  refused: { title: "refused", icon: "cross" },
};

/** Sorts of the server: title, whether the highest comes first, whether it reveals predictions or decisions. */
export const SORTS = {
  index: { title: "File order", descending: false, reveals: false, down: "last first", up: "first to last" },
  p: {
    title: "Probability of atypical", descending: true, reveals: true, down: "most likely atypical first",
    up: "least likely atypical first"
  },
  uncertainty: {
    title: "How sure the model is", descending: true, reveals: true, down: "least sure first", up: "most sure first"
  },
  "label-disagreement": {
    title: "Disagreement with the label", descending: true, reveals: true, down: "largest first", up: "smallest first"
  },
  "rater-disagreement": {
    title: "Disagreement between raters", descending: true, reveals: true, down: "largest first", up: "smallest first"
  },
  novelty: {
    title: "How unusual it looks", descending: true, reveals: true, down: "most unusual first", up: "most usual first"
  },
  case: { title: "Case", descending: false, reveals: false, down: "Z to A", up: "A to Z" },
};
/** Title of an order; in blind mode the figures have a fixed random order instead of that of the file. */
export const sortTitle = (name, isBlind) => (isBlind && name === "index" ? "Random order" : SORTS[name]?.title ?? name);

/** Queues of the server: title, purpose, whether they reveal predictions or decisions. */
export const QUEUES = {
  value: {
    title: "Most useful next", text: "Figures whose decisions would help the model most, most useful first.",
    reveals: false
  },
  calibration: {
    title: "Most useful to calibrate",
    text: "Figures whose decision tells most of how a model's scores lie here, for atypia calibrate.",
    reveals: false
  },
  "label-errors": {
    title: "Likely label errors", text: "Figures whose label the model doubts, the most doubtful first.",
    reveals: true
  },
};

/** Side of the square that the model sees of a figure, in µm. */
export const FIELD_UM = 32;

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** A figure's name as a title: of a UUID its first part. */
export const shownName = (figure) => {
  const name = String(figure.figure_id ?? figure.index);
  return UUID.test(name) ? `figure ${name.slice(0, 8)}` : name;
};

const TAIL = 14;

/** A name in two parts, where it may be cut to fit: the end of a long one, which tells figures of a slide apart, stays. */
export const nameParts = (name) => (name.length > 2 * TAIL ? [name.slice(0, -TAIL), name.slice(-TAIL)] : [name, ""]);

/** Short name of a rater, different for each: as few letters as that needs. */
export function initials(rater, raters) {
  const others = raters.filter((name) => name !== rater);
  for (let length = 1; length < Math.min(4, rater.length); length += 1) {
    const start = rater.slice(0, length);
    if (!others.some((name) => name.startsWith(start))) return start;
  }
  const last = rater.match(/\d+$/)?.[0];
  return last ? rater[0] + last : rater.slice(0, 4);
}

/** The model's class of a figure: by its call, or where that is open by probability and threshold; null if unknown. */
export function modelClass(figure, threshold) {
  if (figure.call === "atypical" || figure.call === "normal") return figure.call;
  if (!Number.isFinite(figure.p) || !Number.isFinite(threshold)) return null;
  return figure.p >= threshold ? "atypical" : "normal";
}

/** Whether a decision is another class than the model's. */
export function differs(figure, decision, threshold) {
  if (decision !== "atypical" && decision !== "normal") return false;
  const model = modelClass(figure, threshold);
  return model !== null && model !== decision;
}

/** The entry of a decision, by name; undefined if there is none. */
export const decisionOf = (name) => DECISIONS.find((decision) => decision.name === name);

/** Title of a class by its code: 0 normal, 1 atypical; in the task «mitosis» look-alike and mitotic. */
export const className = (code, task) => (task === "mitosis" ? ["look-alike", "mitotic"] : ["normal", "atypical"])[code] ?? String(code);
