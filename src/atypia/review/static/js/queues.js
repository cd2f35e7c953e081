/** Queues: disagreements to settle, and figures worth deciding next. */

import { OfflineError, RefusedError, get, getSlowly } from "./api.js";
import { button, fill, h, stateBox, whole } from "./dom.js";
import { FigureList } from "./figures.js";
import { QUEUES, decisionOf } from "./names.js";
import { outbox } from "./outbox.js";
import { blindBox, legendMenu } from "./parts.js";
import { dress } from "./review.js";
import { replaceRoute } from "./route.js";
import { store } from "./store.js";
import { Workspace } from "./workspace.js";

const QUEUE_LENGTHS = [50, 100, 200, 500];

function votes(figure) {
  const counts = new Map();
  for (const decision of Object.values(figure.others ?? {})) counts.set(decision, (counts.get(decision) ?? 0) + 1);
  return [...counts].map(([name, count]) => `${count} ${decisionOf(name)?.title.toLowerCase() ?? name}`).join(", ");
}

const who = (figure) => Object.entries(figure.others ?? {}).map(([rater, decision]) => `${rater}: ${decisionOf(decision)?.title.toLowerCase() ?? decision}`).join(", ");

/** Figures on which raters disagree, to be settled. */
export class ArbitrationView {
  #open = false;

  constructor(large) {
    this.workspace = new Workspace({
      label: "Disagreements", large, settles: true,
      line: (figure) => h("span", { title: who(figure) }, votes(figure)),
      empty: () => stateBox(
        "Nothing to settle", "This queue lists the figures on which two or more raters decided differently."
      ),
    });
    this.count = h("span", { class: "number" });
    this.who = h("span", { role: "status" });
    this.toolbar = h(
      "div", { class: "bar" }, h(
        "p", {}, this.count,
        h("span", { class: "faint" }, " A decision here settles the consensus. The letters beside the symbols are the raters."), " ", this.who
      ),
      h("span", { class: "grow" }), legendMenu().element, button("Reload the list", () => this.#load(), { name: "reload" }),
    );
    this.body = h("div", { class: "view" });
    this.element = h("div", { class: "view" }, this.body);
    this.workspace.addEventListener("moved", () => {
      this.who.textContent = this.workspace.figure ? who(this.workspace.figure) : "";
      this.#remember();
    });
    store.addEventListener("blind", () => this.element.isConnected && this.#load());
  }

  show(route) {
    this.#load(Number(route.get("at")) || 0);
  }

  key(key, isShift) {
    return this.#open && this.workspace.key(key, isShift);
  }

  #load(position = 0) {
    this.#open = !store.blind;
    if (store.blind) {
      fill(this.body, blindBox("The arbitration queue"));
      return;
    }
    fill(this.body, this.toolbar, this.workspace.element);
    const list = new FigureList({
      load: (offset, limit, signal) => get("/arbitration", { offset, limit }, signal),
      belongs: (figure) => !figure.settled,
      settled: () => outbox.settled(),
      dress,
    });
    list.addEventListener("change", () => {
      this.count.textContent = list.total === null ? "" : `${whole(list.total)} ${list.total === 1 ? "disagreement" : "disagreements"}${list.departed ? `, ${whole(list.departed)} settled` : ""}.`;
    });
    this.workspace.setList(list, position);
    this.workspace.grid.element.focus({ preventScroll: true });
  }

  #remember() {
    if (this.element.isConnected) replaceRoute(
      "arbitration",
      { at: this.workspace.grid.position || null, figure: this.workspace.figure?.index ?? null, blind: store.blind }
    );
  }
}

/** Figures to decide next: by usefulness for the model, or by likely label errors. */
export class QueueView {
  #request = null;
  #reasons = {};
  #open = false;

  constructor(large) {
    this.kinds = store.session.queues.filter((name) => name in QUEUES);
    this.kind = this.kinds[0];
    this.workspace = new Workspace({
      label: "Queue", large,
      line: (figure) => (store.blind ? figure.case ?? figure.figure_id : this.#reasons[figure.index] ?? ""),
      empty: () => stateBox("This queue is empty", "All of its figures are decided."),
    });
    this.tabs = this.kinds.map((kind) => button(QUEUES[kind].title, () => this.#choose(kind)));
    this.limit = h(
      "select", { "aria-label": "Figures in the queue", on: { change: () => this.#load() } },
      QUEUE_LENGTHS.map((length) => h("option", { value: length }, `${length} figures`))
    );
    this.limit.value = "100";
    this.text = h("p", { class: "faint" });
    this.reason = h("p", { class: "bar", role: "status" });
    this.toolbar = h(
      "div", { class: "bar" }, h(
        "span", { class: "joined", role: "group", "aria-label": "Queue" }, this.tabs
      ), this.text,
      h("span", { class: "grow" }), this.limit, button("Reload the queue", () => this.#load(), { name: "reload" }),
    );
    this.body = h("div", { class: "view" });
    this.element = h("div", { class: "view" }, this.toolbar, this.body);
    this.workspace.addEventListener("moved", () => this.#moved());
    for (const event of ["blind", "rater"]) store.addEventListener(
      event, () => this.element.isConnected && this.#load()
    );
  }

  show(route) {
    const kind = route.get("kind");
    if (this.kinds.includes(kind)) this.kind = kind;
    this.#load();
  }

  key(key, isShift) {
    return this.#open && this.workspace.key(key, isShift);
  }

  #choose(kind) {
    this.kind = kind;
    this.#load();
  }

  async #load() {
    this.#request?.abort();
    const request = new AbortController();
    this.#request = request;
    this.#open = false;
    this.tabs.forEach((tab, i) => tab.setAttribute("aria-pressed", String(this.kinds[i] === this.kind)));
    replaceRoute("queue", { kind: this.kind, blind: store.blind });
    this.text.textContent = QUEUES[this.kind].text;
    if (store.blind && QUEUES[this.kind].reveals) {
      fill(this.body, blindBox("This queue"));
      return;
    }
    fill(this.body, h("p", { class: "state" }, "Choosing figures …"));
    try {
      const answer = await getSlowly(
        "/queue", { kind: this.kind, rater: store.rater, blind: store.blind, limit: this.limit.value }, request.signal
      );
      this.#reasons = answer.reason ?? {};
      this.text.textContent = answer.note || QUEUES[this.kind].text;
      this.#open = true;
      fill(this.body, this.reason, this.workspace.element);
      this.workspace.setList(FigureList.of(answer.figures.map(dress)));
      this.workspace.grid.element.focus({ preventScroll: true });
    } catch (error) {
      if (request.signal.aborted) return;
      if (!(error instanceof RefusedError) && !(error instanceof OfflineError)) throw error;
      fill(
        this.body,
        stateBox(
          "The queue could not be loaded", error.message, button("Try again", () => this.#load(), { name: "reload" })
        )
      );
    }
  }

  #moved() {
    const { figure } = this.workspace;
    this.reason.textContent = (!store.blind && figure && this.#reasons[figure.index]) || "";
    this.reason.hidden = !this.reason.textContent;
  }
}
