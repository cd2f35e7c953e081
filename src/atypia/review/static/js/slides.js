/** The slide view: figures at their positions on the slide. */

import { OfflineError, RefusedError, get } from "./api.js";
import { cropBox, describe, showCrop } from "./card.js";
import { announce, button, fill, h, icon, stateBox, toast, whole } from "./dom.js";
import { noteDialog } from "./dialogs.js";
import { CALLS, DECISIONS } from "./names.js";
import { Overlay } from "./overlay.js";
import { decisionButtons, lookControls, modelSection, noteSection, opinionsSection, originSection, tagSection } from "./parts.js";
import { addFigure, decide, dress, figureNow, toggleTag, undo } from "./review.js";
import { replaceRoute } from "./route.js";
import { scaleBar } from "./scope.js";
import { store } from "./store.js";
import { ViewerError, goTo, makeViewer, placement } from "./viewer.js";

const STEPS = {
  all: ["every figure", () => true],
  undecided: ["undecided figures", (figure) => !figure.decision],
  atypical: ["figures called atypical", (figure) => figure.call === "atypical"],
  uncertain: ["figures called uncertain", (figure) => figure.call === "uncertain"],
};
const REVEALING = ["atypical", "uncertain"];
const CROP_PX = 192;

const isTrouble = (error) => error instanceof OfflineError || error instanceof RefusedError;

export class SlidesView {
  #viewer = null;
  #figures = [];
  #current = null;
  #full = null;
  /** The figure just decided, until another is chosen: T writes its note. */
  #decided = null;
  #slide = null;
  #run = 0;

