/** Parts that several views show: buttons of decisions, facts of a figure, display settings, menus. */

import { callSymbol, callTag, decisionTag, differsTag, opinion, symbol } from "./card.js";
import { add, button, fill, fixed, h, percent, whole } from "./dom.js";
import { CALLS, DECISIONS, FIELD_UM, className, differs } from "./names.js";
import { store } from "./store.js";

/** Buttons of the four decisions; `set(decision)` presses one. */
export function decisionButtons(onDecide, verb = "") {
  const buttons = DECISIONS.map((decision) => {
    const one = button(
      decision.title, () => onDecide(decision.name),
      { name: decision.icon, key: decision.key, title: verb ? `${verb} ${decision.title}` : null }
    );
    one.classList.add(`is-${decision.name}`);
    one.dataset.decision = decision.name;
    one.setAttribute("aria-pressed", "false");
    return one;
  });
  const element = h("div", { class: "decisions", role: "group", "aria-label": verb || "Decision" }, buttons);
  return {
    element,
    /** Shows the decision; null presses none, `enabled` false disables all. */
    set(decision, enabled = true) {
      for (const one of buttons) {
        one.setAttribute("aria-pressed", String(one.dataset.decision === decision));
        one.disabled = !enabled;
      }
    },
  };
}

function pairs(rows) {
  return h(
    "dl", { class: "facts" },
    rows.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])
  );
}

function probability(figure) {
  const { threshold } = store.session;
  const meter = h(
    "div",
    {
      class: "meter", role: "img",
      "aria-label": `probability of atypical ${fixed(figure.p)}${Number.isFinite(threshold) ? `, threshold ${fixed(threshold, 2)}` : ""}`
    },
    h("b"), Number.isFinite(threshold) && h("i")
  );
  meter.children[0].style.width = `${100 * figure.p}%`;
  if (meter.children[1]) meter.children[1].style.left = `${100 * threshold}%`;
  return meter;
}

/** The model's prediction for a figure; null in blind mode or without a model. */
export function modelSection(figure) {
  if (store.blind || (!figure.call && !Number.isFinite(figure.p))) return null;
  return h(
    "section", {}, h("h3", {}, "Model"),
    h(
      "div", { class: "pair" }, figure.call && callTag(figure.call),
      Number.isFinite(figure.p) && h("span", { class: "number" }, `probability of atypical ${fixed(figure.p, 2)}`),
      differs(figure, figure.decision, store.session.threshold) && differsTag()
    ),
    Number.isFinite(figure.p) && probability(figure),
    pairs([
      ["limit", Number.isFinite(store.session.threshold) ? `atypical from ${fixed(store.session.threshold, 2)}` : null],
      [
        "novelty",
        Number.isFinite(figure.novelty) ? `${fixed(figure.novelty, 2)}${figure.call === "refused" ? ", above the model's limit" : ""} (distance from what the model was trained on)` : null
      ],
    ]),
  );
}

/** Label, votes and other raters' decisions; null if none is known or in blind mode. */
export function opinionsSection(figure) {
  const others = Object.entries(figure.others ?? {});
  const hasLabel = figure.label !== null && figure.label !== undefined;
  if (store.blind || (!others.length && !hasLabel && !figure.votes?.length && !figure.settled)) return null;
  const { task } = store.session;
  const votes = (figure.votes ?? []).filter((vote) => vote !== null);
  const ones = votes.filter((vote) => vote === 1).length;
  return h(
    "section", {}, h("h3", {}, "Others"),
    pairs([
      ["label", hasLabel ? className(figure.label, task) : null],
      ["votes", votes.length ? `${ones} of ${votes.length} ${className(1, task)}` : null],
      ["settled as", figure.settled ? decisionTag(figure.settled) : null],
    ]),
    others.length > 0 && h(
      "ul", { class: "opinions" },
      others.map(
        ([rater, decision]) => h(
          "li", {}, h("span", {}, opinion(rater, decision), " ", rater), h(
            "span", {}, decisionTag(decision),
            (figure.others_tags?.[rater] ?? []).map((tag) => [" ", h("span", { class: "chip" }, tag)])
          )
        )
      )
    ),
  );
}

