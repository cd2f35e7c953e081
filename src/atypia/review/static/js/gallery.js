/** The gallery: every figure, sorted and filtered. */

import { get } from "./api.js";
import { symbol } from "./card.js";
import { button, fill, h, icon, stateBox, whole } from "./dom.js";
import { FigureList } from "./figures.js";
import { TILES } from "./grid.js";
import { CALLS, DECISIONS, SORTS, className, shownName, sortTitle } from "./names.js";
import { outbox } from "./outbox.js";
import { choiceMenu, legendMenu, lookControls, menu } from "./parts.js";
import { dress } from "./review.js";
import { replaceRoute } from "./route.js";
import { store } from "./store.js";
import { Workspace } from "./workspace.js";

const UNDECIDED = "none";

let prefix = null;

// Case names of one data set often share a prefix; a card shows the part that differs.
function shortCase(name) {
  if (prefix === null) {
    const { cases } = store.session;
    prefix = cases.length > 1 ? cases.reduce(
      (common, one) => common.slice(0, [...common].findIndex((sign, i) => sign !== one[i]) >>> 0)
    ) : "";
  }
  return prefix.length > 4 && name.length > prefix.length ? `…${name.slice(prefix.length)}` : name;
}

// Where all figures are of one case, its name would say nothing: the figure's number, or its own name.
function nameOn(figure) {
  if (figure.case === null) return figure.figure_id;
  if (store.session.cases.length > 1) return shortCase(figure.case);
  const id = String(figure.figure_id);
  const at = id.lastIndexOf("#");
  return at > 0 ? id.slice(at) : shownName(figure);
}

function line(figure) {
  const { label } = figure;
  const name = label === null || label === undefined ? null : className(label, store.session.task);
  return [
    h("span", {}, nameOn(figure)),
    name && h(
      "span", { class: "label" }, h("span", { class: "word" }, "label "),
      symbol(label === 1 ? "atypical" : "normal", `label ${name}`)
    ),
  ];
}

export class GalleryView {
  #query = null;
  #large = false;

