/** Dialogs: notes, raters, keys. */

import { OfflineError, RefusedError } from "./api.js";
import { cropBox, showCrop, symbol } from "./card.js";
import { button, fill, fixed, h, percent, toast, whole } from "./dom.js";
import { DECISIONS, decisionOf } from "./names.js";
import { NAME_LENGTH, NOTE_LENGTH, writeNote } from "./review.js";
import { store } from "./store.js";

function open(title, ...content) {
  // The event «close» comes a frame after a dialog was closed, by whatever means: until then two would have the same names.
  for (const closed of document.querySelectorAll("dialog.brief:not([open])")) closed.remove();
  const dialog = h(
    "dialog", { class: "brief", "aria-label": title },
    h("header", {}, h("h2", {}, title), button("", () => dialog.close(), { name: "cross", label: "Close" })), content
  );
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

const NOTE_CROP_PX = 192;

/**
 * Writes the note of a figure. Ctrl+Enter saves it, Escape discards the change.
 * @param {Object} figure with its present note
 * @param {?Object} [next] the figure shown after `figure` was decided; offered as an alternative
 */
export function noteDialog(figure, next = null) {
  const text = h(
    "textarea",
    { maxlength: NOTE_LENGTH, "aria-label": "Note", placeholder: "Reasons for the decision, doubts …" }
  );
  text.value = figure.note ?? "";
  const left = h("span", { class: "faint number" });
  const count = () => (left.textContent = `${whole(NOTE_LENGTH - text.value.length)} characters left`);
  text.addEventListener("input", count);
  count();
  const save = () => {
    dialog.close();
    writeNote(figure, text.value);
  };
  const crop = cropBox();
  showCrop(crop, figure.index, "rgb", NOTE_CROP_PX);
  const title = decisionOf(figure.decision)?.title.toLowerCase();
  const instead = next && button(
    `Note on figure ${next.figure_id ?? next.index} instead`,
    () => {
      dialog.close();
      noteDialog(next);
    }
  );
  const dialog = open(
    `Note on figure ${figure.figure_id ?? figure.index}`,
    h(
      "div", { class: "note-of" }, h("div", { class: "note-crop" }, crop),
      h(
        "div", {}, h("p", {}, next ? `The figure that you just decided: ${title}.` : title ? `Decided: ${title}.` : "Not decided yet."),
        instead
      )
    ),
    text, left,
    h(
      "footer", {}, button("Cancel", () => dialog.close()),
      button("Keep note", save, { kind: "primary", title: "Ctrl+Enter" })
    )
  );
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save();
  });
  text.focus();
}

function person(rater, choose) {
  const { figures } = store.session;
  return h(
    "li", {},
    h(
      "button", {
        type: "button", "aria-pressed": String(rater.name === store.rater), on: { click: () => choose(rater.name) }
      },
      h(
        "span", {}, h("strong", {}, rater.name),
        ` ${whole(rater.decided)} of ${whole(figures)} (${percent(rater.decided, figures)})`
      ),
      h("progress", { max: figures || 1, value: rater.decided, "aria-hidden": "true" }),
      h(
        "small", {},
        DECISIONS.map(({ name, title }) => h("span", {}, symbol(name, title), whole(rater.counts[name] ?? 0)))
      ),
    ),
  );
}