/** Origin of a figure, with a link to its slide if there is one. */
export function originSection(figure) {
  const place = Number.isFinite(figure.x_px) && Number.isFinite(figure.y_px) ? `${whole(Math.round(figure.x_px))}, ${whole(Math.round(figure.y_px))} px` : null;
  const onSlide = figure.slide !== null && figure.slide !== undefined;
  return h(
    "section", {}, h("h3", {}, "Figure"),
    pairs([
      ["id", figure.figure_id],
      ["case", figure.case],
      ["domain", figure.domain],
      ["position", place],
      [
        "resolution",
        Number.isFinite(figure.mpp) ? `${fixed(figure.mpp, 3)} µm/px${figure.mpp_assumed ? ", assumed by the model" : ""}` : null
      ],
      ["crop", Number.isFinite(figure.width_um) ? `${fixed(figure.width_um, 1)} µm wide` : null],
      ["border", figure.beyond ? "striped: beyond the slide" : null],
      ["assigned to", figure.assigned?.length ? figure.assigned.join(", ") : null],
      ["added", figure.added ? "by a rater; the model has not seen it" : null],
    ]),
    onSlide && h(
      "p", {}, h("a", { href: `#slides?slide=${figure.slide}&figure=${figure.index}` }, "Show on its slide")
    ),
  );
}

/**
 * The rater's tags of a figure as buttons, and a field for others.
 * @param {Object} figure
 * @param {function(string)} onToggle
 */
export function tagSection(figure, onToggle) {
  const given = figure.tags ?? [];
  const names = [...new Set([...store.session.tags, ...given])];
  const field = h("input", {
    type: "text", maxlength: 40, placeholder: "another …", "aria-label": "Another tag", autocomplete: "off"
  });
  const submit = (event) => {
    event.preventDefault();
    const name = field.value.replaceAll(";", ",").trim();
    if (name && !given.includes(name)) onToggle(name);
  };
  return h(
    "section", {}, h("h3", {}, "Type of atypia, tags"),
    h(
      "div", { class: "tags", role: "group", "aria-label": "Tags" },
      names.map((name, i) => {
        const one = button(name, () => onToggle(name), { key: i < 6 ? String(i + 1) : null });
        one.setAttribute("aria-pressed", String(given.includes(name)));
        return one;
      }),
      h("form", { on: { submit } }, field)
    ),
  );
}

/** The running count and rate of the present rater's decisions; follows every decision. */
export function tally() {
  const element = h("span", { class: "tally number", role: "status", "aria-label": "Your decisions so far" });
  const show = () => {
    const { counts, rate, rated } = store.progress(store.rater);
    const [atypical, normal] = [counts.atypical ?? 0, counts.normal ?? 0];
    element.hidden = !store.rater;
    const all = atypical + normal;
    const now = `${atypical}/${all}`;
    const isCurrent = rated === now && Number.isFinite(rate?.low);
    const { whole: total } = store;
    fill(
      element,
      DECISIONS.map(({ name, title }) => h("span", { title }, symbol(name, `your decisions: ${title.toLowerCase()}`), whole(counts[name] ?? 0))),
      all > 0 && h(
        "span", { title: "atypical of the figures that you called atypical or normal; in brackets the exact 95 % interval" },
        h("b", {}, percent(atypical, all)), h("span", { class: "long" }, " atypical"),
        isCurrent && h("span", { class: "faint word" }, ` (${Math.round(100 * rate.low)} to ${Math.round(100 * rate.high)} %)`)
      ),
      total?.says && total.by_model > 0 && h(
        "span", { class: total.rated === now ? "whole" : "whole stale", title: [total.text, ...total.notes].join("\n") },
        "all ", h("span", { class: "long" }, "figures "), h("b", {}, `${Math.round(100 * total.rate)} %`),
        h("span", { class: "faint" }, ` (${Math.round(100 * total.rate_low)} to ${Math.round(100 * total.rate_high)} %)`)
      ),
    );
  };
  for (const event of ["rater", "raters", "rates"]) store.addEventListener(event, show);
  show();
  return element;
}

