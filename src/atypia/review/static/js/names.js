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
  index: { title: "File order", descending: false, reveals: false },
  p: { title: "Probability of atypical", descending: true, reveals: true },
  uncertainty: { title: "Uncertainty", descending: true, reveals: true },
  "label-disagreement": { title: "Disagreement with the label", descending: true, reveals: true },
  "rater-disagreement": { title: "Disagreement between raters", descending: true, reveals: true },
  novelty: { title: "Novelty", descending: true, reveals: true },
  case: { title: "Case", descending: false, reveals: false },
};

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

/** The entry of a decision, by name; undefined if there is none. */
export const decisionOf = (name) => DECISIONS.find((decision) => decision.name === name);

/** Title of a class by its code: 0 normal, 1 atypical; in the task «mitosis» look-alike and mitotic. */
export const className = (code, task) => (task === "mitosis" ? ["look-alike", "mitotic"] : ["normal", "atypical"])[code] ?? String(code);