  constructor() {
    this.tiles = h("div", { class: "tiles" });
    this.canvas = h("canvas", { class: "overlay", "aria-hidden": "true" });
    this.overlay = new Overlay(this.canvas, () => placement(this.#viewer));
    this.bar = scaleBar();
    this.legend = h("div", { class: "legend" });
    this.trouble = h("div", { class: "state", role: "alert", hidden: true });
    this.stage = h(
      "div", { class: "stage", role: "application", "aria-label": "Slide", tabindex: "0" },
      this.tiles, this.bar.element,
      h("div", { class: "zooming" },
        button("", () => this.#zoom(1.5), { name: "plus", label: "Zoom in (+)" }),
        button("", () => this.#zoom(1 / 1.5), { name: "minus", label: "Zoom out (−)" }),
        button("", () => this.#viewer?.viewport.goHome(), { name: "fit", label: "Whole slide (0)" }),
        button("", () => this.#near(), { name: "target", label: "Zoom to the figure (Enter)" })),
    );
    this.choose = h("select", { "aria-label": "Slide", on: { change: () => this.#open(Number(this.choose.value)) } });
    this.steps = h("select", { "aria-label": "Step through", on: { change: () => this.#showSide() } });
    this.place = h("span", { class: "number faint" });
    this.adding = button(
      "Add a missed mitosis", () => this.#startAdding(),
      { name: "plus", key: "m", title: "The next click on the slide adds a figure there (M); Esc ends it" }
    );
    this.adding.setAttribute("aria-pressed", "false");
    this.buttons = decisionButtons((decision) => this.decide(decision));
    this.twins = [
      ["rgb", "stained"], ["hematoxylin", "hematoxylin"]
    ].map(([view, title]) => ({ view, box: cropBox(), title }));
    this.look = h("section", {}, h("h3", {}, "Display"), lookControls({ withStain: false }));
    this.side = h("aside", { class: "side", "aria-label": "Current figure" });
    this.body = h("div", { class: "slides" }, this.stage, this.side);
    this.element = h(
      "div", { class: "view" },
      h("div", { class: "bar" }, h("label", {}, h("span", { class: "word" }, "Slide"), this.choose), h(
        "label", {}, h("span", { class: "word" }, "Step through"), this.steps
      ), this.adding, h("span", { class: "grow" }), this.place,
        h("span", { class: "joined" },
          button("", () => this.step(-1), { name: "left", label: "Previous figure (←)" }),
          button("", () => this.step(1), { name: "right", label: "Next figure (→)" }))),
      this.trouble, this.legend, this.body,
    );
    store.addEventListener("figure", ({ detail }) => this.#patch(detail.index, detail.patch));
    store.addEventListener(
      "undone",
      ({ detail }) => this.#figures.some((one) => one.index === detail.index) && this.element.isConnected && this.#select(detail.index, false)
    );
    for (const event of ["rater", "blind", "imported"]) {
      store.addEventListener(event, () => {
        if (this.element.isConnected && this.#slide !== null) this.#reread();
        else this.#slide = null;
      });
    }
  }

  async show(route) {
    const run = (this.#run += 1);
    const wanted = Number(route.get("slide") ?? -1);
    const index = route.get("figure") === null ? null : Number(route.get("figure"));
    this.#trouble(null);
    try {
      this.all = await get("/slides");
      if (run !== this.#run) return;
      if (!this.all.length) {
        this.#trouble("There are no slides", "The opened data has only crops. Give slides with --slides FOLDER.");
        return;
      }
      fill(
        this.choose,
        this.all.map(
          (one) => h(
            "option", { value: one.slide, disabled: one.reason !== null, title: one.reason },
            `${one.name} (${one.reason === null ? whole(one.figures) : "cannot be read"})`
          )
        )
      );
      const readable = this.all.filter((one) => one.reason === null);
      const first = [
        (one) => one.slide === wanted, (one) => one.slide === this.#slide?.slide, (one) => one.figures > 0, () => true
      ].map((test) => readable.find(test)).find(Boolean);
      if (!first) {
        this.#trouble("No slide can be read", this.all[0].reason, () => this.show(route));
        return;
      }
      if (this.#slide?.slide === first.slide && this.#viewer) {
        this.choose.value = String(first.slide);
        if (index !== null) this.#select(index, true);
        else this.#showSide();
      } else await this.#open(first.slide, index);
      this.stage.focus({ preventScroll: true });
    } catch (error) {
      if (!isTrouble(error)) throw error;
      this.#trouble("The slides could not be read", error.message, () => this.show(route));
    }
  }

  #trouble(title, text = "", again = null) {
    this.trouble.hidden = title === null;
    this.body.hidden = title !== null;
    if (title !== null) fill(
      this.trouble, stateBox(title, text, again && button("Try again", again, { name: "reload" }))
    );
  }

  async #open(slide, index = null) {
    this.#slide = this.all.find((one) => one.slide === slide);
    this.choose.value = String(slide);
    this.#figures = this.overlay.figures = [];
    this.#current = this.#full = null;
    this.#showSide();
    try {
      await this.#prepare();
      await this.#read();
    } catch (error) {
      if (!isTrouble(error) && !(error instanceof ViewerError)) throw error;
      this.#slide = null;
      this.#trouble("The slide could not be opened", error.message, () => {
        this.#trouble(null);
        this.#open(slide, index);
      });
      return;
    }
    const opened = () => {
      if (index !== null) this.#select(index, true);
      else if (this.#figures.length) this.#select(this.#figures[0].index, false, false);
    };
    this.#viewer.addOnceHandler("open", opened);
    this.#viewer.open(`/slides/${slide}.dzi`);
  }

  async #prepare() {
    if (this.#viewer) return;
    this.#viewer = await makeViewer(this.tiles);
    this.#viewer.canvas.append(this.canvas); // below the navigator
    for (const event of [
      "update-viewport", "animation", "resize", "open"
    ]) this.#viewer.addHandler(event, () => this.#drawn());
    this.#viewer.addHandler(
      "open-failed",
      () => this.#trouble(
        "The slide could not be opened", "The server does not return its tiles.", () => this.#open(this.#slide.slide)
      )
    );
    this.#viewer.addHandler("canvas-click", (event) => {
      if (!event.quick) return;
      if (this.stage.classList.contains("adding")) {
        this.#add(event.position);
        return;
      }
      const figure = this.overlay.hit(event.position.x, event.position.y);
      if (figure) this.#select(figure.index, false, false);
      this.stage.focus({ preventScroll: true });
    });
  }

  #startAdding(isOn = !this.stage.classList.contains("adding")) {
    this.stage.classList.toggle("adding", isOn);
    this.adding.setAttribute("aria-pressed", String(isOn));
    if (isOn) announce("Click on the mitosis that is missing.");
    this.stage.focus({ preventScroll: true });
  }

  async #add({ x, y }) {
    const place = placement(this.#viewer);
    this.#startAdding(false);
    if (!place) return;
    const [x_px, y_px] = [(x - place.x) / place.scale, (y - place.y) / place.scale];
    const slide = this.#slide;
    const figure = await addFigure(slide.slide, Math.max(0, x_px), Math.max(0, y_px));
    if (!figure || this.#slide !== slide) return;
    await this.#reread();
    await this.#select(figure.index, false, false);
    toast("Added. Now decide on it; Z takes it back.");
  }

  async #read() {
    const figures = await get(`/slides/${this.#slide.slide}/figures`, { rater: store.rater, blind: store.blind });
    this.#figures = this.overlay.figures = figures.map(dress);
    this.#legend();
    this.overlay.plan();
  }

  async #reread() {
    this.#decided = null;
    try {
      await this.#read();
      const decided = this.#decided; // while the figures were being read
      if (this.#current !== null) this.#select(this.#current, false, false);
      if (decided) {
        this.#decided = decided;
        this.#showSide();
      }
    } catch (error) {
      if (!isTrouble(error)) throw error;
      this.#slide = null;
      this.#trouble("The figures could not be read", error.message, () => this.show({ get: () => null }));
    }
  }

  #drawn() {
    this.overlay.draw();
    const place = placement(this.#viewer);
    this.bar.set(place && this.#slide?.mpp ? place.scale / this.#slide.mpp : NaN);
    this.#clear(place);
  }

  // The overview steps aside where it would cover the current figure.
  #clear(place) {
    const figure = this.#find(this.#current);
    const map = this.#viewer?.navigator?.element;
    if (!map || !figure || !place) return;
    const [stage, box] = [this.stage.getBoundingClientRect(), map.getBoundingClientRect()];
    const [x, y, half] = [
      stage.left + place.x + figure.x_px * place.scale, stage.top + place.y + figure.y_px * place.scale,
      Math.max(12, (figure.side_px * place.scale) / 2)
    ];
    const isUnder = x + half > box.left && x - half < box.right && y + half > box.top && y - half < box.bottom;
    map.classList.toggle("aside", isUnder);
  }

  #legend() {
    const kinds = new Set(this.#figures.map((figure) => figure.decision ?? figure.call));
    const entries = [
      ...Object.entries(CALLS).map(([name, call]) => [name, call.title]),
      ...DECISIONS.map((one) => [one.name, one.title.toLowerCase()])
    ];
    const titles = new Map(entries.filter(([name]) => kinds.has(name)));
    const marks = {
      atypical: "triangle", normal: "circle", uncertain: "diamond", unsure: "diamond", "not-mitosis": "square",
      refused: "cross"
    };
    fill(
      this.legend,
      [...titles].map(
        ([name, title]) => h("span", {}, h("span", { class: `symbol is-${name}` }, icon(marks[name])), title)
      ),
      titles.size > 0 && h("span", { class: "faint" }, "outline: the model's call; filled: your decision; white ring: they differ")
    );
    this.legend.hidden = titles.size === 0;
    const before = this.steps.value;
    fill(
      this.steps,
      Object.entries(STEPS).filter(([name]) => !REVEALING.includes(name) || (!store.blind && kinds.has(name))).map(([name, [title]]) => h("option", { value: name }, title))
    );
    this.steps.value = [...this.steps.options].some((option) => option.value === before) ? before : "all";
  }

  #find(index) {
    return this.#figures.find((figure) => figure.index === index) ?? null;
  }

  /** Makes a figure the current one; `close` zooms to it, `move` brings it into view. */
  async #select(index, close, move = true) {
    const figure = this.#find(index);
    if (!figure) return;
    this.#decided = null;
    this.#current = this.overlay.current = index;
    this.#full = this.#full?.index === index ? this.#full : null;
    if (move || close) goTo(this.#viewer, figure, close);
    this.overlay.plan();
    this.#showSide();
    replaceRoute("slides", { slide: this.#slide.slide, figure: index, blind: store.blind });
    try {
      const full = dress(await get(`/figures/${index}`, { rater: store.rater, blind: store.blind }));
      if (this.#current !== index) return;
      this.#full = full;
      this.#showSide();
      announce(describe(full));
    } catch (error) {
      if (!isTrouble(error)) throw error;
    }
  }

  #patch(index, changes) {
    const figure = this.#find(index);
    if (!figure) return;
    Object.assign(figure, changes);
    if (this.#full?.index === index) this.#full = { ...this.#full, ...changes };
    if (this.#decided?.index === index) Object.assign(this.#decided, changes);
    this.#legend();
    this.overlay.plan();
    if (this.element.isConnected) this.#showSide();
  }

  #showSide() {
    const at = this.#figures.findIndex((figure) => figure.index === this.#current);
    const figure = this.#full ?? this.#figures[at] ?? null;
    const decided = this.#figures.filter((one) => one.decision).length;
    this.place.textContent = this.#figures.length ? `${at >= 0 ? whole(at + 1) : "–"} of ${whole(this.#figures.length)}, ${whole(decided)} decided` : "";
    this.buttons.set(figure?.decision ?? null, figure !== null);
    if (!figure) {
      fill(
        this.side,
        h(
          "p", { class: "faint" },
          this.#figures.length ? "Choose a figure on the slide." : "This slide has no figures."
        ),
        this.look
      );
      return;
    }
    const focused = this.side.contains(document.activeElement) ? document.activeElement : null;
    for (const { view, box } of this.twins) showCrop(box, figure.index, view, CROP_PX);
    fill(
      this.side,
      h(
        "section", { class: "first" }, h("h3", {}, store.rater ? `Decision of ${store.rater}` : "Decision"),
        this.buttons.element
      ),
      h("div", { class: "pair first" }, button("Undo", () => undo(), { name: "undo", key: "z" })),
      h(
        "div", { class: "twins" },
        this.twins.map(({ box, title }) => h("figure", {}, box, h("figcaption", {}, title)))
      ),
      this.#full && tagSection(this.#full, (name) => toggleTag(this.#full, name)),
      noteSection(figure, (isCurrent) => this.note(isCurrent), this.#decided),
      modelSection(figure), opinionsSection(figure), this.look,
      this.#full && originSection({ ...this.#full, slide: null }),
    );
    if (focused?.isConnected) focused.focus({ preventScroll: true });
  }

  async decide(decision) {
    const figure = this.#full ?? this.#find(this.#current);
    if (!figure || !(await decide(figure, decision))) return;
    if (!store.preferences.advance || decision === null || this.#current !== figure.index) return;
    this.step(1);
    if (this.#current === figure.index) return;
    this.#decided = { ...figure, decision };
    this.#showSide();
  }

  /** Gives a tag to the figure just decided, or to the current one. */
  async tag(name) {
    const figure = this.#decided && "tags" in this.#decided ? this.#decided : this.#full;
    if (figure) await toggleTag(figure, name);
  }

  /** Writes the note of the figure just decided, or of the current one; see {@link Workspace.note}. */
  async note(isCurrent = false) {
    const decided = isCurrent ? null : this.#decided;
    // The present note must be known before it is changed.
    const figure = !decided ? this.#full : "note" in decided ? decided : await figureNow(decided.index);
    if (figure) noteDialog(figure, decided && this.#full);
  }

  /** Goes to the next figure of the selected kind. */
  step(count) {
    const isWanted = STEPS[this.steps.value]?.[1] ?? STEPS.all[1];
    const from = this.#figures.findIndex((figure) => figure.index === this.#current);
    for (let i = from + count; i >= 0 && i < this.#figures.length; i += count) {
      if (isWanted(this.#figures[i])) {
        this.#select(this.#figures[i].index, false);
        return;
      }
    }
    announce("no further figure");
  }

  #near() {
    const figure = this.#find(this.#current);
    if (figure) goTo(this.#viewer, figure, true);
  }

  #zoom(factor) {
    this.#viewer?.viewport.zoomBy(factor).applyConstraints();
  }

  /** Keys of the slide view; returns whether it used the key. */
  key(key) {
    const actions = {
      ArrowLeft: () => this.step(-1), ArrowRight: () => this.step(1), ArrowUp: () => this.step(-1), ArrowDown: () => this.step(1),
      m: () => this.#startAdding(), M: () => this.#startAdding(), Escape: () => this.#startAdding(false),
      Enter: () => this.#near(), " ": () => this.#near(),
      "+": () => this.#zoom(1.5), "=": () => this.#zoom(1.5), "-": () => this.#zoom(1 / 1.5), 0: () => this.#viewer?.viewport.goHome(),
    };
    if (!(key in actions) || this.body.hidden) return false;
    actions[key]();
    return true;
  }
}
