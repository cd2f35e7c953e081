/** Consensus of the raters: majority, ties, kappa, each rater compared with the others. */

import { OfflineError, RefusedError, get } from "./api.js";
import { button, fill, fixed, h, icon, percent, stateBox, whole } from "./dom.js";
import { DECISIONS, decisionOf } from "./names.js";
import { blindBox } from "./parts.js";
import { replaceRoute } from "./route.js";
import { store } from "./store.js";
import { symbol } from "./card.js";

const tile = (value, text, kind = null, small = null) => h(
  "div", { class: kind ? `tile coloured is-${kind}` : "tile" }, h("b", {}, value),
  kind && icon(decisionOf(kind).icon), kind && " ", text, small && h("div", {}, h("small", {}, small))
);

function table(titles, rows, caption) {
  const head = h("thead", {}, h("tr", {}, titles.map((title) => h("th", { scope: "col" }, title))));
  const cells = (row) => row.map((cell, i) => (i ? h("td", {}, cell) : h("th", { scope: "row" }, cell)));
  const body = h("tbody", {}, rows.map((row) => h("tr", {}, cells(row))));
  return h("div", { class: "scrolls" }, h("table", { "aria-label": caption }, head, body));
}

export class ConsensusView {
  #request = null;

  constructor() {
    this.body = h("div", { class: "page" });
    this.element = h("div", { class: "view" }, this.body);
    for (const event of ["blind", "rater"]) store.addEventListener(
      event, () => this.element.isConnected && this.#load()
    );
  }

  show() {
    replaceRoute("consensus", { blind: store.blind });
    this.#load();
  }

  key() {
    return false;
  }

  async #load() {
    this.#request?.abort();
    const request = new AbortController();
    this.#request = request;
    if (store.blind) {
      fill(this.body, blindBox("The consensus"));
      return;
    }
    if (!this.body.childElementCount) fill(this.body, h("p", { class: "state" }, "Counting …"));
    try {
      const [consensus, raters, rates] = await Promise.all(
        ["/consensus", "/raters", "/rates"].map((path) => get(path, {}, request.signal))
      );
      this.#show(consensus, raters, rates.whole);
    } catch (error) {
      if (request.signal.aborted) return;
      if (!(error instanceof RefusedError) && !(error instanceof OfflineError)) throw error;
      fill(
        this.body,
        stateBox(
          "The consensus could not be read", error.message,
          button("Try again", () => this.#load(), { name: "reload" })
        )
      );
    }
  }

  #show(consensus, raters, total) {
    const { figures } = store.session;
    if (!raters.length) {
      fill(
        this.body,
        stateBox(
          "No rater yet",
          "Choose a name at the top right and decide on some figures; a consensus needs a second rater."
        )
      );
      return;
    }
    const { majority, ties } = consensus;
    const two = consensus.figures_with_two;
    const sections = [
      h("section", { "aria-labelledby": "c-agree" },
        h("h2", { id: "c-agree" }, "Agreement"),
        h("div", { class: "tiles-row" },
          tile(whole(two), "figures with two raters or more"),
          tile(
            fixed(consensus.fleiss_kappa, 2), "Fleiss' kappa", null,
            "1: full agreement; 0: agreement expected by chance"
          ),
          tile(whole(consensus.settled ?? 0), "settled by arbitration"),
          tile(
            whole(ties), ties === 1 ? "tie" : "ties", null,
            [`evenly split, of ${whole(consensus.disputed)} figures on which raters differ. `, h("a", { href: "#arbitration" }, "Settle them")]
          )),
        consensus.pairs.length > 1 && h(
          "p", { class: "faint" },
          "Fleiss' kappa is over all raters; the kappas of pairs below use the figures that both decided, so they can differ from it."
        )),
      h("section", { "aria-labelledby": "c-majority" },
        h("h2", { id: "c-majority" }, "Majority"),
        Number.isFinite(consensus.rate.value) && h(
          "p", {}, h("b", {}, `${fixed(100 * consensus.rate.value, 1)} % atypical`),
          ` by consensus (95 % interval ${fixed(100 * consensus.rate.low, 1)} to ${fixed(100 * consensus.rate.high, 1)} %). `,
          h("a", { href: "#files" }, "Final report")
        ),
        total && total.by_model > 0 && [
          h("p", { class: "whole" }, total.text),
          h("p", { class: "faint" }, total.notes.join(" "))
        ],
        h(
          "div", { class: "tiles-row" },
          DECISIONS.map(({ name, title }) => tile(whole(majority[name] ?? 0), title, name))
        )),
      h("section", { "aria-labelledby": "c-raters" },
        h("h2", { id: "c-raters" }, "Raters"),
        table(["rater", "decided", "share", ...DECISIONS.map((one) => one.title.toLowerCase())],
          raters.map(
            (rater) => [
              rater.name, whole(rater.decided), percent(rater.decided, figures),
              ...DECISIONS.map(({ name, title }) => [symbol(name, title), " ", whole(rater.counts[name] ?? 0)])
            ]
          ), "Decisions of each rater")),
    ];
    if (consensus.against_others.length) {
      sections.push(h("section", { "aria-labelledby": "c-others" },
        h("h2", { id: "c-others" }, "Each rater against the others"),
        h(
          "p", { class: "faint" },
          "The reference is the majority of the other raters; their ties are left out. Atypical is the positive class."
        ),
        table(["rater", "compared", "ties left out", "sensitivity", "specificity", "balanced accuracy"],
          consensus.against_others.map(
            (row) => [
              row.rater, whole(row.compared), whole(row.ties), fixed(row.sensitivity), fixed(row.specificity),
              fixed(row.balanced_accuracy)
            ]
          ), "Each rater against the majority of the others")));
    }
    if (consensus.pairs.length) {
      sections.push(h("section", { "aria-labelledby": "c-pairs" },
        h("h2", { id: "c-pairs" }, "Pairs"),
        table(
          ["pair", "figures of both", "Cohen's kappa"],
          consensus.pairs.map(
            (pair) => [`${pair.first} and ${pair.second}`, whole(pair.figures), fixed(pair.kappa, 2)]
          ),
          "Cohen's kappa of every pair of raters"
        )));
    }
    fill(this.body, sections);
  }
}