/** What the symbols mean, as a menu. */
export function legendMenu() {
  const row = (mark, text) => h("li", {}, mark, h("span", {}, text));
  const box = h("div");
  const show = () => fill(box,
    h("ul", { class: "legend-list" },
      DECISIONS.map(({ name, title }) => row(decisionTag(name), `you decided: ${title.toLowerCase()}`)),
      !store.blind && row(differsTag(), "your decision is another class than the model's"),
      !store.blind && store.session.calls.map((name) => row(callSymbol(name, name), `the model: ${CALLS[name]?.title ?? name}`)),
      !store.blind && store.raters.filter(({ name }) => name !== store.rater).map(({ name }) => row(opinion(name, "atypical"), `decision of ${name}`)),
      store.session.has.slides && row(h("span", { class: "stripes" }), "beyond the slide's border; the model gets mirrored tissue there"),
    ),
    h("p", { class: "faint" }, "Colours are people's decisions; the model's calls have none. The number beside a call is the probability of atypical."),
  );
  const made = menu("Legend", box, { right: true });
  made.element.addEventListener("toggle", () => made.element.open && show());
  return made;
}

/** What the model saw of a figure, in words. */
export const fieldWords = (figure) => (
  Number.isFinite(figure.width_um) && figure.width_um > 1.02 * FIELD_UM ? `the marked square of ${FIELD_UM} µm` : "the whole crop"
);

/** Applies brightness and contrast to all tissue images. */
export function applyLook() {
  const { brightness, contrast } = store.preferences;
  const plain = brightness === 100 && contrast === 100;
  document.documentElement.style.setProperty(
    "--look", plain ? "none" : `brightness(${brightness / 100}) contrast(${contrast / 100})`
  );
}

const LOOK_STEP = 10;
const LOOK_RANGE = [30, 250];

/** Changes brightness or contrast by steps; 0 resets both. */
export function stepLook(name, steps) {
  if (steps === 0) store.prefer({ brightness: 100, contrast: 100 });
  else store.prefer(
    { [name]: Math.min(LOOK_RANGE[1], Math.max(LOOK_RANGE[0], store.preferences[name] + steps * LOOK_STEP)) }
  );
}

/** Switches between stained crops and hematoxylin only. */
export function toggleStain() {
  store.prefer({ stain: store.preferences.stain === "rgb" ? "hematoxylin" : "rgb" });
}

/** Sliders of brightness and contrast and the switch of hematoxylin; kept in sync with the keys. */
export function lookControls({ withStain = true } = {}) {
  const sliders = [
    ["brightness", "Brightness", "[ ]"], ["contrast", "Contrast", ", ."]
  ].map(([name, title, keys]) => {
    const slider = h(
      "input",
      {
        type: "range", min: LOOK_RANGE[0], max: LOOK_RANGE[1], step: 5, "aria-label": title,
        title: `${title}, keys ${keys}`
      }
    );
    const shown = h("output", { class: "number" });
    slider.addEventListener("input", () => store.prefer({ [name]: Number(slider.value) }));
    return { name, slider, shown, row: h("div", { class: "row" }, h("span", {}, title), slider, shown) };
  });
  const stain = button("Hematoxylin only", toggleStain, { key: "h" });
  const show = () => {
    for (const { name, slider, shown } of sliders) {
      slider.value = String(store.preferences[name]);
      shown.textContent = `${store.preferences[name]} %`;
    }
    stain.setAttribute("aria-pressed", String(store.preferences.stain === "hematoxylin"));
  };
  store.addEventListener("preferences", show);
  show();
  return h(
    "div", { class: "look" }, sliders.map((one) => one.row),
    h(
      "div", { class: "pair" }, withStain && stain,
      button("Reset", () => stepLook("brightness", 0), { title: "Brightness and contrast back to 100 %" })
    )
  );
}