  constructor(large) {
    const { session } = store;
    this.workspace = new Workspace({
      label: "Figures", line, large,
      empty: () => stateBox(
        "No matching figure", session.figures ? "No figure passes these filters." : "The opened data has no figures.",
        session.figures ? button("Show all figures", () => this.#reset()) : null
      ),
    });
    const changed = () => this.#changed();
    this.sort = h("select", { "aria-label": "Sort by", on: { change: () => this.#sorted() } });
    this.direction = button("", () => this.#turn(), { name: "down", label: "Direction" });
    this.menus = {
      case: choiceMenu("Case", session.cases.map(String), changed),
      domain: choiceMenu("Domain", session.domains.map(String), changed),
      call: choiceMenu("Call", session.calls, changed, (name) => CALLS[name]?.title ?? name),
      decision: choiceMenu(
        "Decision", [...DECISIONS.map((decision) => decision.name), UNDECIDED], changed,
        (name) => DECISIONS.find((one) => one.name === name)?.title ?? "Undecided"
      ),
    };
    this.menus.tag = choiceMenu("Tag", session.tags, changed);
    this.assigned = h("input", { type: "checkbox", on: { change: changed } });
    this.mine = h("label", { hidden: true }, this.assigned, "Assigned to me");
    this.undecided = h("input", { type: "checkbox", on: { change: changed } });
    this.count = h("span", { class: "faint number", role: "status" });
    this.anew = button("", () => this.#load(0), { name: "reload", label: "Reload the list" });
    this.tile = h(
      "select", { "aria-label": "Size of the crops", on: { change: () => store.prefer({ tile: this.tile.value }) } },
      Object.entries(TILES).map(([name, { title }]) => h("option", { value: name }, title))
    );
    this.display = menu(
      "Display", [h("div", { class: "row" }, h("span", {}, "Size"), this.tile), lookControls()], { right: true }
    );
    this.toolbar = h(
      "div", { class: "bar", role: "toolbar", "aria-label": "Sort and filter" },
      h("span", { class: "joined" }, this.sort, this.direction),
      Object.values(this.menus).map((one) => one.element),
      h("label", {}, this.undecided, "Undecided only"), this.mine,
      this.anew,
      h("span", { class: "grow" }), this.count, legendMenu().element, this.display.element,
    );
    this.element = h("div", { class: "view" }, this.toolbar, this.workspace.element);
    this.workspace.addEventListener("moved", () => this.#remember());
    this.workspace.addEventListener("large", () => this.#remember());
    store.addEventListener("blind", () => this.#blind());
    store.addEventListener("added", () => this.#query && this.#load(this.workspace.grid.position));
    const mine = () => (this.mine.hidden = !store.progress(store.rater).assigned && !this.assigned.checked);
    for (const event of ["rater", "raters"]) store.addEventListener(event, mine);
    mine();
    for (const event of ["rater", "imported"]) {
      store.addEventListener(event, () => this.#query && this.#load(this.workspace.grid.position));
    }
    store.addEventListener("preferences", () => (this.tile.value = store.preferences.tile));
    this.tile.value = store.preferences.tile;
    this.#offer();
  }

  /** Restores the state in a URL; without parameters the gallery is unchanged. */
  show(route) {
    const names = ["sort", "desc", "case", "domain", "call", "decision", "tag", "undecided", "assigned", "figure", "at"];
    const isGiven = names.some((name) => route.get(name) !== null);
    if (this.#query && !isGiven) {
      this.workspace.resume();
      this.#remember();
      return;
    }
    const allowed = [...this.sort.options].map((option) => option.value);
    const sort = route.get("sort");
    this.sort.value = allowed.includes(sort) ? sort : allowed.includes("p") && !isGiven ? "p" : allowed[0];
    const descending = route.get("desc");
    this.#point(descending === null ? SORTS[this.sort.value]?.descending ?? false : descending === "1");
    for (const [name, one] of Object.entries(this.menus)) one.set(name === "call" && store.blind ? [] : route.all(name));
    this.undecided.checked = route.get("undecided") === "1";
    this.assigned.checked = route.get("assigned") === "1";
    if (this.assigned.checked) this.mine.hidden = false;
    this.#load(
      Number(route.get("at")) || 0, route.get("figure") === null ? null : Number(route.get("figure")),
      route.get("large") === "1"
    );
  }

  key(key, isShift) {
    return this.workspace.key(key, isShift);
  }

  #offer() {
    const chosen = this.sort.value;
    const sorts = store.session.sorts.filter((name) => !store.blind || (name in SORTS && !SORTS[name].reveals));
    const { has } = store.session;
    const needs = { p: has.p, uncertainty: has.p, "label-disagreement": has.p && has.label, novelty: has.novelty };
    fill(
      this.sort,
      sorts.filter((name) => needs[name] ?? true).map(
        (name) => h("option", { value: name }, sortTitle(name, store.blind))
      )
    );
    if ([...this.sort.options].some((option) => option.value === chosen)) this.sort.value = chosen;
    this.#point(this.descending ?? false);
    for (const [name, one] of Object.entries(this.menus)) {
      const values = { case: store.session.cases, domain: store.session.domains, call: store.session.calls }[name];
      one.element.hidden = (values !== undefined && values.length < 2) || (name === "call" && store.blind);
    }
  }

  #point(descending) {
    this.descending = descending;
    const words = SORTS[this.sort.value]?.[descending ? "down" : "up"] ?? (descending ? "last first" : "first to last");
    const title = store.blind && this.sort.value === "index" ? (descending ? "reversed" : "as drawn") : words;
    this.direction.setAttribute("aria-label", `Direction: ${title}`);
    this.direction.title = `${title}; press to reverse`;
    fill(this.direction, icon(descending ? "down" : "up"), h("span", { class: "words" }, title));
  }

  #sorted() {
    this.#point(SORTS[this.sort.value]?.descending ?? false);
    this.#changed();
  }

  #turn() {
    this.#point(!this.descending);
    this.#changed();
  }

  #changed() {
    this.#load(0);
  }

  #reset() {
    for (const one of Object.values(this.menus)) one.set([]);
    this.undecided.checked = false;
    this.assigned.checked = false;
    this.#load(0);
  }

  #blind() {
    this.#offer();
    if (store.blind) this.menus.call.set([]);
    if (!this.#query) return;
    this.#point(
      SORTS[this.sort.value] && this.sort.value === this.#query.sort ? this.descending : SORTS[this.sort.value]?.descending ?? false
    );
    this.#load(0);
  }

  /** Loads the list for the controls; `position` is the cursor's, `index` the figure expected there. */
  #load(position, index = null, large = false) {
    const chosen = Object.fromEntries(Object.entries(this.menus).map(([name, one]) => [name, [...one.chosen]]));
    const { rater, blind } = store;
    const query = {
      sort: this.sort.value, descending: this.descending, ...chosen, undecided: this.undecided.checked, assigned: this.assigned.checked, rater, blind
    };
    this.#query = query;
    this.#large = large;
    const wanted = new Set(chosen.decision);
    const byDecision = query.undecided || wanted.size > 0;
    const belongs = (figure) => (!query.undecided || !figure.decision) && (!wanted.size || wanted.has(figure.decision ?? UNDECIDED));
    const list = new FigureList({
      load: (offset, limit, signal) => get("/figures", { ...query, offset, limit }, signal),
      belongs: byDecision ? belongs : null,
      settled: () => outbox.settled(),
      dress,
    });
    const found = () => {
      if (list.total === null) return;
      list.removeEventListener("change", found);
      const place = index === null ? -1 : list.positionOf(index);
      if (place >= 0) this.workspace.grid.moveTo(place);
      if (large && this.workspace.figure) this.workspace.openLarge();
    };
    list.addEventListener("change", found);
    list.addEventListener("change", () => this.#counted());
    // Only a figure is given, not its position: find it in file order.
    const start = index !== null && !position && query.sort === "index" && !query.descending && !byDecision && !chosen.case.length && !chosen.domain.length && !chosen.call.length && !chosen.tag.length && !query.assigned ? index : position;
    this.workspace.setList(list, start);
    this.#counted();
    this.#remember();
  }

  #counted() {
    const { list } = this.workspace;
    const { figures } = store.session;
    const total = list?.total ?? null;
    this.count.textContent = total === null ? "" : total === figures ? `${whole(figures)} figures` : `${whole(total)} of ${whole(figures)} figures`;
    this.anew.hidden = !list?.departed;
    if (list?.departed) fill(this.anew, icon("reload"), `${whole(list.departed)} no longer match`);
  }

  #remember() {
    if (!this.element.isConnected || !this.#query) return;
    const { figure, large, grid } = this.workspace;
    if (large.isOpen) this.#large = true;
    else if (figure) this.#large = false;
    const { sort, descending, undecided, assigned } = this.#query;
    const chosen = Object.fromEntries(Object.entries(this.menus).map(([name, one]) => [name, [...one.chosen]]));
    replaceRoute("gallery", {
      sort, desc: descending ? "1" : "0", ...chosen, undecided, assigned, at: grid.position || null, figure: figure?.index ?? null, large: this.#large, blind: store.blind,
    });
  }
}