/** Chooses or adds a rater; resolves to whether there is one afterwards. */
export function ratersDialog() {
  return new Promise((resolve) => {
    const choose = (name) => {
      store.setRater(name);
      dialog.close();
    };
    const name = h(
      "input",
      {
        type: "text", maxlength: NAME_LENGTH, required: true, autocomplete: "off", "aria-label": "Name of a new rater"
      }
    );
    const problem = h("p", { role: "alert" });
    const create = async (event) => {
      event.preventDefault();
      const wanted = name.value.trim();
      if (!wanted) return;
      try {
        choose(await store.addRater(wanted));
      } catch (error) {
        if (!(error instanceof RefusedError) && !(error instanceof OfflineError)) throw error;
        problem.textContent = error.message;
      }
    };
    const people = h("ul", { class: "people" });
    const show = () => fill(people, store.raters.map((rater) => person(rater, choose)));
    show();
    store.addEventListener("raters", show);
    const dialog = open(
      "Who decides?",
      h("p", { class: "faint" }, "Each rater has separate decisions; blind mode hides those of the others."),
      people,
      h(
        "form", { class: "line-up", on: { submit: create } }, h("label", {}, "New rater", name),
        h("button", { type: "submit", class: "primary" }, "Add")
      ),
      problem,
    );
    dialog.addEventListener("close", () => {
      store.removeEventListener("raters", show);
      resolve(store.rater !== null);
    });
    (people.querySelector("[aria-pressed=true], button") ?? name).focus();
    store.loadRaters().catch((error) => toast(error.message, true));
  });
}

/** Asks to which raters figures are assigned. */
export function assignDialog(figures, onAssign) {
  const boxes = store.raters.map(({ name }) => h("input", { type: "checkbox", value: name }));
  const dialog = open(
    `Assign ${whole(figures.length)} ${figures.length === 1 ? "figure" : "figures"}`,
    h("p", { class: "faint" }, "Each of these raters finds them under «Assigned to me»; everybody still sees all figures."),
    h("div", { class: "choices" }, boxes.map((box) => h("label", {}, box, " ", box.value))),
    !boxes.length && h("p", {}, "There is no rater yet."),
    h(
      "footer", {}, button("Cancel", () => dialog.close()),
      button("Assign", () => {
        dialog.close();
        onAssign(boxes.filter((box) => box.checked).map((box) => box.value));
      }, { kind: "primary" })
    )
  );
  boxes[0]?.focus();
}

const KEYS = [
  [["A"], "atypical"],
  [["N"], "normal"],
  [["U"], "unsure"],
  [["X"], "not a mitosis"],
  [["C"], "clear the decision"],
  [["Z"], "undo what you did last: a decision, several at once, tags, an added figure, an assignment"],
  [["T"], "write a note: right after a decision on the figure just decided, else on the current one"],
  [["←", "↑", "→", "↓"], "move; in the large view and on a slide ← and → are previous and next"],
  [["Home", "End", "PgUp", "PgDn"], "first, last, a screen up or down"],
  [["Enter", "Space"], "large view, and back"],
  [["Esc"], "close"],
  [["+", "−", "0"], "zoom in, out, fit"],
  [["H"], "hematoxylin only"],
  [["[", "]"], "darker, brighter"],
  [[",", "."], "less, more contrast"],
  [["1", "…", "6"], "type of atypia: multipolar, lagging, bridge, ring, asymmetric, other; for the figure that T would take"],
  [["Shift + arrows", "Shift or Ctrl + click"], "choose several figures, which the next decision takes together"],
  [["Ctrl + A"], "choose the whole list"],
  [["M"], "on a slide: add a missed mitosis at the next click"],
  [["S"], "in the large view: what is around the figure, on a slide"],
  [["B"], "blind mode: hide predictions and other raters' decisions"],
  [["?"], "this list"],
];

/** Lists the keys, and the opened data. */
export function helpDialog() {
  const { source, figures, model, threshold, notes, version } = store.session;
  const facts = [
    ["opened", source],
    ["figures", whole(figures)],
    ["threshold", threshold === null ? null : fixed(threshold, 3)],
    ["classifier", model],
    ["Atypia", version],
    ...(notes ?? []).map((note, i) => [i ? "" : "notes", note]),
  ].filter(([, value]) => value !== null && value !== undefined);
  const about = h(
    "details", {}, h("summary", {}, "Opened data"),
    h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))
  );
  open(
    "Keys",
    h(
      "dl", { class: "keys" },
      KEYS.map(
        ([keys, text]) => [
          h("dt", {}, keys.map((key) => h("kbd", {}, key)).flatMap((one, i) => (i ? [" ", one] : [one]))),
          h("dd", {}, text)
        ]
      )
    ),
    h("footer", { class: "about" }, about)
  );
}