/** A menu that closes by Escape and by a click elsewhere. */
export function menu(title, content, { right = false } = {}) {
  const summary = h("summary", {}, title);
  const element = h(
    "details", { class: "menu" }, summary, h("div", { class: right ? "panel right" : "panel" }, content)
  );
  element.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && element.open) {
      event.stopPropagation();
      element.open = false;
      summary.focus();
    }
  });
  element.addEventListener("toggle", () => {
    const outside = (event) => {
      if (!element.contains(event.target)) element.open = false;
      if (!element.open) document.removeEventListener("pointerdown", outside);
    };
    if (element.open) document.addEventListener("pointerdown", outside);
  });
  return { element, summary };
}

const SEARCH_FROM = 10;
const SHOWN_CHOICES = 200;

/**
 * A menu of check boxes over many values, with a search field if there are many.
 * @param {string} title @param {string[]} values @param {function(Set<string>)} onChange
 * @param {function(string): string} titleOf
 */
export function choiceMenu(title, values, onChange, titleOf = (value) => value) {
  const chosen = new Set();
  const list = h("div", { class: "choices" });
  const search = h(
    "input", { type: "search", placeholder: `Search ${values.length} …`, "aria-label": `Search ${title}` }
  );
  const clear = button("Clear", () => {
    chosen.clear();
    show();
    onChange(chosen);
  });
  const more = h("p", { class: "faint" });
  const { element, summary } = menu(
    title, [values.length > SEARCH_FROM && search, list, more, h("div", { class: "ends" }, clear)]
  );
  const show = () => {
    const text = search.value.trim().toLowerCase();
    const found = values.filter((value) => titleOf(value).toLowerCase().includes(text));
    const first = [
      ...found.filter((value) => chosen.has(value)), ...found.filter((value) => !chosen.has(value))
    ].slice(0, SHOWN_CHOICES);
    fill(list, first.map((value) => {
      const box = h("input", { type: "checkbox", value });
      box.checked = chosen.has(value);
      box.addEventListener("change", () => {
        if (box.checked) chosen.add(value);
        else chosen.delete(value);
        mark();
        onChange(chosen);
      });
      return h("label", {}, box, h("span", {}, titleOf(value)));
    }));
    more.textContent = found.length > first.length ? `${whole(found.length - first.length)} more: search for them` : "";
    mark();
  };
  const mark = () => {
    element.classList.toggle("chosen", chosen.size > 0);
    fill(summary, chosen.size ? `${title}: ${chosen.size === 1 ? titleOf([...chosen][0]) : chosen.size}` : title);
    clear.disabled = !chosen.size;
  };
  search.addEventListener("input", show);
  show();
  return {
    element,
    chosen,
    /** Sets the choice from outside; unknown values are left out. */
    set(wanted) {
      chosen.clear();
      for (const value of wanted) if (values.includes(value)) chosen.add(value);
      show();
    },
  };
}

/** A box that explains why a view is empty in blind mode, with a button to leave it. */
export function blindBox(what) {
  const box = h(
    "div", { class: "state" }, h("h2", {}, "Hidden in blind mode"),
    h("p", {}, `${what} would reveal predictions or other raters' decisions.`)
  );
  return add(box, button("Leave blind mode", () => store.setBlind(false), { name: "seeing" }));
}

/**
 * The text of a note, as text, and a button to write it.
 * @param {Object} figure
 * @param {function(boolean)} onWrite true: the note of this figure; false: what the key T does
 * @param {?Object} [decided] the figure just decided, whose note the key T writes
 */
export function noteSection(figure, onWrite, decided = null) {
  return h(
    "section", {}, h("h3", {}, "Note"), figure.note && h("p", { class: "note-text" }, figure.note),
    button(
      figure.note ? "Change note" : "Write a note", () => onWrite(true), { name: "note", key: decided ? null : "t" }
    ),
    decided && button("Note on last", () => onWrite(false), { name: "note", title: lastNote(decided), key: "t" }),
  );
}

/** Label of the button for the note on the figure just decided. */
export function lastNote(decided) {
  return `Note on figure ${decided.figure_id ?? decided.index}, which you just decided (T)`;
}

